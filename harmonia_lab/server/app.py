"""One server's parts, put together: sockets, rooms, delivery, commands and HTTP, on one event loop.

Owns who knows whom, and the order of start and stop. The thread is `server_thread.py`'s.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable

from aiohttp import web

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.server.auth import Tokens
from harmonia_lab.server.connected_client import Client
from harmonia_lab.server.delivery import Delivery
from harmonia_lab.server.gateway import Gateway, Studio
from harmonia_lab.server.http import Api
from harmonia_lab.server.rooms import Access, Rooms
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.server.signed_urls import Links
from harmonia_lab.server.thread_bridge import Crossing
from harmonia_lab.server.transport import SocketServer

__all__ = ["App"]

BACKLOG = 2048
"""Connections that the system may hold before they are accepted: a reload of many pages comes at once."""

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what listens on all addresses listens on loopback


class App:
    """`await start()`, `await stop()`, both in one event loop."""

    def __init__(self, studio: Studio, settings: ServerSettings, tokens: Tokens, links: Links) -> None:
        self._studio, self._settings, self._tokens, self._links = studio, settings, tokens, links
        self._runner: web.AppRunner | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self.local_url = ""
        """Where this very machine reaches it."""

    async def start(self) -> str:
        """Listens, and returns its URL. Raises InvalidRequest where the port can't be had."""
        settings, studio = self._settings, self._studio
        context = _tls(settings)
        self._sockets = sockets = SocketServer(settings)
        rooms = Rooms()
        access = Access(studio.journal.state)

        def drop(client: Client) -> None:
            sockets.drop(client.eio_sid)

        delivery = Delivery(
            wire=sockets.wire,
            rooms=rooms,
            journal=studio.journal,
            metrics=studio.metrics,
            link=self._link,
            drop=drop,
        )
        self.gateway = sockets.gate = Gateway(
            studio, settings, self._tokens, rooms=rooms, access=access, delivery=delivery, close=sockets.close
        )
        api = Api(studio, settings, self._tokens, self._links, self.gateway)
        app = api.application()
        sockets.attach(app, settings.path)
        # Nothing that a client sends is unpacked: a megabyte that unpacks to a thousand would hold up everybody.
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.5, handler_cancellation=True, auto_decompress=False
        )
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, settings.host, settings.port, ssl_context=context, backlog=BACKLOG, reuse_address=True
        )
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise _cannot_listen(settings, error) from None
        address, port = self._runner.addresses[0][:2]
        self.local_url = _url(settings.scheme, _LOOPBACK.get(address, address), port)
        self.gateway.url = url = settings.public_url or _url(settings.scheme, settings.host, port)
        crossing = Crossing(asyncio.get_running_loop(), delivery, settings.progress_interval_s)
        self._unsubscribe = studio.events.subscribe(crossing)
        return url

    async def stop(self) -> None:
        """Takes nothing more, lets clients go (they will come back to the next server), and closes."""
        self._unsubscribe()
        for site in list(self._runner.sites) if self._runner is not None else []:
            await site.stop()  # first: who is let go comes back at once, but not to this one
        await self._sockets.drop_all()
        if self._runner is not None:
            await self._runner.cleanup()

    def _link(self, client: Client, generation_id: str, owner: str) -> str:
        return client.base_url + self._links.sign(f"/api/generations/{generation_id}/audio", owner)


def _url(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _tls(settings: ServerSettings) -> ssl.SSLContext | None:
    if settings.certificate is None or settings.private_key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.certificate, settings.private_key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidRequest(
            f"The certificate {settings.certificate} or its key {settings.private_key} cannot be used: {error}.",
            details={"fields": ["certificate", "private_key"]},
        ) from None
    return context


def _cannot_listen(settings: ServerSettings, error: OSError) -> InvalidRequest:
    where = f"{settings.host}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return InvalidRequest(
            f"Port {settings.port} is taken.",
            hint="Stop what uses it (an earlier cell's `server.stop()`), or choose another: port=0 finds a free one.",
            details={"fields": ["port"]},
        )
    return InvalidRequest(
        f"The server cannot listen on {where}: {error.strerror}.", details={"fields": ["host", "port"]}
    )
