"""Convert between a server's event and its message: a name and plain JSON values.

Owns what a reader of events does with a name or a payload that it doesn't know. `codec.py` has the commands: who reads
events alone, such as the journal, needs none of their models.
"""

from __future__ import annotations

from typing import Any, cast

from pydantic import ValidationError

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.protocol.counts import GIVEN
from harmonia_lab.protocol.events import EVENTS, ServerEvent, WireEvent
from harmonia_lab.protocol.models import explain

__all__ = ["decode_event", "encode"]


def encode(event: WireEvent) -> tuple[str, dict[str, Any]]:
    """Return (wire name, payload). The payload is plain JSON values, but for `audio-preview`'s bytes."""
    return event.name, event.to_wire()


def decode_event(name: str, payload: object) -> ServerEvent:
    """Return a server's event, for a client. Raises InvalidRequest, also for an event of a newer protocol."""
    model = EVENTS.get(name)
    if model is None:
        raise InvalidRequest(f"There is no event {name[:80]!r} in this version of the protocol.")
    try:
        return cast("ServerEvent", model.model_validate(payload, context=GIVEN))
    except ValidationError as error:
        raise InvalidRequest(f"{name}: {explain(error)}") from None
