"""The protocol as a page to read: every message with its fields, units and class, and the table of error codes.

Owns the layout. The content comes from `schema.py`.
"""

from __future__ import annotations

from typing import Any

from harmonia_lab.protocol.events import ROOMS
from harmonia_lab.protocol.schema import REF, describe

__all__ = ["markdown_page"]

_HEAD = """\
# The wire protocol of Harmonia Lab, version {version}

Socket.IO, protocol 5 (clients 3 and 4), websocket or polling. The token goes into the handshake:
`io(url, {{auth: {{token}}}})`. Field names are camelCase; dates are ISO 8601 in UTC; fields that a client does not know
are to be ignored. Made by `harmonia protocol markdown`.

- **lifecycle** events are journalled, numbered by `seq` (1, 2, 3 … for each generation and family), and never dropped.
  After a gap, `join-generation {{generationId, afterSeq}}` sends the missing ones.
- **progress** events: only the latest matters, a slow client misses some; `tick` only grows.
- **preview** events are not journalled; a slow client misses some.
- **direct** events go to one connection and are about that connection.
"""


def markdown_page() -> str:
    """Return the page, ending with a line end."""
    protocol = describe()
    schemas = protocol["schemas"]
    parts = [_HEAD.format(version=protocol["version"]), "## Server → client\n"]
    used: dict[str, None] = {}
    for name, event in protocol["events"].items():
        rooms = ", ".join(f"`{room}`" for room in ROOMS.get(event["family"], ())) or "the connection"
        parts.append(f"### `{name}`\n\n{event['description']} *{event['delivery']}*; to {rooms}.\n")
        parts.append(_table(schemas[event["payload"]], used))
    refused = _link("ErrorAck", used)
    parts.append(
        f"## Client → server\n\nEach takes an acknowledgement callback, which gets the named answer or {refused}.\n"
    )
    for name, command in protocol["commands"].items():
        bare = " The bare id, as a string, is accepted too." if command["bare"] else ""
        parts.append(f"### `{name}`\n\n{command['description']}{bare} Answer: {_link(command['ack'], used)}.\n")
        if command["payload"]:
            parts.append(_table(schemas[command["payload"]], used))
    parts.append("## Types\n")
    done: set[str] = set()
    while rest := [name for name in used if name not in done]:
        for name in rest:
            done.add(name)
            about = schemas[name].get("description", "")
            parts.append(f"### {name}\n\n{about}\n\n{_table(schemas[name], used)}")
    parts.append(
        "## Error codes\n\n| code | meaning | can a retry help? | what the server tries by itself |\n|---|---|---|---|"
    )
    for code, row in protocol["errors"].items():
        parts.append(f"| `{code}` | {row['meaning']} | {'yes' if row['recoverable'] else 'no'} | {row['recovery']} |")
    return "\n".join(parts) + "\n"


def _table(schema: dict[str, Any], used: dict[str, None]) -> str:
    rows = ["| field | type | meaning |", "|---|---|---|"]
    for field, inner in schema.get("properties", {}).items():
        mark = "" if field in schema.get("required", []) else "?"
        rows.append(f"| `{field}{mark}` | {_type(inner, used)} | {inner.get('description', '')} |")
    return "\n".join([*rows, ""])


def _type(schema: dict[str, Any], used: dict[str, None]) -> str:
    if "$ref" in schema:
        return _link(str(schema["$ref"]).removeprefix(REF), used)
    if "const" in schema:
        return f"`{str(schema['const']).lower() if isinstance(schema['const'], bool) else schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_type(choice, used) for choice in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'], used)}"
    return " ".join(filter(None, [str(schema.get("format") or schema.get("type", "any")), _range(schema)]))


def _range(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
    if low is None and high is None:
        return ""
    if high is None or high >= 2**53 - 1:
        return f"{'>' if 'exclusiveMinimum' in schema else '≥'} {low}"
    return f"{low}…{high}"


def _link(name: str, used: dict[str, None]) -> str:
    used[name] = None
    return f"[{name}](#{name.lower()})"
