"""Socket.IO connections: python-socketio on aiohttp, with the limits and checks that the library leaves to its users.

Owns connections below the protocol: the guide's limits and times, the acknowledgement of each command, and the end of a
connection that sends anything but Socket.IO. `gateway.py` handles commands, `broadcast.py` sends.

It overrides `AsyncServer._handle_event`, because only that method knows whether a command came with a callback.
tests/server/test_broadcast.py checks the library's internals that this depends on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import socketio
from engineio.async_drivers import aiohttp as driver
from engineio.payload import Payload

from harmonia_lab.server.broadcast import IdleQueue, WebSocket, Wire, is_tested_engineio
from harmonia_lab.server.connected_client import ConnectedClient
from harmonia_lab.server.encoding import EncodedMessage
from harmonia_lab.server.gateway import Gateway
from harmonia_lab.server.origins import allowed_origin
from harmonia_lab.server.rate_limit import TokenBucket
from harmonia_lab.server.settings import ServerSettings

__all__ = ["SocketServer"]

MAX_POLLED_PACKETS = 1000
"""Packets of one POST. With the library's 16, the rest of a burst would be lost without an error."""

MAX_ATTACHMENTS = 4
"""Binary parts of one packet. No command takes any, but a command with a few is answered with the reason."""

MAX_PACKETS_BEFORE_AUTH = 10
"""Packets that a connection may send before it authenticates."""

CLOSE_GRACE_S = 1.0
"""Seconds for a client to close by itself before its connection is aborted."""

SHUTDOWN_GRACE_S = 0.1
"""The same, when the server stops."""

_log = logging.getLogger(__name__)


class SocketServer(socketio.AsyncServer):  # type: ignore[misc] # untyped library
    """Call `attach(app)` on an aiohttp application, and set `gateway` before the first connection."""

    gateway: Gateway

    def __init__(self, settings: ServerSettings) -> None:
        library_log = logging.getLogger("harmonia_lab.server.socketio")
        library_log.setLevel(logging.WARNING)  # below that level, the library logs payloads, with narratives in them
        super().__init__(
            async_mode="aiohttp",
            async_handlers=False,  # one client's commands are handled in order
            logger=library_log,
            engineio_logger=library_log,
            ping_interval=settings.ping_interval_s,
            ping_timeout=settings.ping_timeout_s,
            max_http_buffer_size=settings.max_message_bytes,
            http_compression=settings.http_compression,
            cors_allowed_origins=lambda origin, _environ: allowed_origin(origin, settings.origins),
            cors_credentials=True,
            transports=["websocket", "polling"],
        )
        Payload.max_decode_packets = MAX_POLLED_PACKETS
        framed = settings.fast_broadcast and not settings.compression and is_tested_engineio()
        self.wire = Wire(framed=framed, drop=self.drop)
        self._settings = settings
        self._connections = TokenBucket(*settings.rates.connections)
        self._tasks: set[asyncio.Task[None]] = set()
        self._packets_before_auth: dict[str, int] = {}
        """Packets received before authentication, by connection."""
        self.eio.create_queue = IdleQueue
        self.eio.websocket_compression = settings.compression  # read by `WebSocket`
        self.eio._async = {**driver._async, "websocket": WebSocket}  # noqa: SLF001 - see the module's docstring
        self.eio.on("connect", self._on_eio_connect)
        self.eio.on("message", self._on_eio_message)
        self.eio.on("disconnect", self._on_eio_disconnect)
        self.on("connect", self._on_connect)
        self.on("disconnect", self._on_disconnect)

    def close(self, client: ConnectedClient) -> None:
        """Disconnect a client on purpose: the JavaScript client does not reconnect by itself."""
        self._run(self._close(client))

    def drop(self, eio_sid: str) -> None:
        """End a connection as if it had failed: the client reconnects by itself."""
        engine = self.eio.sockets.get(eio_sid)
        if engine is not None:
            self._run(self._drop(engine, CLOSE_GRACE_S))

    async def drop_all(self) -> None:
        """End every connection, and shut down."""
        await asyncio.gather(*(self._drop(engine, SHUTDOWN_GRACE_S) for engine in list(self.eio.sockets.values())))
        await self.shutdown()

    async def _close(self, client: ConnectedClient) -> None:
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
        self._tasks.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._tasks.discard)

    async def _on_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> str | None:
        """Accept a connection. Return the reason if it is refused."""
        if len(self.eio.sockets) > self._settings.max_connections:
            return "This server has reached its limit of connections."
        if not self._connections.take(environ["aiohttp.request"].remote):
            return "Too many connections in too short a time."
        await self._handle_eio_connect(eio_sid, environ)
        asyncio.get_running_loop().call_later(self._settings.connect_timeout_s, self._check_authenticated, eio_sid)
        return None

    def _check_authenticated(self, eio_sid: str) -> None:
        self._packets_before_auth.pop(eio_sid, None)
        if eio_sid not in self.gateway.clients:
            self.drop(eio_sid)

    async def _on_connect(self, sid: str, environ: dict[str, Any], auth: object = None) -> None:
        eio_sid = self.manager.eio_sid_from_sid(sid, "/")
        await self.gateway.connect(sid, eio_sid, self.eio.sockets[eio_sid], environ["aiohttp.request"], auth)

    async def _on_disconnect(self, sid: str, reason: str) -> None:
        _log.info("Socket %s disconnected: %s.", sid, reason)
        self.gateway.disconnect(self.manager.eio_sid_from_sid(sid, "/"), reason)

    async def _on_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        await self._handle_eio_disconnect(eio_sid, reason)
        engine = self.eio.sockets.get(eio_sid)
        if engine is not None and not engine.upgraded and reason == self.reason.CLIENT_DISCONNECT:
            engine.queue.put_nowait(None)  # ends the client's last poll, which would wait until it times out

    async def _handle_connect(self, eio_sid: str, namespace: str, data: object) -> None:
        await super()._handle_connect(eio_sid, namespace, data)
        client = self.gateway.clients.get(eio_sid)
        if client is not None:
            self.gateway.send_hello(client)

    async def _handle_event(self, eio_sid: str, namespace: str, ack_id: int | None, data: object) -> None:
        del namespace  # "/" is the only one
        client = self.gateway.clients.get(eio_sid)
        if client is None:
            return
        answer = await self.gateway.handle_command(client, data, has_callback=ack_id is not None)
        if ack_id is not None:
            self.wire.send(client, EncodedMessage.ack(ack_id, answer))

    async def _on_eio_message(self, eio_sid: str, data: str | bytes) -> None:
        if eio_sid not in self.gateway.clients:
            packets = self._packets_before_auth[eio_sid] = self._packets_before_auth.get(eio_sid, 0) + 1
            if packets > MAX_PACKETS_BEFORE_AUTH:
                self.drop(eio_sid)
                return
        try:
            await self._handle_eio_message(eio_sid, data)
            incomplete = self._binary_packet.get(eio_sid)
            malformed = incomplete is not None and incomplete.attachment_count > MAX_ATTACHMENTS
        except Exception as error:  # noqa: BLE001 - whatever the parser raises ends this connection, and no other
            _log.debug("Malformed packet on connection %s: %s.", eio_sid, type(error).__name__)
            malformed = True
        if malformed:  # a packet that is not Socket.IO can't be acknowledged in Socket.IO
            self._binary_packet.pop(eio_sid, None)
            self.drop(eio_sid)
