"""Socket.IO connections: python-socketio on aiohttp, with the limits and checks that the library leaves to its users.

Owns connections below the protocol: the guide's limits and times, the acknowledgement of each command, and the end of a
connection that sends anything but Socket.IO. `gateway.py` handles commands, `broadcast.py` sends.

It overrides `AsyncServer._handle_event`, because only that method knows whether a command came with a callback.
tests/server/test_broadcast.py checks the library's internals that this depends on.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import socketio
from engineio.async_drivers import aiohttp as driver

from harmonia_lab.errors import HarmoniaError, InvalidRequest
from harmonia_lab.protocol.codec import check_text
from harmonia_lab.server.auth import MAX_TOKEN
from harmonia_lab.server.broadcast import IdleQueue, Wire, is_tested_engineio
from harmonia_lab.server.client_address import ClientAddresses
from harmonia_lab.server.connected_client import ConnectedClient
from harmonia_lab.server.encoding import EncodedMessage
from harmonia_lab.server.engine_io import EngineServer, EngineSession, WebSocket, make_response
from harmonia_lab.server.gateway import Gateway
from harmonia_lab.server.log_limits import library_log
from harmonia_lab.server.origins import Origins
from harmonia_lab.server.rate_limit import TokenBucket
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.store.metrics import Metrics

__all__ = ["SocketServer"]

MAX_ATTACHMENTS = 4
"""Binary parts of one packet. No command takes any, but a command with a few is answered with the reason."""

MAX_PACKETS_BEFORE_AUTH = 10
"""Packets that a connection may send before it authenticates."""

MAX_BYTES_BEFORE_AUTH = 16 * 1024
"""Bytes of each of them: a token has 8,192 at most."""

_LONG_TOKEN = f'0{{"token":"{"x" * (MAX_TOKEN + 1)}"}}'
"""Read in place of a longer packet: whoever sends one is told that the token is too long."""

LONG_MESSAGE = 16 * 1024
"""Bytes from which a message is parsed only when no other such message is."""

CONTROLS_AT_ONCE = 20
"""Pings, pongs, acknowledgements and packets of other namespaces of one connection at once. A client sends a pong every
25 s, and nothing else of these."""

RATE_LIMIT_DELAY_S = 0.1
"""Seconds by which the refusal of a message beyond the rate limit, and the socket's next messages, are delayed: as much
more for each DELAYED_BYTES of the message."""

DELAYED_BYTES = 64 * 1024

CLOSE_GRACE_S = 1.0
"""Seconds for a client to close by itself before its connection is aborted."""

SHUTDOWN_GRACE_S = 0.1
"""The same, when the server stops."""

_EVENT_HEAD = re.compile(r'[25](?:\d+-)?(?:/,)?(\d{1,15})?\["([^"\\]{0,40})')
"""Matches an event that is not parsed. Groups: the id of its acknowledgement, if it has one; the command's name."""

_log = logging.getLogger(__name__)


class SocketServer(socketio.AsyncServer):  # type: ignore[misc] # untyped library
    """Call `attach(app)` on an aiohttp application, and set `gateway` before the first connection."""

    gateway: Gateway

    def __init__(
        self, settings: ServerSettings, addresses: ClientAddresses, metrics: Metrics, origins: Origins
    ) -> None:
        log = library_log("socketio")  # the library logs payloads, with narratives in them
        super().__init__(
            async_mode="aiohttp",
            async_handlers=False,  # one client's commands are handled in order
            logger=log,
            engineio_logger=log,
            ping_interval=settings.ping_interval_s,
            ping_timeout=settings.ping_timeout_s,
            max_http_buffer_size=settings.max_message_bytes,
            http_compression=False,  # the library compresses in the event loop; `make_response` doesn't
            cors_allowed_origins=lambda origin, _environ: origins.allow(origin),
            cors_credentials=True,
            transports=["websocket", "polling"],
        )
        framed = settings.fast_broadcast and not settings.compression and is_tested_engineio()
        self.wire = Wire(framed=framed, drop=self.drop)
        self._settings, self._addresses, self._metrics = settings, addresses, metrics
        self._connections = TokenBucket(*settings.rates.connections)
        self._controls = TokenBucket(settings.rates.messages[0], min(settings.rates.messages[1], CONTROLS_AT_ONCE))
        """Pings, pongs, acknowledgements and packets of other namespaces, by connection."""
        self._long_message = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._limited: dict[str, str] = {}
        """The addresses of connections that count by address, by connection."""
        self._by_address: Counter[str] = Counter()
        self._packets_before_auth: dict[str, int] = {}
        """Packets received before authentication, by connection."""
        self.eio.create_queue = IdleQueue
        self.eio.read_timeout_s = settings.read_timeout_s
        self.eio.admit = self._admit
        self.eio.ponged = metrics.ponged
        self.eio.websocket_compression = settings.compression  # read by `WebSocket`
        own = {"websocket": WebSocket} | ({"make_response": make_response} if settings.http_compression else {})
        self.eio._async = {**driver._async, **own}  # noqa: SLF001 - see the module's docstring
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
        if engine is not None and not engine.closing:
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
        self.eio.sockets.pop(engine.sid, None)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._tasks.discard)

    async def _on_eio_connect(self, eio_sid: str, environ: dict[str, Any]) -> str | None:
        """Accept a connection. Return the reason if it is refused."""
        if len(self.eio.sockets) > self._settings.max_connections:
            return self._refused("server_full", "This server has reached its limit of connections.")
        address = self._addresses.of(environ["aiohttp.request"])
        if not self._connections.take(address):
            return self._refused("rate", "Too many connections in too short a time.")
        if self._addresses.is_limited(address):  # a trusted proxy's connections are many clients'
            if self._by_address[address] >= self._settings.max_connections_per_address:
                return self._refused("address", "There are too many connections from your address.")
            self._by_address[address] += 1
            self._limited[eio_sid] = address
        self.eio.sockets[eio_sid].__class__ = EngineSession  # the library's server makes its own
        await self._handle_eio_connect(eio_sid, environ)
        asyncio.get_running_loop().call_later(self._settings.connect_timeout_s, self._check_authenticated, eio_sid)
        return None

    def _refused(self, reason: str, message: str) -> str:
        self._metrics.count("refused_connections_total", reason)
        return message

    def _check_authenticated(self, eio_sid: str) -> None:
        self._packets_before_auth.pop(eio_sid, None)
        if eio_sid not in self.gateway.clients:
            if eio_sid in self.eio.sockets:
                self._metrics.count("refused_connections_total", "no_token_in_time")
            self.drop(eio_sid)

    async def _on_connect(self, sid: str, environ: dict[str, Any], auth: object = None) -> None:
        eio_sid = self.manager.eio_sid_from_sid(sid, "/")
        await self.gateway.connect(sid, eio_sid, self.eio.sockets[eio_sid], environ["aiohttp.request"], auth)

    async def _on_disconnect(self, sid: str, reason: str) -> None:
        _log.info("Socket %s disconnected: %s.", sid, reason)
        self.gateway.disconnect(self.manager.eio_sid_from_sid(sid, "/"), reason)

    async def _on_eio_disconnect(self, eio_sid: str, reason: str) -> None:
        await self._handle_eio_disconnect(eio_sid, reason)
        address = self._limited.pop(eio_sid, None)
        if address is not None:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]
        engine = self.eio.sockets.get(eio_sid)
        if engine is not None and not engine.upgraded and reason == self.reason.CLIENT_DISCONNECT:
            engine.queue.put_nowait(None)  # ends the client's last poll, which would wait until it times out

    async def _handle_connect(self, eio_sid: str, namespace: str, data: object) -> None:
        if eio_sid in self.gateway.clients and namespace in (None, "/"):
            return  # it is connected already
        await super()._handle_connect(eio_sid, namespace, data)
        client = self.gateway.clients.get(eio_sid)
        if client is not None:
            self.gateway.send_hello(client)

    async def _handle_event(self, eio_sid: str, namespace: str, ack_id: int | None, data: object) -> None:
        client = self.gateway.clients.get(eio_sid)
        if client is None or namespace not in (None, "/"):
            return
        answer = await self.gateway.handle_command(client, data, has_callback=ack_id is not None)
        if ack_id is not None:
            message = EncodedMessage.ack(ack_id, answer)
            self.gateway.charge(client, message.size)
            self.wire.send(client, message)

    async def _handle_ack(self, eio_sid: str, namespace: str, ack_id: int | None, data: object) -> None:
        """Ignore an acknowledgement: no event of ours asks for one."""

    async def _admit(self, eio_sid: str) -> bool:
        """Return whether a packet may be handled that no answer is expected to. Too many delay the connection."""
        if self._controls.take(eio_sid):
            return True
        await asyncio.sleep(RATE_LIMIT_DELAY_S)
        return False

    async def _on_eio_message(self, eio_sid: str, data: str | bytes) -> None:
        if not await self._may_handle(eio_sid, data):
            return
        client = self.gateway.clients.get(eio_sid)
        if client is None:
            await self._handle_message(eio_sid, data)
        else:
            async with self.gateway.slots.command(client.identity.user):
                await self._handle_message(eio_sid, data)

    async def _handle_message(self, eio_sid: str, data: str | bytes) -> None:
        try:
            if isinstance(data, str) and len(data) > LONG_MESSAGE:
                await self._handle_long_message(eio_sid, data)
            else:
                await self._handle_eio_message(eio_sid, data)
            incomplete = self._binary_packet.get(eio_sid)
            malformed = incomplete is not None and incomplete.attachment_count > MAX_ATTACHMENTS
        except Exception as error:  # noqa: BLE001 - whatever the parser raises ends this connection, and no other
            _log.debug("Malformed packet on connection %s: %s.", eio_sid, type(error).__name__)
            malformed = True
        if malformed:  # a packet that is not Socket.IO can't be acknowledged in Socket.IO
            self._binary_packet.pop(eio_sid, None)
            self.drop(eio_sid)

    async def _may_handle(self, eio_sid: str, data: str | bytes) -> bool:
        """Count a packet: by its user if it is a command, else by its connection. Return whether it is handled.

        A command that is not is answered.
        """
        client = self.gateway.clients.get(eio_sid)
        if client is None:
            packets = self._packets_before_auth[eio_sid] = self._packets_before_auth.get(eio_sid, 0) + 1
            if packets > MAX_PACKETS_BEFORE_AUTH or len(data) > MAX_BYTES_BEFORE_AUTH:
                if packets == 1 and isinstance(data, str) and data.startswith("0{"):
                    await self._handle_eio_message(eio_sid, _LONG_TOKEN)
                self.drop(eio_sid)
                return False
            return True
        if isinstance(data, bytes) or data[:1] not in ("2", "5") or data[1:2] == "/":
            self.gateway.charge(client, len(data))
            return client.identity.is_process_owner or await self._admit(eio_sid)
        refusal = self.gateway.check_rate(client, len(data))
        if refusal is None:
            return True
        # One socket's commands are handled in order, so the delay slows down this socket and no other.
        await asyncio.sleep(RATE_LIMIT_DELAY_S * (1 + len(data) / DELAYED_BYTES))
        self._refuse(client, data, refusal)
        return False

    def _refuse(self, client: ConnectedClient, data: str, error: HarmoniaError) -> None:
        """Answer a command that is not even parsed."""
        head = _EVENT_HEAD.match(data)
        if head is None:
            self.drop(client.eio_sid)
            return
        answer = self.gateway.refuse(client, head[2], [], error, has_callback=head[1] is not None)
        if head[1] is not None:
            self.wire.send(client, EncodedMessage.ack(int(head[1]), answer))

    async def _handle_long_message(self, eio_sid: str, data: str) -> None:
        """Handle an event: nothing else that is accepted is as long. Raise ValueError for anything else."""
        client = self.gateway.clients[eio_sid]
        async with self._long_message:
            await asyncio.sleep(0)  # others have a turn between two of these
            try:
                check_text(data)
            except InvalidRequest as error:
                self._refuse(client, data, error)
                return
            packet = self.packet_class(encoded_packet=data)
        if packet.packet_type != socketio.packet.EVENT or eio_sid in self._binary_packet:
            raise ValueError("not an event")
        await self._handle_event(eio_sid, packet.namespace, packet.id, packet.data)

    def _engineio_server_class(self) -> type[EngineServer]:
        return EngineServer
