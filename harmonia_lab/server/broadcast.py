"""From an event to many sockets: encoded once, framed once, and written straight to whoever is idle.

Owns the bytes and the two ways to hand them over. `QueueWire` puts packets into Engine.IO's own queue of each socket.
`FramedWire` writes the finished websocket frame to the socket's transport where nothing is under way there, which costs
a third of that. It leans on what Engine.IO does inside; `fits` says whether the installed one is such, and
tests/server/test_broadcast.py holds it to that. Who gets what is `delivery.py`'s.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.metadata
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import engineio
import socketio
from aiohttp import web
from engineio.async_drivers import aiohttp as driver

from harmonia_lab.protocol.codec import encode
from harmonia_lab.protocol.events import AudioPreview, WireEvent
from harmonia_lab.server.connected_client import Client

__all__ = ["HIGH_WATER", "FramedWire", "IdleQueue", "Line", "Message", "QueueWire", "WebSocket", "fits"]

TESTED = ((4, 12), (5, 0))
"""Engine.IO's versions (from, below) that `FramedWire` was tested with."""

HIGH_WATER = 64 * 1024
"""Bytes in a socket's write buffer; below that, it keeps up."""

TEXT, BINARY = 0x81, 0x82
"""First byte of a whole, uncompressed websocket frame (RFC 6455, 5.2)."""


class Message:
    """One event or answer, as packets and as a frame; both are made when first asked for, and serve every socket."""

    def __init__(self, text: str, *attachments: bytes) -> None:
        """text: Socket.IO's packet. attachments: the binary parts that it speaks of."""
        self._text, self._attachments = text, attachments

    @classmethod
    def of(cls, event: WireEvent) -> Message:
        """`event(*encode(event))`, in one step where there is no attachment: less than half the time."""
        if isinstance(event, AudioPreview):
            return cls.event(*encode(event))
        return cls(f'{socketio.packet.EVENT}["{event.name}",{event.to_json()}]')

    @classmethod
    def event(cls, name: str, payload: dict[str, Any]) -> Message:
        return cls._encoded(socketio.packet.Packet(socketio.packet.EVENT, data=[name, payload], namespace="/"))

    @classmethod
    def ack(cls, ack_id: int, payload: dict[str, Any]) -> Message:
        return cls._encoded(socketio.packet.Packet(socketio.packet.ACK, data=[payload], namespace="/", id=ack_id))

    @classmethod
    def _encoded(cls, packet: socketio.packet.Packet) -> Message:
        encoded = packet.encode()
        return cls(*encoded) if isinstance(encoded, list) else cls(encoded)

    @functools.cached_property
    def packets(self) -> Sequence[engineio.packet.Packet]:
        """Engine.IO packets: the text, then its attachments."""
        return [engineio.packet.Packet(engineio.packet.MESSAGE, part) for part in (self._text, *self._attachments)]

    @functools.cached_property
    def frames(self) -> bytes:
        """The same as unmasked websocket frames."""
        return _frame(f"{engineio.packet.MESSAGE}{self._text}") + b"".join(map(_frame, self._attachments))


def _frame(data: str | bytes) -> bytes:
    first, body = (TEXT, data.encode()) if isinstance(data, str) else (BINARY, data)
    size = len(body)
    if size < 126:
        return bytes((first, size)) + body
    if size < 1 << 16:
        return struct.pack("!BBH", first, 126, size) + body
    return struct.pack("!BBQ", first, 127, size) + body


class Line(NamedTuple):
    """What writing straight to a socket needs, side by side: with a hundred, finding it costs as much as using it.

    buffered: bytes that its transport has not written yet.
    """

    client: Client
    queue: IdleQueue
    buffered: Callable[[], int]
    write: Callable[[bytes], None]


class QueueWire:
    """Through Engine.IO's queues. Called in the event loop."""

    def send(self, client: Client, message: Message) -> None:
        """In the order of the calls. Nothing for a socket that has closed."""
        engine = client.engine
        if not engine.closed:
            for packet in message.packets:
                # An attachment reads otherwise where a client polls, and a packet remembers how it was read first.
                own = engineio.packet.Packet(packet.packet_type, packet.data) if packet.binary else packet
                engine.queue.put_nowait(own)

    def idle(self, client: Client) -> bool:
        """Whether it has taken all that it was sent."""
        return bool(client.engine.queue.empty())

    def backlog(self, client: Client) -> int:
        """Packets that it has not taken yet."""
        return int(client.engine.queue.qsize())

    def line(self, client: Client) -> Line | None:
        """For `write`; None where it has none."""
        del client
        return None

    def write(self, lines: Iterable[Line], message: Message) -> set[Client]:
        """Sends it to those that have taken all that they were sent; who the others are."""
        frames, busy = message.frames, set()
        for client, queue, buffered, write in lines:
            # The one hot loop. A socket that has just closed drops what is written, until `rooms.py` hears of it.
            if queue.waiting and buffered() < HIGH_WATER:
                write(frames)
            else:
                busy.add(client)
        return busy


class FramedWire(QueueWire):
    """Straight to the transport, else through the queue. Needs `IdleQueue` and `WebSocket` in Engine.IO's place."""

    def send(self, client: Client, message: Message) -> None:
        engine = client.engine
        if engine.upgraded and self._writable(engine):
            engine.transport.write(message.frames)
        else:
            super().send(client, message)

    def idle(self, client: Client) -> bool:
        return self._writable(client.engine) if client.engine.upgraded else super().idle(client)

    def line(self, client: Client) -> Line | None:
        engine = client.engine
        if not engine.upgraded:
            return None
        return Line(client, engine.queue, engine.transport.get_write_buffer_size, engine.transport.write)

    def _writable(self, engine: Any) -> bool:
        """No packet in the queue or in the writer's hands, and the buffer is small: the order is kept."""
        return (
            engine.queue.waiting
            and not engine.closed
            and not engine.transport.is_closing()
            and engine.transport.get_write_buffer_size() < HIGH_WATER
        )


class IdleQueue(asyncio.Queue[Any]):
    """Knows whether its reader waits for the next packet, having sent the last one, and none has come since."""

    waiting = False

    async def get(self) -> Any:
        self.waiting = self.empty()
        try:
            return await super().get()
        finally:
            self.waiting = False

    def _put(self, item: Any) -> None:
        self.waiting = False
        super()._put(item)


class WebSocket(driver.WebSocket):  # type: ignore[misc] # untyped library
    """Engine.IO's websocket, with the compression that is set, and with its transport where the engine finds it."""

    async def __call__(self, environ: dict[str, Any]) -> web.StreamResponse:
        request = environ["aiohttp.request"]
        self._sock = web.WebSocketResponse(
            max_msg_size=self.server.max_http_buffer_size, compress=self.server.websocket_compression
        )
        await self._sock.prepare(request)
        self.environ = environ
        self.handler.__self__.transport = request.transport
        await self.handler(self)
        return self._sock

    async def wait(self) -> str | bytes:
        """The next frame. Raises OSError, which ends the connection cleanly, also for what is no packet: the engine
        would stumble over it, and leave the socket behind."""
        data: str | bytes = await super().wait()
        try:
            engineio.packet.packet_names[engineio.packet.Packet(encoded_packet=data).packet_type]
        except (ValueError, IndexError, RecursionError) as error:
            raise OSError(f"no packet of Engine.IO: {type(error).__name__}") from None
        return data


def fits() -> bool:
    """Whether the installed Engine.IO is one that `FramedWire` was tested with."""
    version = importlib.metadata.version("python-engineio")
    installed = tuple(int(part) for part in version.split(".")[:2])
    return TESTED[0] <= installed < TESTED[1]
