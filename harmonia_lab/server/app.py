"""The parts of one server, connected: sockets, rooms, delivery, commands and HTTP, on one event loop.

Owns which part gets which other, and the order of start and stop. `server_thread.py` owns the thread.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterable
from functools import partial

from aiohttp import web

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.protocol.events import rooms_of
from harmonia_lab.server.audit import Audit, AuditLog
from harmonia_lab.server.auth import Tokens
from harmonia_lab.server.client_address import ClientAddresses
from harmonia_lab.server.connections import Connections, GuardedSite
from harmonia_lab.server.delivery import Delivery
from harmonia_lab.server.gateway import Gateway
from harmonia_lab.server.health import Health
from harmonia_lab.server.http import HttpApi
from harmonia_lab.server.log_limits import handle_loop_error
from harmonia_lab.server.observed import observe
from harmonia_lab.server.origins import Origins
from harmonia_lab.server.room_expiry import RoomExpiry
from harmonia_lab.server.rooms import Rooms
from harmonia_lab.server.served_lab import ServedLab
from harmonia_lab.server.settings import ServerSettings, server_url
from harmonia_lab.server.signed_urls import SignedUrls
from harmonia_lab.server.thread_bridge import ThreadBridge
from harmonia_lab.server.tls import Certificate
from harmonia_lab.server.transport import SocketServer
from harmonia_lab.server.watch import Source, Watch
from harmonia_lab.server.webhook import Webhook
from harmonia_lab.store.exposition import MetricFamily
from harmonia_lab.store.process_metrics import ProcessMetrics

__all__ = ["App"]

BACKLOG = 2048
"""Connections that the operating system may queue before they are accepted: many pages reload at the same time."""

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - a server on all addresses listens on loopback too


class App:
    """`await start()`, `await stop()`, both in one event loop."""

    def __init__(
        self,
        lab: ServedLab,
        settings: ServerSettings,
        tokens: Tokens,
        urls: SignedUrls,
        audit_log: AuditLog | None = None,
    ) -> None:
        self._lab, self._settings, self._tokens = lab, settings, tokens
        self._certificate = None
        if settings.certificate is not None and settings.private_key is not None:
            self._certificate = Certificate(settings.certificate, settings.private_key)
        addresses = ClientAddresses(settings.trusted_proxies)
        audit, self._audit_log = Audit(audit_log, addresses), audit_log
        self._connections = Connections(settings, addresses, lab.metrics, audit)
        self._origins = Origins(settings.origins)
        self._sockets = SocketServer(settings, addresses, lab.metrics, self._origins)
        self._webhook = Webhook(settings.webhook, partial(lab.metrics.count, "webhook_calls_total"))
        self._health = Health(lab, self._connections.descriptors)
        self._rooms = rooms = Rooms()
        expiry = RoomExpiry(rooms, kept_s=settings.room_kept_s, failed_kept_s=settings.failed_room_kept_s)
        self._delivery = Delivery(
            wire=self._sockets.wire, rooms=rooms, journal=lab.journal, metrics=lab.metrics, urls=urls, expiry=expiry
        )
        self.gateway = self._sockets.gateway = Gateway(
            lab,
            settings,
            tokens,
            urls,
            rooms=rooms,
            delivery=self._delivery,
            expiry=expiry,
            close=self._sockets.close,
            audit=audit,
            addresses=addresses,
            webhook=self._webhook,
        )
        api = self._api = HttpApi(lab, settings, tokens, urls, self.gateway, addresses, self._health, self._origins)
        self._rules, app = api.rules, api.application()
        self._sockets.attach(app, settings.path)
        self._runner = web.AppRunner(app, shutdown_timeout=0.5, handler_cancellation=True)
        self.local_url = ""
        """The URL that works on this machine."""

    async def start(self) -> str:
        """Listen, and return the URL. Raise InvalidRequest if the port can't be used."""
        settings = self._settings
        # In a thread, since it looks at each source, which may be at another machine.
        self._watch = await asyncio.to_thread(Watch, asyncio.get_running_loop(), self._sources())
        try:
            await self._listen()
        except BaseException:
            self._watch.stop()
            raise
        address, port = self._runner.addresses[0][:2]
        self.local_url = server_url(settings.scheme, _LOOPBACK.get(address, address), port)
        self.gateway.url = settings.url(port)
        if settings.page:
            self._origins.allow_own((self.gateway.url, self.local_url))
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(handle_loop_error)
        bridge = ThreadBridge(loop, self._delivery, settings.progress_interval_s)
        self._ends = [
            self._lab.events.subscribe(bridge),
            *self._share_with_others(bridge),
            self._lab.events.subscribe(self._health),
            self._lab.events.subscribe(self._webhook),
            self._lab.metrics.add_source(ProcessMetrics()),
            self._lab.metrics.add_source(self._observed(bridge)),
        ]
        self._health.engines()  # asked now, their state is known to the first who wants it
        return self.gateway.url

    async def stop(self) -> None:
        """Stop listening, disconnect the clients (they reconnect to the next server), and close."""
        for end in self._ends:
            end()
        self._watch.stop()
        for site in list(self._runner.sites):
            await site.stop()  # before the clients are disconnected, because they reconnect at once
        await self._sockets.drop_all()
        await self._runner.cleanup()
        self.gateway.close()
        await asyncio.gather(asyncio.to_thread(self._webhook.close), asyncio.to_thread(self._health.close))

    def _share_with_others(self, bridge: ThreadBridge) -> list[Callable[[], None]]:
        """Let other servers of the same Redis know this one, and deliver what their songs do. Return what ends that."""
        shared = self._lab.shared
        if shared is None:
            return []
        from harmonia_lab.server.shared_rates import SharedRates  # noqa: PLC0415 - Redis loads where it is used

        gateway, api = self.gateway, self._api
        buckets = {"costs": gateway.costs, "starts": gateway.starts, "shares": gateway.sharing.changes}
        rates = SharedRates(shared.feed, buckets | {"calls": api.calls, "uploads": api.sounds.uploads})
        rates.start()
        everything = shared.wanted
        shared.wanted = lambda event, owner: self._rooms.occupied(rooms_of(event, owner))
        shared.lease.tell(url=self.gateway.url)
        wants_everything = partial(setattr, shared, "wanted", everything)
        return [rates.stop, wants_everything, shared.elsewhere_events.subscribe(bridge)]

    def _observed(self, bridge: ThreadBridge) -> Callable[[], Iterable[MetricFamily]]:
        return observe(
            connections=self._connections,
            sockets=self._sockets,
            gateway=self.gateway,
            rules=self._rules,
            bridge=bridge,
            health=self._health,
            audit_log=self._audit_log,
        )

    def _sources(self) -> list[Source]:
        """Return what other processes change: revoked tokens, shares, and the certificate."""
        gateway = self.gateway
        sources = [
            Source(lambda: self._tokens.revocations_stamp, gateway.close_revoked),
            Source(self._lab.journal.shares.last_change, gateway.sharing.catch_up_soon),
        ]
        if self._certificate is not None:
            sources.append(Source(self._certificate.look, self._certificate.reload))
        return sources

    async def _listen(self) -> None:
        host, port = self._settings.host, self._settings.port
        context = None if self._certificate is None else self._certificate.context
        await self._runner.setup()
        site = GuardedSite(
            self._runner, self._connections, host, port, ssl_context=context, backlog=BACKLOG, reuse_address=True
        )
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise _cannot_listen(self._settings, error) from None


def _cannot_listen(settings: ServerSettings, error: OSError) -> InvalidRequest:
    if error.errno == errno.EADDRINUSE:
        return InvalidRequest(
            f"Port {settings.port} is taken.",
            hint="Stop what uses it (an earlier cell's `server.stop()`), or choose another: port=0 finds a free one.",
            details={"fields": ["port"]},
        )
    return InvalidRequest(
        f"The server cannot listen on {settings.host}:{settings.port}: {error.strerror}.",
        details={"fields": ["host", "port"]},
    )
