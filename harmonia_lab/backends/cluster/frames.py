"""What passes between a worker and its lab: a JSON object, and bytes beside it.

Owns the bytes of a message, and its largest sizes. What the messages mean is said in `line.py`.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping
from typing import Any

__all__ = ["BEAT_S", "CHUNK_BYTES", "SILENCE_S", "Frame", "pack", "read"]

_SIZES = struct.Struct(">II")
_BODY_BYTES = 64 * 2**20
CHUNK_BYTES = 2**20
"""Bytes of a file in one message."""
BEAT_S = 1.0
SILENCE_S = 30.0
"""Seconds without a byte after which one end takes the other for lost. A worker sends a beat, an empty message, every
`BEAT_S`, and the lab sends it back."""

Frame = tuple[dict[str, Any], bytes]


def pack(head: Mapping[str, Any], body: bytes = b"") -> bytes:
    text = json.dumps(head, ensure_ascii=False, default=str).encode()
    return _SIZES.pack(len(text), len(body)) + text + body


async def read(reader: asyncio.StreamReader, most_bytes: int = _BODY_BYTES) -> Frame | None:
    """Return the next message; None at the connection's end, or where what comes is no message. most_bytes: of each
    of its parts."""
    try:
        head_size, body_size = _SIZES.unpack(await reader.readexactly(_SIZES.size))
        if max(head_size, body_size) > most_bytes:
            return None
        head = json.loads(await reader.readexactly(head_size))
        return (head, await reader.readexactly(body_size)) if isinstance(head, dict) else None
    except (OSError, EOFError, ValueError):
        return None
