"""Socket.IO as the protocol needs it: python-socketio on aiohttp, with what it leaves to its users filled in.

Owns connections below the protocol: the guide's limits and times, that each command's answer is sent, that junk ends
the connection it came by and nothing else. Commands are `gateway.py`'s, sending is `broadcast.py`'s.

It overrides `AsyncServer._handle_event`, the one place that knows whether a command came with a callback; held by
tests/server/test_broadcast.py, like the rest of what leans on the library's inside.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol

import engineio
import socketio
from aiohttp import web
from engineio.async_drivers import aiohttp as driver
from engineio.payload import Payload

from harmonia_lab.server.broadcast import FramedWire, IdleQueue, Message, QueueWire, WebSocket, fits
from harmonia_lab.server.connected_client import Client
from harmonia_lab.server.delivery import MAX_BACKLOG
from harmonia_lab.server.origins import allowed_origin
from harmonia_lab.server.rate_limit import Buckets
from harmonia_lab.server.settings import ServerSettings

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["Gate", "SocketServer"]

MAX_POLLED_PACKETS = 1000
"""Of one POST. The library's 16 would lose the rest of a burst without a word."""

MAX_ATTACHMENTS = 4
"""No command takes any; some are let through, to be answered."""

MAX_UNANNOUNCED = 10
"""Packets before the one that says who it is; more are not read."""

CLOSE_GRACE_S = 1.0
"""For a client to close by itself before its connection is cut."""

FAREWELL_S = 0.1
"""The same, when the server ends."""

_log = logging.getLogger(__name__)


class Gate(Protocol):
    """What happens on connections."""

    clients: dict[str, Client]

    async def connect(self, sid: str, eio_sid: str, engine: Any, request: web.Request, auth: object) -> None:
        """Raises socketio's ConnectionRefusedError."""

    def greet(self, client: Client) -> None: ...

    def disconnect(self, eio_sid: str) -> None: ...

    async def answer(self, client: Client, data: object, *, wanted: bool) -> dict[str, Any]:
        """Never raises."""
        ...


class _EngineServer(engineio.AsyncServer):  # type: ignore[misc] # untyped library
    """websocket_compression: of every frame, for each client anew."""

    websocket_compression = False

    def create_queue(self, *args: Any, **options: Any) -> IdleQueue:
        return IdleQueue(*args, **options)


class SocketServer(socketio.AsyncServer):  # type: ignore[misc] # untyped library
    """Call `attach(app)` on an aiohttp application, and `gate` before the first connection."""

    gate: Gate

    def __init__(self, settings: ServerSettings) -> None:
        quiet = logging.getLogger("harmonia_lab.server.socketio")
        quiet.setLevel(logging.WARNING)  # below that, it logs what clients send: their stories
        super().__init__(
            async_mode="aiohttp",
            async_handlers=False,  # one client's commands have one order
            logger=quiet,
            engineio_logger=quiet,
            ping_interval=settings.ping_interval_s,
            ping_timeout=settings.ping_timeout_s,
            max_http_buffer_size=settings.max_message_bytes,
            http_compression=settings.http_compression,
            cors_allowed_origins=lambda origin, _environ: allowed_origin(origin, settings.origins),
            cors_credentials=True,
            transports=["websocket", "polling"],
        )
        Payload.max_decode_packets = MAX_POLLED_PACKETS
        self.wire = FramedWire() if settings.fast_broadcast and not settings.compression and fits() else QueueWire()
        self._settings = settings
        self._connections = Buckets(*settings.rates.connections)
        self._tasks: set[asyncio.Task[None]] = set()
        self._strangers: dict[str, int] = {}
        """How many packets who has not said who it is has sent, by connection."""
        self.eio.websocket_compression = settings.compression
        self.eio._async = {**driver._async, "websocket": WebSocket}  # noqa: SLF001 - see the module's docstring
        self.eio.on("connect", self._admit)
        self.eio.on("message", self._read)
        self.eio.on("disconnect", self._part)
        self.on("connect", self._connect)
        self.on("disconnect", self._disconnect)

    def close(self, client: Client) -> None:
        """Ends the connection as the server's wish: the JavaScript client does not come back by itself."""
        self._run(self._close(client))

    def drop(self, eio_sid: str, *, grace_s: float = CLOSE_GRACE_S) -> None:
        """Ends the connection as if it had broken: a client comes back by itself."""
        engine = self.eio.sockets.get(eio_sid)
        if engine is not None:
            self._run(self._drop(engine, grace_s))

    async def drop_all(self) -> None:
        """As the server ends."""
        await asyncio.gather(*(self._drop(engine, FAREWELL_S) for engine in list(self.eio.sockets.values())))
        await self.shutdown()

    async def _close(self, client: Client) -> None:
        await self.disconnect(client.sid)
        self.drop(client.eio_sid)

    async def _drop(self, engine: Any, grace_s: float) -> None:
        await engine.close(wait=False)
        await asyncio.sleep(grace_s)
        transport = getattr(engine, "transport", None)
        if transport is not None:
            transport.abort()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _engineio_server_class(self) -> type[_EngineServer]:
        return _EngineServer

    async def _admit(self, eio_sid: str, environ: dict[str, Any]) -> str | None:
        """The reason where a connection is not taken."""
        if len(self.eio.sockets) > self._settings.max_connections:
            return "This server has as many connections as it takes."
        if not self._connections.take(environ["aiohttp.request"].remote):
            return "Too many connections in too short a time."
        await self._handle_eio_connect(eio_sid, environ)
        loop = asyncio.get_running_loop()
        loop.call_later(self._settings.connect_timeout_s, self._check_connected, eio_sid)
        return None

    def _check_connected(self, eio_sid: str) -> None:
        self._strangers.pop(eio_sid, None)
        if eio_sid not in self.gate.clients:
            self.drop(eio_sid)

    async def _connect(self, sid: str, environ: dict[str, Any], auth: object = None) -> None:
        eio_sid = self.manager.eio_sid_from_sid(sid, "/")
        await self.gate.connect(sid, eio_sid, self.eio.sockets[eio_sid], environ["aiohttp.request"], auth)

    async def _disconnect(self, sid: str, reason: str) -> None:
        eio_sid = self.manager.eio_sid_from_sid(sid, "/")
        _log.info("Socket %s is gone: %s.", sid, reason)
        self.gate.disconnect(eio_sid)

    async def _part(self, eio_sid: str, reason: str) -> None:
        await self._handle_eio_disconnect(eio_sid, reason)
        engine = self.eio.sockets.get(eio_sid)
        if engine is not None and not engine.upgraded and reason == self.reason.CLIENT_DISCONNECT:
            engine.queue.put_nowait(None)  # or its last poll would wait for nothing until it times out

    async def _handle_connect(self, eio_sid: str, namespace: str, data: object) -> None:
        await super()._handle_connect(eio_sid, namespace, data)
        client = self.gate.clients.get(eio_sid)
        if client is not None:
            self.gate.greet(client)

    async def _handle_event(self, eio_sid: str, namespace: str, ack_id: int | None, data: object) -> None:
        del namespace  # "/" is all there is
        client = self.gate.clients.get(eio_sid)
        if client is None:
            return
        answer = await self.gate.answer(client, data, wanted=ack_id is not None)
        if ack_id is not None:
            self.wire.send(client, Message.ack(ack_id, answer))
            if self.wire.backlog(client) > MAX_BACKLOG:  # it asks, and does not listen
                self.drop(eio_sid)

    async def _read(self, eio_sid: str, data: str | bytes) -> None:
        if eio_sid not in self.gate.clients:
            said = self._strangers[eio_sid] = self._strangers.get(eio_sid, 0) + 1
            if said > MAX_UNANNOUNCED:
                self.drop(eio_sid)
                return
        try:
            await self._handle_eio_message(eio_sid, data)
            waiting = self._binary_packet.get(eio_sid)
            junk = waiting is not None and waiting.attachment_count > MAX_ATTACHMENTS
        except Exception as error:  # noqa: BLE001 - whatever the parser stumbles over: that connection's end, no more
            _log.debug("Junk on connection %s: %s.", eio_sid, type(error).__name__)
            junk = True
        if junk:  # what is no Socket.IO can't be answered in Socket.IO
            self._binary_packet.pop(eio_sid, None)
            self.drop(eio_sid)
