"""Between a message on the wire (a name and plain JSON values) and its model.

Owns the reading of what can't be trusted: whatever a client sends ends as a `Command` or as `InvalidRequest`, never as
another error. Framing and sending are Socket.IO's.
"""

from __future__ import annotations

from typing import Any, cast

from pydantic import ValidationError

from harmonia_lab.errors import HarmoniaError, InvalidRequest
from harmonia_lab.protocol.commands import COMMANDS, Command, ErrorAck
from harmonia_lab.protocol.events import EVENTS, ErrorInfo, ServerEvent, WireEvent
from harmonia_lab.protocol.models import MAX_FINDINGS, explain

__all__ = ["decode", "decode_event", "encode", "error_ack"]


def encode(event: WireEvent) -> tuple[str, dict[str, Any]]:
    """(wire name, payload). The payload is plain JSON values, but for `audio-preview`'s bytes."""
    return event.name, event.to_wire()


def decode(name: str, *arguments: object) -> Command:
    """What a client asks. arguments: what came after the name, without the acknowledgement callback.

    Raises InvalidRequest that names the field and its fault, without repeating what was sent.
    """
    model = COMMANDS.get(name)
    if model is None:
        raise InvalidRequest("There is no such message.", hint=f"Known: {', '.join(COMMANDS)}.")
    if len(arguments) > 1:
        raise InvalidRequest(f"{name} takes one payload, not {len(arguments)}.")
    if not model.payload:
        if arguments and arguments[0] is not None and not isinstance(arguments[0], dict):
            raise InvalidRequest(f"{name} takes no payload.")
        return cast("Command", model())
    try:
        return cast("Command", model.model_validate(arguments[0] if arguments else None))
    except ValidationError as error:
        fields = [".".join(map(str, item["loc"])) for item in error.errors(include_url=False)[:MAX_FINDINGS]]
        raise InvalidRequest(f"{name}: {explain(error)}", details={"fields": fields}) from None


def decode_event(name: str, payload: object) -> ServerEvent:
    """What a server says, for the clients among us. Raises InvalidRequest, also for an event that is newer than we."""
    model = EVENTS.get(name)
    if model is None:
        raise InvalidRequest(f"There is no event {name[:80]!r} in this version of the protocol.")
    try:
        return cast("ServerEvent", model.model_validate(payload))
    except ValidationError as error:
        raise InvalidRequest(f"{name}: {explain(error)}") from None


def error_ack(error: HarmoniaError) -> dict[str, Any]:
    """The answer to a command that failed, as plain values."""
    return ErrorAck(error=ErrorInfo.of(error)).to_wire()
