"""The whole protocol as plain data: every message, its JSON Schema and its meaning, read from the models themselves.

Owns that description, from which `asyncapi.py`, `typescript.py` and `markdown.py` are made, and which a test compares
with the last one to see how the wire has changed. Field descriptions come from the docstrings: `field: text.`
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.alias_generators import to_camel
from pydantic.json_schema import models_json_schema

from harmonia_lab.errors import CODES
from harmonia_lab.protocol.commands import COMMANDS, PROTOCOL_VERSION, ErrorAck
from harmonia_lab.protocol.events import EVENTS

__all__ = ["REF", "describe"]

REF = "#/components/schemas/"

Schema = dict[str, Any]


def describe() -> dict[str, Any]:
    """{version, events, commands, schemas, errors}, all by wire name but the schemas, which go by the model's.

    events: {payload, delivery, family, description}. commands: {payload, bare, ack, description}; payload is None where
    there is none, bare says that a string may stand for it. errors: {meaning, recoverable, recovery}.
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
                "description": _prose(event)[0],
            }
            for name, event in EVENTS.items()
        },
        "commands": {
            name: {
                "payload": _name_of(command) if command.payload else None,
                "bare": getattr(command, "bare", False),
                "ack": command.ack.__name__,
                "description": _prose(command)[0],
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
    """The guide's interfaces are called …Event."""
    name = model.__name__
    return name if model not in EVENTS.values() or name.endswith("Event") else f"{name}Event"


def _schemas(models: Iterable[type[BaseModel]], mode: Literal["serialization", "validation"]) -> dict[str, Schema]:
    models = list(models)
    _, top = models_json_schema([(model, mode) for model in models], by_alias=True, ref_template=REF + "{model}")
    renamed = {model.__name__: _name_of(model) for model in models}
    by_name = {model.__name__: model for model in _reachable(models)}
    found = {}
    for name, schema in top["$defs"].items():
        plain = _renamed(_plain(schema), renamed)
        if mode == "serialization":
            _as_sent(plain)
        _document(plain, by_name[name])
        found[renamed.get(name, name)] = plain
    return found


def _reachable(models: Iterable[type[BaseModel]]) -> set[type[BaseModel]]:
    found: set[type[BaseModel]] = set()

    def visit(thing: Any) -> None:
        if isinstance(thing, type) and issubclass(thing, BaseModel):
            if thing not in found:
                found.add(thing)
                for field in thing.model_fields.values():
                    visit(field.annotation)
        else:
            for inner in getattr(thing, "__args__", ()):
                visit(inner)

    for model in models:
        visit(model)
    return found


def _plain(schema: Any) -> Any:
    """Without pydantic's generated titles, and without defaults, which are ours and not the sender's to know."""
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
    """What we send has every field that is not None: null never travels, and a default is no reason to leave out."""
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
    summary, fields = _prose(model)
    schema.pop("description", None)
    if summary:
        schema["description"] = summary
    for name, inner in schema.get("properties", {}).items():
        text = fields.get(name)
        if text:
            inner["description"] = text


def _prose(model: type[BaseModel]) -> tuple[str, dict[str, str]]:
    """(what the model is, {wire name of a field: what it means}) from its docstring and those that it inherits."""
    summary = ""
    fields: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if not (issubclass(cls, BaseModel) and cls.__module__.startswith("harmonia_lab") and "__doc__" in vars(cls)):
            continue
        text = " ".join((vars(cls)["__doc__"] or "").split())
        names = "|".join(model.model_fields)
        pieces = re.split(rf"(?:^|(?<=\. ))((?:{names})(?:, (?:{names}))*): ", text) if names else [text]
        summary = pieces[0].strip() if cls is model else summary
        for listed, meaning in zip(pieces[1::2], pieces[2::2], strict=True):
            said = meaning.strip()
            fields |= {to_camel(name): said[0].upper() + said[1:] for name in listed.split(", ")}
    return summary, fields
