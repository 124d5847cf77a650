"""The whole protocol as plain data: every message, its JSON Schema and its meaning, read from the models themselves.

Owns that description, which `asyncapi.py`, `typescript.py` and `markdown.py` format. A test compares it with a stored
one, to show changes of the wire. A model is described by its docstring, a field by the string under it.
"""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.alias_generators import to_camel
from pydantic.json_schema import models_json_schema

from harmonia_lab.errors import CODES
from harmonia_lab.protocol import commands, events, job_events, metadata, models, snapshot, sound
from harmonia_lab.protocol.commands import COMMANDS, ErrorAck
from harmonia_lab.protocol.events import EVENTS
from harmonia_lab.protocol.wire_model import PROTOCOL_VERSION

__all__ = ["REF", "describe"]

REF = "#/components/schemas/"

_MODULES = (sound, metadata, models, job_events, events, snapshot, commands)
"""Where the protocol's models are defined."""

Schema = dict[str, Any]


def describe() -> dict[str, Any]:
    """Return {version, events, commands, schemas, errors}: messages by wire name, schemas by the model's name.

    events: {payload, delivery, family, description}. commands: {payload, bare, ack, description}; payload is None if
    there is none; bare: a string is accepted in its place. errors: {meaning, recoverable, recovery}.
    """
    acks = {command.ack for command in COMMANDS.values()} | {ErrorAck}
    outgoing = _schemas([*EVENTS.values(), *sorted(acks, key=lambda ack: ack.__name__)], "serialization")
    incoming = _schemas([command for command in COMMANDS.values() if command.payload], "validation")
    renamed = {name: f"{name}Input" for name in incoming if name in outgoing and incoming[name] != outgoing[name]}
    incoming = {renamed.get(name, name): _renamed(schema, renamed) for name, schema in incoming.items()}
    return {
        "version": PROTOCOL_VERSION,
        "events": {
            name: {
                "payload": _name_of(event),
                "delivery": event.delivery,
                "family": event.family,
                "description": _one_line(event.__doc__),
            }
            for name, event in EVENTS.items()
        },
        "commands": {
            name: {
                "payload": _name_of(command) if command.payload else None,
                "bare": getattr(command, "bare", False),
                "ack": command.ack.__name__,
                "description": _one_line(command.__doc__),
            }
            for name, command in COMMANDS.items()
        },
        "schemas": dict(sorted((outgoing | incoming).items())),
        "errors": {
            code.value: {"meaning": row.meaning, "recoverable": row.recoverable, "recovery": row.recovery}
            for code, row in CODES.items()
        },
    }


def _name_of(model: type[BaseModel]) -> str:
    """Return the model's name in the schemas: the guide's interfaces are called …Event."""
    name = model.__name__
    return name if model not in EVENTS.values() or name.endswith("Event") else f"{name}Event"


def _schemas(models: Iterable[type[BaseModel]], mode: Literal["serialization", "validation"]) -> dict[str, Schema]:
    models = list(models)
    _, top = models_json_schema([(model, mode) for model in models], by_alias=True, ref_template=REF + "{model}")
    renamed = {model.__name__: _name_of(model) for model in models}
    classes = {name: cls for module in _MODULES for name, cls in vars(module).items() if isinstance(cls, type)}
    found = {}
    for name, schema in top["$defs"].items():
        plain = _renamed(_plain(schema), renamed)
        if mode == "serialization":
            _as_sent(plain)
        _document(plain, classes[name])
        found[renamed.get(name, name)] = plain
    return found


def _plain(schema: Any) -> Any:
    """Return the schema without pydantic's generated titles, and without defaults, which the sender needn't know."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _plain(inner) for name, inner in value.items()} if key == "properties" else _plain(value)
        for key, value in schema.items()
        if key not in ("title", "default")
    }


def _renamed(schema: Any, names: dict[str, str]) -> Any:
    if isinstance(schema, list):
        return [_renamed(item, names) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: REF + names.get(value.removeprefix(REF), value.removeprefix(REF))
        if key == "$ref"
        else _renamed(value, names)
        for key, value in schema.items()
    }


def _as_sent(schema: Schema) -> None:
    """Make every field required that can't be None: we leave out fields that are None, and no others."""
    required = []
    for name, inner in schema.get("properties", {}).items():
        choices = [choice for choice in inner.get("anyOf", ()) if choice != {"type": "null"}]
        if len(choices) == len(inner.get("anyOf", ())):
            required.append(name)
        elif len(choices) == 1:
            del inner["anyOf"]
            inner.update(choices[0])
        else:
            inner["anyOf"] = choices
    if required:
        schema["required"] = required


def _document(schema: Schema, model: type[BaseModel]) -> None:
    """Describe the model by its docstring, and each field by the string under it, here or in a base class."""
    if model.__doc__:
        schema["description"] = _one_line(model.__doc__)
    for cls in reversed(model.__mro__):
        for field, text in _field_docstrings().get(cls.__name__, {}).items():
            schema["properties"][to_camel(field)]["description"] = text


@functools.cache
def _field_docstrings() -> dict[str, dict[str, str]]:
    """{class: {field: the string under it}}, of the class's own fields, from the modules' source.

    Pydantic's `use_attribute_docstrings` reads the same strings, but whenever the models are imported, which then takes
    380 ms of processor time instead of 240 (medians of 5). The descriptions are only needed here.
    """
    found: dict[str, dict[str, str]] = {}
    for module in _MODULES:
        for cls in ast.parse(inspect.getsource(module)).body:
            if isinstance(cls, ast.ClassDef):
                found[cls.name] = dict(filter(None, itertools.starmap(_field_docstring, itertools.pairwise(cls.body))))
    return found


def _field_docstring(field: ast.stmt, below: ast.stmt) -> tuple[str, str] | None:
    match field, below:
        case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
            return name, _one_line(text)
    return None


def _one_line(docstring: str | None) -> str:
    return " ".join((docstring or "").split())
