"""Encoded messages written to sockets: a finished frame to every idle websocket, or packets into a socket's queue.

Owns the two ways to send, and that a socket which can't be written to costs nobody else anything. The queue is
Engine.IO's own, of each socket. Writing the finished frame to the socket's transport costs a third of that, and happens
only while no packet waits or is being sent. It depends on Engine.IO's internals: `is_tested_engineio` says whether the
installed version has them, and tests/server/test_broadcast.py checks them. `encoding.py` makes the bytes, and
`delivery.py` decides which sockets get them.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import engineio

from harmonia_lab.server.connected_client import ConnectedClient
from harmonia_lab.server.encoding import EncodedMessage

__all__ = [
    "HIGH_WATER",
    "MAX_BACKLOG",
    "MAX_BACKLOG_BYTES",
    "IdleQueue",
    "Wire",
    "WritableSocket",
    "is_tested_engineio",
]

TESTED_VERSIONS = ((4, 12), (5, 0))
"""Engine.IO's versions (from, below) with which writing frames was tested."""

HIGH_WATER = 64 * 1024
"""Bytes in a socket's write buffer. A socket with fewer counts as idle."""

MAX_BACKLOG = 1000
"""Packets that may wait in a socket's queue. With more, it is dropped; its client reconnects and gets a replay."""


MAX_BACKLOG_BYTES = 4 * 1024 * 1024
"""The same, in bytes."""

_log = logging.getLogger(__name__)


class WritableSocket(NamedTuple):
    """A websocket's queue and transport methods. With a hundred sockets, looking them up costs as much as the write.

    buffered: returns how many bytes the transport has not sent yet. write: sends bytes.
    """

    client: ConnectedClient
    queue: IdleQueue
    buffered: Callable[[], int]
    write: Callable[[bytes], None]


class Wire:
    """Sends messages to each socket in the order of the calls. Runs in the event loop, and never waits."""

    def __init__(self, *, framed: bool, drop: Callable[[str], None]) -> None:
        """framed: write finished frames to idle websockets; Engine.IO must use `IdleQueue` and `WebSocket`.
        drop: closes the connection with this Engine.IO id."""
        self.framed, self._drop = framed, drop
        self.sent_bytes = 0
        """Bytes of messages to all sockets, text counted by characters."""

    def send(self, client: ConnectedClient, message: EncodedMessage) -> None:
        """Send to one socket, or do nothing if it has closed. Drop a socket that can't be written to, or whose queue is
        longer than MAX_BACKLOG or MAX_BACKLOG_BYTES."""
        engine = client.engine
        self.sent_bytes += message.size
        if self.framed and engine.upgraded and self.is_idle(client):
            self._write(client, message.frames)
        elif not engine.closed:
            for packet in message.packets:
                # A packet caches its encoding, and polling encodes attachments differently: each socket gets a copy.
                own = engineio.packet.Packet(packet.packet_type, packet.data) if packet.binary else packet
                engine.queue.put_nowait(own)
            if engine.queue.qsize() > MAX_BACKLOG or engine.queue.size > MAX_BACKLOG_BYTES:
                client.why_ended = client.why_ended or "too_slow"
                self._drop(client.eio_sid)

    def is_idle(self, client: ConnectedClient) -> bool:
        """Return whether the socket has taken everything that was sent to it."""
        engine = client.engine
        if not (self.framed and engine.upgraded):
            return bool(engine.queue.empty())
        try:
            return _is_writable(engine)
        except Exception as error:  # noqa: BLE001 - as in `write`
            self._lose(client, error)
            return False

    def writable_socket(self, client: ConnectedClient) -> WritableSocket | None:
        """Return the client's socket for `write`; None if the client polls or this wire doesn't write frames."""
        engine = client.engine
        if not (self.framed and engine.upgraded):
            return None
        return WritableSocket(client, engine.queue, engine.transport.get_write_buffer_size, engine.transport.write)

    def write(self, sockets: Collection[WritableSocket], message: EncodedMessage) -> set[ConnectedClient]:
        """Write to every idle socket. Return the clients whose sockets were busy, or have just closed."""
        frames, busy, written = message.frames, set(), len(sockets)
        for client, queue, buffered, write in sockets:  # the hot loop
            try:
                if queue.waiting and buffered() < HIGH_WATER:
                    write(frames)
                else:
                    busy.add(client)
            except Exception as error:  # noqa: BLE001 - a transport that has closed raises, each loop's its own error
                busy.add(client)
                self._lose(client, error)
        self.sent_bytes += len(frames) * (written - len(busy))
        return busy

    def _write(self, client: ConnectedClient, frames: bytes) -> None:
        try:
            client.engine.transport.write(frames)
        except Exception as error:  # noqa: BLE001 - as in `write`
            self._lose(client, error)

    def _lose(self, client: ConnectedClient, error: Exception) -> None:
        """Drop a socket that could not be written to. Its client reconnects, and gets what it missed."""
        _log.debug("Socket %s could not be written to: %s.", client.sid, type(error).__name__)
        client.why_ended = client.why_ended or "write_failed"
        self._drop(client.eio_sid)


def _is_writable(engine: Any) -> bool:
    """Return whether a frame can be written now: none is queued or being sent before it, and the buffer is small."""
    return (
        engine.queue.waiting
        and not engine.closed
        and not engine.transport.is_closing()
        and engine.transport.get_write_buffer_size() < HIGH_WATER
    )


class IdleQueue(asyncio.Queue[Any]):
    """waiting: whether the reader has sent the last packet and waits for the next, and none was put since. size: bytes
    of the packets in it, text counted by characters."""

    waiting = False
    size = 0

    async def get(self) -> Any:
        self.waiting = self.empty()
        try:
            return await super().get()
        finally:
            self.waiting = False

    def _put(self, item: Any) -> None:
        self.waiting = False
        self.size += _size(item)
        super()._put(item)

    def _get(self) -> Any:
        item = super()._get()
        self.size -= _size(item)
        return item


def _size(packet: engineio.packet.Packet | None) -> int:
    return len(packet.data) if packet is not None and isinstance(packet.data, str | bytes) else 0


def is_tested_engineio() -> bool:
    """Return whether the installed Engine.IO is one with which writing frames was tested."""
    installed = tuple(int(part) for part in importlib.metadata.version("python-engineio").split(".")[:2])
    return TESTED_VERSIONS[0] <= installed < TESTED_VERSIONS[1]
