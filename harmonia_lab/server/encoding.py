"""Events and answers as bytes: Engine.IO packets, and the same as finished websocket frames.

Owns the encoding. An `EncodedMessage` is encoded once and sent to many sockets. `broadcast.py` sends it, and
`delivery.py` decides which sockets get which message.
"""

from __future__ import annotations

import functools
import json
import struct
from collections.abc import Sequence
from typing import Any

import engineio
import socketio

from harmonia_lab.protocol.event_codec import encode
from harmonia_lab.protocol.events import AudioPreview, WireEvent
from harmonia_lab.protocol.models import WireModel

__all__ = ["EncodedMessage"]

TEXT, BINARY = 0x81, 0x82
"""First byte of a whole, uncompressed websocket frame (RFC 6455, 5.2)."""


class EncodedMessage:
    """One event or acknowledgement, as packets and as frames. Each form is made at its first use."""

    def __init__(self, text: str, *attachments: bytes) -> None:
        """text: the Socket.IO packet. attachments: the binary parts that the packet refers to."""
        self._text, self._attachments = text, attachments

    @classmethod
    def of(cls, event: WireEvent) -> EncodedMessage:
        """Encode `event`. Without an attachment, this skips the library's encoder and takes less than half its time."""
        if isinstance(event, AudioPreview):
            return cls.event(*encode(event))
        return cls(f'{socketio.packet.EVENT}["{event.name}",{event.to_json()}]')

    @classmethod
    def event(cls, name: str, payload: dict[str, Any]) -> EncodedMessage:
        encoded = socketio.packet.Packet(socketio.packet.EVENT, data=[name, payload], namespace="/").encode()
        return cls(*encoded) if isinstance(encoded, list) else cls(encoded)

    def replaced(self, text: str, by: str) -> EncodedMessage:
        """Return the message with a string of its JSON, all of it `text`, replaced by the string `by`."""
        return EncodedMessage(self._text.replace(json.dumps(text), json.dumps(by)), *self._attachments)

    @classmethod
    def ack(cls, ack_id: int, answer: WireModel) -> EncodedMessage:
        return cls(f"{socketio.packet.ACK}{ack_id}[{answer.to_json()}]")

    def prepared(self) -> EncodedMessage:
        """Return the message with its frames made: in the thread that calls this."""
        _ = self.frames
        return self

    @property
    def size(self) -> int:
        """Bytes, text counted by characters."""
        return len(self._text) + sum(map(len, self._attachments))

    @functools.cached_property
    def packets(self) -> Sequence[engineio.packet.Packet]:
        """Engine.IO packets: the text, then its attachments."""
        return [engineio.packet.Packet(engineio.packet.MESSAGE, part) for part in (self._text, *self._attachments)]

    @functools.cached_property
    def frames(self) -> bytes:
        """The packets as unmasked websocket frames."""
        return _frame(f"{engineio.packet.MESSAGE}{self._text}") + b"".join(map(_frame, self._attachments))


def _frame(data: str | bytes) -> bytes:
    first, body = (TEXT, data.encode()) if isinstance(data, str) else (BINARY, data)
    size = len(body)
    if size < 126:
        return bytes((first, size)) + body
    if size < 1 << 16:
        return struct.pack("!BBH", first, 126, size) + body
    return struct.pack("!BBQ", first, 127, size) + body
