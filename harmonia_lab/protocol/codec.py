"""Convert a client's message (a name and plain JSON values) into its command, and an error into its acknowledgement.

`event_codec.py` has the events. Owns the validation of untrusted input: whatever a client sends becomes a `Command` or
raises `InvalidRequest`, never another error. Framing and sending are left to Socket.IO.
"""

from __future__ import annotations

import re
from typing import Any, cast

from pydantic import ValidationError

from harmonia_lab.errors import HarmoniaError, InvalidRequest
from harmonia_lab.protocol.commands import COMMANDS, Command, ErrorAck
from harmonia_lab.protocol.events import ErrorInfo
from harmonia_lab.protocol.models import MAX_FINDINGS, explain

__all__ = ["MAX_VALUES", "check_text", "decode", "error_ack"]

MAX_VALUES = 2000
"""Values in a command's payload. The largest command, a song with given metadata, has some 300."""

MAX_ITEM = 4000
"""Characters of a text in a list, such as a mood or a warning."""


_STRUCTURE = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[,\[{]', re.DOTALL)
"""Matches a whole string, or what stands before a value."""


def decode(name: str, *arguments: object) -> Command:
    """Return a client's command. arguments: those after the name, without the acknowledgement callback.

    Raises InvalidRequest, which names the field and its fault, and does not repeat the input.
    """
    model = COMMANDS.get(name)
    if model is None:
        raise InvalidRequest("There is no such message.", hint=f"Known: {', '.join(COMMANDS)}.")
    if len(arguments) > 1:
        raise InvalidRequest(f"{name} takes one payload, not {len(arguments)}.")
    for payload in arguments:
        _check_size(name, payload)
    if not model.payload:
        if arguments and arguments[0] is not None and not isinstance(arguments[0], dict):
            raise InvalidRequest(f"{name} takes no payload.")
        return cast("Command", model())
    try:
        return cast("Command", model.model_validate(arguments[0] if arguments else None))
    except ValidationError as error:
        fields = [".".join(map(str, item["loc"])) for item in error.errors(include_url=False)[:MAX_FINDINGS]]
        raise InvalidRequest(f"{name}: {explain(error)}", details={"fields": fields}) from None


def check_text(text: str) -> None:
    """Raise InvalidRequest for JSON of more than MAX_VALUES values, before it is parsed: that would take a second for a
    megabyte of them. To see it takes some milliseconds at most."""
    if sum(map(text.count, ",[{")) <= MAX_VALUES:
        return  # commas in a narrative count here, too
    found = 0
    for match in _STRUCTURE.finditer(text):
        found += match[0] in ",[{"
        if found > MAX_VALUES:
            raise InvalidRequest(
                f"A message has more than {MAX_VALUES} values.", hint="Leave out what it doesn't need."
            )


def _check_size(name: str, payload: object) -> None:
    """Raise InvalidRequest for more than MAX_VALUES values, each of which could make an error of its own when it is
    validated, or for a long text in a list: the models limit all others."""
    count, waiting = 0, [payload]
    while waiting:
        value = waiting.pop()
        inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
        count += len(inner)
        if count > MAX_VALUES:
            raise InvalidRequest(f"{name} has more than {MAX_VALUES} values.", hint="Leave out what it doesn't need.")
        if isinstance(value, list) and any(isinstance(item, str) and len(item) > MAX_ITEM for item in value):
            raise InvalidRequest(f"{name} has a text of more than {MAX_ITEM} characters in a list.", hint="Shorten it.")
        waiting.extend(inner)


def error_ack(error: HarmoniaError) -> dict[str, Any]:
    """Return the acknowledgement of a command that failed, as plain JSON values."""
    return ErrorAck(error=ErrorInfo.of(error)).to_wire()
