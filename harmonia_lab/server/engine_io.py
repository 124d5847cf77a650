"""Engine.IO's server, session and websocket, with what the library lacks: limits, and an end for each connection.

Owns what is a packet of Engine.IO, how much is read and written at once, and that no way out of a connection leaves its
session behind. `transport.py` decides what a packet means, and `broadcast.py` writes events. It depends on internals of
Engine.IO, which tests/server/test_broadcast.py and tests/server/test_engine_io.py check.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import time
from types import FunctionType
from typing import Any

import engineio
from aiohttp import WSMsgType, web, web_ws
from engineio import exceptions
from engineio.async_drivers import aiohttp as driver
from engineio.async_socket import AsyncSocket

__all__ = ["EngineServer", "EngineSession", "WebSocket", "make_response"]

MAX_POLLED_PACKETS = 1000
"""Packets of one POST. With the library's 16, the rest of a burst would be lost without an error."""

MAX_WRITTEN = 256 * 1024
"""Bytes of packets that one poll takes from the queue, if there are several."""

FRAMES_BYTES = 2048

CLOSE_S = 1.0
"""Seconds for a client's part of the closing handshake."""

COMPRESS_FROM = 1024
"""Bytes of a poll's answer from which it is compressed."""

_PACKET = re.compile(r"4\d|[0-35-6].{0,40}\Z", re.DOTALL)
"""What Engine.IO's text packets begin with. All messages are Socket.IO packets, which begin with a digit: the library
would parse anything else as JSON, twice."""


def is_packet(data: str | bytes) -> bool:
    """Return whether `data` is a packet: an attachment, a message that may be Socket.IO's, or a short one."""
    return isinstance(data, bytes) or _PACKET.match(data) is not None


class EngineServer(engineio.AsyncServer):  # type: ignore[misc] # untyped library
    """read_timeout_s: seconds for the body of a POST."""

    read_timeout_s: float
    websocket_compression: bool

    async def disconnect(self, sid: str | None = None) -> None:
        """End a session without waiting until its queue is empty: without an open poll, that is never."""
        engine = self.sockets.pop(sid, None)
        if engine is not None:
            await engine.close(wait=False, reason=self.reason.SERVER_DISCONNECT)

    def ponged(self, round_trip_s: float) -> None:
        """Count a client's answer to a ping. Replaced by `transport.py`."""

    async def admit(self, eio_sid: str) -> bool:
        """Return whether a packet that is no message may be handled. Replaced by `transport.py`."""
        del eio_sid
        return True


class EngineSession(AsyncSocket):  # type: ignore[misc] # untyped library
    """A session of one client, by websocket or polling."""

    server: EngineServer
    _pinged_at: float | None = None
    """Seconds of the monotonic clock; None unless a ping waits for its answer."""

    async def send(self, pkt: engineio.packet.Packet) -> None:
        if pkt.packet_type == engineio.packet.PING:
            self._pinged_at = time.monotonic()
        await super().send(pkt)

    async def receive(self, pkt: engineio.packet.Packet) -> None:
        if pkt.packet_type == engineio.packet.PONG and self._pinged_at is not None:
            self.server.ponged(time.monotonic() - self._pinged_at)
            self._pinged_at = None
        if pkt.packet_type == engineio.packet.MESSAGE or await self.server.admit(self.sid):
            await super().receive(pkt)

    async def poll(self) -> list[engineio.packet.Packet]:
        """Wait for packets, and return as many as fit into one answer. [] says that the session has ended."""
        try:
            first = await asyncio.wait_for(self.queue.get(), self.server.ping_interval + self.server.ping_timeout)
        except (TimeoutError, asyncio.CancelledError):
            raise exceptions.QueueEmpty from None
        packets, size = [], 0
        while first is not None:
            packets.append(first)
            size += len(first.data or "") if isinstance(first.data, str | bytes) else 0
            if size >= MAX_WRITTEN or self.queue.empty():
                return packets
            first = self.queue.get_nowait()
        if packets:
            self.queue.put_nowait(None)  # the end comes with the next poll
        return packets

    async def handle_post_request(self, environ: dict[str, Any]) -> None:
        """Handle the packets of a POST. Raise EngineIOError, which ends the session, for what is none."""
        try:
            async with asyncio.timeout(self.server.read_timeout_s):
                body = await environ["aiohttp.request"].read()
            packets = _packets_of(body.decode())
        except web.HTTPRequestEntityTooLarge:
            raise exceptions.ContentTooLongError from None
        except (TimeoutError, ValueError, LookupError, RecursionError):
            raise exceptions.EngineIOError from None
        for packet in packets:
            await self.receive(packet)


def _packets_of(body: str) -> list[engineio.packet.Packet]:
    if body.startswith("d="):
        raise ValueError("JSONP")
    parts = body.split("\x1e", MAX_POLLED_PACKETS) if body else []
    if len(parts) > MAX_POLLED_PACKETS or not all(part.startswith("b") or is_packet(part) for part in parts):
        raise ValueError("not a payload")
    return [engineio.packet.Packet(encoded_packet=part) for part in parts]


class _WebSocketResponse(web.WebSocketResponse):
    """aiohttp's websocket, which parses no more frames once twice FRAMES_BYTES wait to be handled.

    aiohttp parses 256 KB and more at once: ten thousands of small frames. Its constant is a global of the module, which
    other servers of this process use, so the method gets globals of its own.
    """

    _post_start = FunctionType(
        web.WebSocketResponse._post_start.__code__,  # noqa: SLF001 - see above; tests/server/test_engine_io.py checks it
        {**vars(web_ws), "DEFAULT_CHUNK_SIZE": FRAMES_BYTES},
    )


class WebSocket(driver.WebSocket):  # type: ignore[misc] # untyped library
    """Engine.IO's websocket, with the compression that the settings ask for, and `transport` set on the engine."""

    async def __call__(self, environ: dict[str, Any]) -> web.StreamResponse:
        request, engine = environ["aiohttp.request"], self.handler.__self__
        self._engine = engine
        self._sock = _WebSocketResponse(
            timeout=CLOSE_S,
            max_msg_size=self.server.max_http_buffer_size,
            compress=self.server.websocket_compression,
            autoping=False,
        )
        await self._sock.prepare(request)
        self.environ = environ
        engine.transport = request.transport
        try:
            await self.handler(self)
        except (OSError, ValueError, exceptions.EngineIOError):
            pass  # the client has left, or sent junk in place of the upgrade
        finally:
            engine.upgrading = False  # the library forgets it if the upgrade ends in an error
            if engine.upgraded and not engine.closed:  # the client left while the library was closing the connection
                self.server.start_background_task(_end, self.server, engine)
        return self._sock

    async def wait(self) -> str | bytes:
        """Return the next frame. Raise OSError, which closes the connection, for a frame that is no Engine.IO packet:
        the engine itself would raise something else and leave the socket open."""
        while True:
            message = await self._sock.receive()
            if message.type is WSMsgType.PING or message.type is WSMsgType.PONG:
                # aiohttp would answer a thousand of them at once, before anybody else had a turn.
                if await self.server.admit(self._engine.sid) and message.type is WSMsgType.PING:
                    await self._sock.pong(message.data)
                await asyncio.sleep(0)
                continue
            data = message.data
            if not isinstance(data, str | bytes) or not is_packet(data):
                raise OSError("not an Engine.IO packet")
            return data


async def _end(server: EngineServer, engine: Any) -> None:
    await engine.close(wait=False, abort=True, reason=server.reason.TRANSPORT_CLOSE)
    engine.closed = True
    server.sockets.pop(engine.sid, None)


async def make_response(
    status: str, headers: list[tuple[str, str]], payload: bytes, environ: dict[str, Any]
) -> web.Response:
    """Return the answer to a request of Engine.IO, compressed by a thread if it is long and the client takes gzip."""
    accepted = [part.partition(";")[0].strip() for part in environ.get("HTTP_ACCEPT_ENCODING", "").split(",")]
    if len(payload) >= COMPRESS_FROM and "gzip" in accepted:
        payload = await asyncio.to_thread(gzip.compress, payload, 1)
        headers = [*headers, ("Content-Encoding", "gzip")]
    return web.Response(body=payload, status=int(status.split(maxsplit=1)[0]), headers=dict(headers))
