"""One connected socket: who it is, and what it has had.

Owns that record alone. Who fills it: `rooms.py` the rooms, `delivery.py` the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from harmonia_lab.protocol.events import Family
    from harmonia_lab.server.auth import Identity
    from harmonia_lab.server.broadcast import Message

__all__ = ["Client", "Lane"]

Lane = tuple["Family", str]
"""family, generation id: what is numbered by itself."""


@dataclass(eq=False)
class Client:
    """sid, eio_sid: its ids in Socket.IO and Engine.IO. engine: Engine.IO's own socket. base_url: how it reached the
    server, for links.

    had: the last lifecycle event that it was sent, by lane. pending: progress that waits until it is idle, by lane.
    timers: end of its token. greeted: whether it had its `server-hello`.
    """

    sid: str
    eio_sid: str
    engine: Any
    who: Identity
    base_url: str
    rooms: set[str] = field(default_factory=set)
    had: dict[Lane, int] = field(default_factory=dict)
    pending: dict[Lane, Message] = field(default_factory=dict)
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    greeted: bool = False
