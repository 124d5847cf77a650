"""One connected socket: its user, its rooms, and the events that it was sent.

Owns that record alone. `rooms.py` changes the rooms, `delivery.py` what was sent, `sessions.py` the rest.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from harmonia_lab.errors import Refused
from harmonia_lab.protocol.events import Channel
from harmonia_lab.server.auth import Identity
from harmonia_lab.server.encoding import EncodedMessage

__all__ = ["ConnectedClient"]


@dataclass(eq=False)
class ConnectedClient:
    """sid, eio_sid: its ids in Socket.IO and Engine.IO. engine: Engine.IO's socket. base_url: the URL by which the
    client reached the server, for its download URLs.

    last_seq: `seq` of the last lifecycle event that it was sent, by channel. pending: the latest progress, by channel,
    while the socket is busy. timers: they warn of and then end its token. hello_sent: whether it got `server-hello`.
    ended: whether it has disconnected, or is about to because its token was revoked. why_ended: why the server ends it,
    in a word; "" if the client does.
    """

    sid: str
    eio_sid: str
    engine: Any
    identity: Identity
    base_url: str
    rooms: set[str] = field(default_factory=set)
    last_seq: dict[Channel, int] = field(default_factory=dict)
    pending: dict[Channel, EncodedMessage] = field(default_factory=dict)
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    hello_sent: bool = False
    ended: bool = False
    why_ended: str = ""

    def check_open(self) -> None:
        """Raise Refused if the connection has ended: a command that waited meanwhile is not carried out."""
        if self.ended:
            raise Refused("The connection has ended.")
