"""Who is connected: the handshake, the end of a token, and the end of a connection.

Owns the clients by connection, how many of them a user may have, and the timers of their tokens. `gateway.py` adds what
the clients ask for, and `transport.py` has the connections themselves.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from socketio.exceptions import ConnectionRefusedError as HandshakeRefused

from harmonia_lab.errors import Refused
from harmonia_lab.protocol import events, wire_model
from harmonia_lab.server.audit import Audit
from harmonia_lab.server.auth import Identity, Tokens
from harmonia_lab.server.client_address import ClientAddresses
from harmonia_lab.server.connected_client import ConnectedClient
from harmonia_lab.server.delivery import Delivery
from harmonia_lab.server.rate_limit import rate_limited
from harmonia_lab.server.rooms import Rooms
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.store.metrics import Metrics

__all__ = ["FEATURES", "Sessions"]

FEATURES = [
    "acks",
    "replay",
    "start-generation",
    "retry-generation",
    "share-generation",
    "song-archives",
    "refresh-token",
    "jobs",
    "job-pages",
    "downloads",
    "audio-options",
    "sounds",
]
"""What this server can do beyond the guide."""

EXPIRY_WARNING_S = 60.0
"""Seconds before a token expires at which its socket is warned. With less than 120 s left, half of them."""

SOCKETS_RETRY_S = 5.0
"""Seconds after which a user with too many sockets should try again."""

# The Host header goes into download links, so only a plain host[:port] is trusted.
_HOST = re.compile(r"[A-Za-z0-9._\-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")

_REASONS = {
    "client disconnect": "client",
    "server disconnect": "server",
    "ping timeout": "ping_timeout",
    "transport close": "transport_closed",
    "transport error": "transport_error",
}
"""The library's reasons, as labels of a metric."""

_log = logging.getLogger(__name__)


class Sessions:
    """Everything runs in the server's event loop."""

    def __init__(
        self,
        settings: ServerSettings,
        tokens: Tokens,
        metrics: Metrics,
        *,
        rooms: Rooms,
        delivery: Delivery,
        close: Callable[[ConnectedClient], None],
        audit: Audit,
        addresses: ClientAddresses,
    ) -> None:
        """close: disconnects a client. audit: where connections are logged."""
        self.clients: dict[str, ConnectedClient] = {}
        """By Engine.IO id."""
        self.url = ""
        """The server's own, for clients whose request doesn't say by which they reached it."""
        self.audit = audit
        self._settings, self._tokens, self._metrics = settings, tokens, metrics
        self._rooms, self._delivery, self._close, self._addresses = rooms, delivery, close, addresses
        self._sockets_of: Counter[str] = Counter()

    @property
    def user_count(self) -> int:
        """Users with a socket."""
        return len(self._sockets_of)

    async def connect(self, sid: str, eio_sid: str, engine: Any, request: web.Request, auth: object) -> None:
        """Authenticate a connection. Raise socketio's ConnectionRefusedError, which the client receives as
        `connect_error` with the reason."""
        token = auth.get("token") if isinstance(auth, dict) else None
        if token is None:
            token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        address, identity = self._addresses.of(request), None
        try:
            identity = self._tokens.check(token)
            self._check_sockets(identity)
        except Refused as error:
            self._metrics.failed(error.code)
            self._metrics.count("refused_connections_total", error.code)
            self.audit.connection("connect", error.code, sid, identity, address=address, why=error.message)
            _log.info("A connection from %s was refused: %s", address, error.message)
            raise HandshakeRefused(str(error), events.ErrorInfo.of(error).to_wire()) from None
        self._sockets_of[identity.user] += 1
        self.clients[eio_sid] = ConnectedClient(sid, eio_sid, engine, identity, self.base_url(request))
        self._metrics.connected()
        self.audit.connection("connect", "ok", sid, identity, address=address)
        _log.info("Socket %s: %s has connected.", sid, identity.user)

    def _check_sockets(self, identity: Identity) -> None:
        if self._sockets_of[identity.user] >= self._settings.max_sockets_per_user and not identity.is_process_owner:
            raise rate_limited("You have too many connections.", SOCKETS_RETRY_S)

    def send_hello(self, client: ConnectedClient) -> None:
        """Send `server-hello`, once for each connection, and set the timers for the token's expiry."""
        if client.hello_sent:
            return
        client.hello_sent = True
        user = events.User(id=client.identity.user, roles=list(client.identity.roles))
        hello = events.ServerHello(protocol_version=wire_model.PROTOCOL_VERSION, features=FEATURES, user=user)
        self._delivery.send_direct(client, hello)
        self._schedule_expiry(client)

    def disconnect(self, eio_sid: str, reason: str = "") -> None:
        """reason: why, in the library's words."""
        client = self.clients.pop(eio_sid, None)
        if client is None:
            return
        why = client.why_ended or reason or None
        self.audit.connection("disconnect", "ok", client.sid, client.identity, why=why)
        for timer in client.timers:
            timer.cancel()
        self._sockets_of[client.identity.user] -= 1
        if not self._sockets_of[client.identity.user]:
            del self._sockets_of[client.identity.user]
        self._put_out(client)
        self._metrics.disconnected(client.why_ended or _REASONS.get(reason, ""))
        self._metrics.set_rooms(len(self._rooms))

    def _end_revoked(self) -> None:
        """Close the sockets whose tokens were revoked, in whatever process."""
        connected = [client for client in self.clients.values() if not client.ended]
        revoked = self._tokens.revoked_among(client.identity for client in connected)
        for client in connected:
            if client.identity in revoked:
                self.audit.connection("revoked", "ok", client.sid, client.identity)
                client.why_ended = "revoked"
                self._put_out(client)
                self._close(client)

    def _put_out(self, client: ConnectedClient) -> None:
        """Send the client no more events, and carry out no more of its commands, also of those that wait already."""
        client.ended = True
        self._rooms.leave_all(client)
        self._delivery.forget(client)

    def _schedule_expiry(self, client: ConnectedClient) -> None:
        """Set the timers that warn the client before its token expires, and disconnect it then."""
        for timer in client.timers:
            timer.cancel()
        loop = asyncio.get_running_loop()
        left_s = client.identity.expires_at - time.time()
        warn_in = max(left_s - EXPIRY_WARNING_S, left_s / 2)
        client.timers = [loop.call_later(warn_in, self._warn, client), loop.call_later(left_s, self._expire, client)]

    def _expire(self, client: ConnectedClient) -> None:
        client.why_ended = "token_expired"
        self._close(client)

    def _warn(self, client: ConnectedClient) -> None:
        expires_at = datetime.fromtimestamp(client.identity.expires_at, UTC)
        self._delivery.send_direct(client, events.TokenExpiring(expires_at=expires_at))

    def base_url(self, request: web.Request) -> str:
        """Return the URL by which the client reached the server: download URLs with it work for the client."""
        if self._settings.public_url is not None:
            return self._settings.public_url.rstrip("/")
        host = request.headers.get("Host", "")
        return f"{self._settings.scheme}://{host}" if _HOST.fullmatch(host) else self.url
