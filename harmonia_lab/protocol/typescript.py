"""The protocol as TypeScript: an interface for each payload, and the two event maps that type `socket.io-client`.

Owns the translation of JSON Schema, as far as `schema.py` uses it, into types. Dates are strings, as they arrive.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from typing import Any

from harmonia_lab.protocol.schema import REF, describe

__all__ = ["typescript_module"]

_HEAD = """\
// The wire protocol of Harmonia Lab, version {version}. Made by `harmonia protocol typescript`; not to be edited.
//
//   import {{ io, Socket }} from 'socket.io-client';
//   const socket: Socket<ServerToClientEvents, ClientToServerEvents> = io(url, {{ auth: {{ token }} }});
"""


_SERVER_EVENT = """\
/**
 * Any event with its name, by which its payload's type is known:
 * `socket.onAny((name, event) => { handle({ name, event } as ServerEvent); });`
 */
export type ServerEvent = {
  [Name in keyof ServerToClientEvents]: { name: Name; event: Parameters<ServerToClientEvents[Name]>[0] };
}[keyof ServerToClientEvents];
"""

_TYPED = {("ErrorInfo", "code"): "ErrorCode", ("JobFailedEvent", "code"): "ErrorCode"}
"""Fields that are plain text in the schema, since an older client must accept a newer server's codes."""


def typescript_module() -> str:
    """Return the source of a module without imports."""
    protocol = describe()
    parts = [_HEAD.format(version=protocol["version"])]
    parts.append(f"export const PROTOCOL_VERSION = {json.dumps(protocol['version'])};\n")
    parts.append("/** What `ErrorInfo.code` can be; a newer server may add to it. */")
    parts.append(f"export type ErrorCode =\n  | {_alternatives(map(json.dumps, protocol['errors']))};\n")
    parts += [_interface(name, schema) for name, schema in protocol["schemas"].items()]
    parts.append("export interface ServerToClientEvents {")
    for name, event in protocol["events"].items():
        parts.append(_comment(event["description"], 2) + f"  {json.dumps(name)}: (event: {event['payload']}) => void;")
    parts.append("}\n")
    parts.append("export interface ClientToServerEvents {")
    for name, command in protocol["commands"].items():
        payload = f"string | {command['payload']}" if command["bare"] else command["payload"]
        taken = f"payload: {payload}, " if payload else ""
        answer = f"ack?: (answer: {command['ack']} | ErrorAck) => void"
        parts.append(_comment(command["description"], 2) + f"  {json.dumps(name)}: ({taken}{answer}) => void;")
    parts.append("}\n")
    payloads = (event["payload"] for event in protocol["events"].values())
    parts.append("/** Any event's payload. */")
    parts.append(f"export type ServerEventPayload =\n  | {_alternatives(payloads)};\n")
    parts.append(_SERVER_EVENT)
    return "\n".join(parts)


def _alternatives(types: Iterable[str]) -> str:
    return "\n  | ".join(types)


def _interface(name: str, schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    lines = [_comment(schema.get("description", ""), 0) + f"export interface {name} {{"]
    for field, inner in schema.get("properties", {}).items():
        mark = "" if field in required else "?"
        lines.append(
            _comment(inner.get("description", ""), 2) + f"  {field}{mark}: {_TYPED.get((name, field)) or _type(inner)};"
        )
    return "\n".join([*lines, "}\n"])


def _type(schema: dict[str, Any]) -> str:
    match schema:
        case {"$ref": str(target)}:
            found = [target.removeprefix(REF)]
        case {"const": value}:
            found = [json.dumps(value)]
        case {"enum": values}:
            found = [json.dumps(value) for value in values]
        case {"anyOf": choices}:
            found = [_type(choice) for choice in choices]
        case {"type": "array", "items": items}:
            inner = _type(items)
            found = [f"({inner})[]" if "|" in inner else f"{inner}[]"]
        case {"type": "string", "format": "binary"}:
            found = ["ArrayBuffer"]
        case {"type": "object"}:
            values = schema.get("patternProperties", {}).values()
            found = [f"Record<string, {' | '.join(map(_type, values)) or 'unknown'}>"]
        case {"type": "integer"}:
            found = ["number"]
        case {"type": str(kind)}:
            found = [kind]
        case _:
            found = ["unknown"]
    return " | ".join(dict.fromkeys(found))


def _comment(text: str, indent: int) -> str:
    if not text:
        return ""
    pad = " " * indent
    lines = textwrap.wrap(text.replace("*/", "* /"), 110 - indent)
    if len(lines) == 1:
        return f"{pad}/** {lines[0]} */\n"
    return f"{pad}/**\n" + "".join(f"{pad} * {line}\n" for line in lines) + f"{pad} */\n"
