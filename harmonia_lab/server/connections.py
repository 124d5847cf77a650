"""TCP connections: how many there may be, how long a client may take to say what it wants, and the answer to a
request that is no HTTP.

Owns the caps (in all, for each address, by descriptors) and the times for headers, handshakes and idle connections.
`http.py` answers requests, and `transport.py` owns Socket.IO connections. It depends on internals of aiohttp's
`RequestHandler`, which tests/server/test_connections.py checks over real sockets.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from http import HTTPStatus
from typing import Any, cast

from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestHandler

from harmonia_lab.errors import ErrorCode, HarmoniaError
from harmonia_lab.protocol.codec import error_ack
from harmonia_lab.server.audit import Audit
from harmonia_lab.server.client_address import ClientAddresses
from harmonia_lab.server.descriptors import Descriptors
from harmonia_lab.server.log_limits import library_log
from harmonia_lab.server.rate_limit import rate_limited
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.store.metrics import Metrics

__all__ = ["Connections", "GuardedSite"]

RETRY_AFTER_S = 5
"""Seconds after which a client whom no connection was given should try again."""

LINGER_S = 0.2
"""Seconds for such a client to read why."""

RECEIVE_BUFFER = 16 * 1024
"""Bytes that the system may receive before they are read, doubled by Linux. Ten thousand small frames that are read at
once are parsed at once, and all clients wait meanwhile."""

UNREAD_BODY_S = 2.0
"""Seconds for the rest of a body that no route has read."""


class Connections:
    """The open TCP connections, counted."""

    def __init__(self, settings: ServerSettings, addresses: ClientAddresses, metrics: Metrics, audit: Audit) -> None:
        self.settings, self._addresses, self._metrics, self._audit = settings, addresses, metrics, audit
        self.descriptors = Descriptors()
        self.total = 0
        """Connections that are open."""
        self.received_bytes = 0
        self._by_address: Counter[str] = Counter()

    def enter(self, transport: asyncio.Transport) -> HarmoniaError | None:
        """Count a connection. Return the error, and count nothing, if there are too many."""
        settings, address = self.settings, _peer(transport)
        most, full = settings.max_connections_per_address, "This server has as many connections as it can take."
        if self.descriptors.are_scarce(_descriptor(transport)):
            return self._refused(address, "descriptors", full)
        if self.total >= settings.max_tcp_connections:
            return self._refused(address, "server_full", full)
        if self._by_address.get(address, 0) >= most and self._addresses.is_limited(address):
            return self._refused(address, "address", f"There are {most} connections from your address already.")
        self.total += 1
        self._by_address[address] += 1
        return None

    def _refused(self, address: str, reason: str, message: str) -> HarmoniaError:
        error = rate_limited(message, RETRY_AFTER_S)
        self.count_refused(address, reason, error)
        return error

    def count_refused(self, address: str, reason: str, error: HarmoniaError) -> None:
        """Count and log a connection whose client gets `error`. reason: in a word."""
        self._metrics.failed(error.code)
        self._metrics.count("refused_connections_total", reason)
        self._audit.refused_connection(address, str(error.code), reason)

    def leave(self, address: str) -> None:
        self.total -= 1
        self._by_address[address] -= 1
        if self._by_address[address] <= 0:
            del self._by_address[address]


class GuardedSite(web.TCPSite):
    """Listens, and gives each connection a `_GuardedHandler`."""

    __slots__ = ("_connections",)

    def __init__(self, runner: web.AppRunner, connections: Connections, *args: Any, **options: Any) -> None:
        super().__init__(runner, *args, **options)
        self._connections = connections

    async def start(self) -> None:
        await web.BaseSite.start(self)
        loop, server = asyncio.get_running_loop(), self._runner.server
        assert server is not None
        settings = self._connections.settings

        def handler() -> _GuardedHandler:
            return _GuardedHandler(
                server,
                self._connections,
                loop=loop,
                keepalive_timeout=settings.idle_timeout_s,
                lingering_time=UNREAD_BODY_S,
                access_log=None,
                logger=library_log("aiohttp"),
                # Bodies are not decompressed: one megabyte may become a thousand, in the loop that all clients share.
                auto_decompress=False,
            )

        tls: dict[str, Any] = {}
        if self._ssl_context is not None:
            tls["ssl_handshake_timeout"] = settings.read_timeout_s
        self._server = await loop.create_server(
            handler,
            self._host,
            self._port,
            ssl=self._ssl_context,
            backlog=self._backlog,
            reuse_address=self._reuse_address,
            **tls,
        )


class _GuardedHandler(RequestHandler):
    """aiohttp's connection, which must bring its first request in time, and whose errors say nothing of their cause."""

    def __init__(self, server: web.Server, connections: Connections, **options: Any) -> None:
        super().__init__(server, **options)
        self._connections = connections
        self._address: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's own class is none of asyncio's
        refused = self._connections.enter(transport)
        if refused is not None:
            self._refuse(transport, refused)
            return
        self._address = _peer(transport)
        own = transport.get_extra_info("socket")
        if own is not None:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        super().connection_made(transport)
        if self._keepalive_handle is not None:
            self._keepalive_handle.cancel()
        # aiohttp waits as long for the first request as for the next one. Half a request does not extend the time.
        due = self._loop.time() + self._connections.settings.read_timeout_s
        self._next_keepalive_close_time = due
        self._keepalive_handle = self._loop.call_at(due, self._process_keepalive)

    def data_received(self, data: bytes) -> None:
        self._connections.received_bytes += len(data)
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._address is not None:
            self._connections.leave(self._address)
            self._address = None
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that aiohttp could not read, or whose handler has failed outside of the application."""
        del message  # it quotes what the client sent
        self.log_exception("Error handling request", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the answer is sent already")
        if status >= 500:
            failure = HarmoniaError("A defect in the server.", hint="Its log has the details.")
        else:
            failure = HarmoniaError("This is no HTTP request that can be read.", code=ErrorCode.INVALID_PAYLOAD)
        self._connections.count_refused(self._address or "", "unreadable", failure)
        response = _Nameless(body=_body(failure), status=status, content_type="application/json", charset="utf-8")
        response.force_close()
        return response

    def _refuse(self, transport: asyncio.Transport, error: HarmoniaError) -> None:
        """Say why there is no connection, and close it."""
        self._force_close = True  # what the client sends is not read
        status, body = HTTPStatus.SERVICE_UNAVAILABLE, _body(error)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nRetry-After: {RETRY_AFTER_S}\r\nConnection: close\r\n\r\n"
        )
        transport.write(head.encode() + body)
        # Closed at once, with a request unread, the connection would be reset before the client has read the answer.
        self._loop.call_later(LINGER_S, transport.abort)


class _Nameless(web.Response):
    """A response without the header that names aiohttp and its version."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.pop(hdrs.SERVER, None)


def _body(error: HarmoniaError) -> bytes:
    return json.dumps(error_ack(error), ensure_ascii=False, separators=(",", ":")).encode()


def _peer(transport: asyncio.Transport) -> str:
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""


def _descriptor(transport: asyncio.Transport) -> int:
    """Return the number of the connection's descriptor; -1 if it has closed meanwhile."""
    own = transport.get_extra_info("socket")
    return -1 if own is None else int(own.fileno())
