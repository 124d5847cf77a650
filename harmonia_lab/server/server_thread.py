"""The server inside a running process, such as a Jupyter kernel: in a thread with an event loop of its own.

Owns that thread, the interpreter's switch interval while the server runs, and the handle that a caller keeps. `app.py`
is what runs in the loop.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from harmonia_lab.errors import HarmoniaError
from harmonia_lab.server.app import App
from harmonia_lab.server.auth import KEY_BYTES, Tokens, public_keys, read_key
from harmonia_lab.server.gateway import ServedLab
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.server.signed_urls import SignedUrls
from harmonia_lab.store.metrics import Readings
from harmonia_lab.waiting import join, wait_for

__all__ = ["KEY_FILE", "Server", "ServerSettings", "new_tokens"]

KEY_FILE = "token.key"
START_S = STOP_S = 15.0

T = TypeVar("T")
_log = logging.getLogger(__name__)


def new_tokens(settings: ServerSettings, home: Path) -> Tokens:
    """Return what issues and checks tokens under `settings`. Raise InvalidRequest or StorageError for a bad key."""
    owner_key = bytes.fromhex(settings.owner_key) if settings.owner_key is not None else None
    options: dict[str, Any] = {"audience": settings.audience, "issuer": settings.issuer, "owner_key": owner_key}
    if settings.public_keys is not None:
        return Tokens(public=public_keys(Path(settings.public_keys)), **options)
    return Tokens(key=_read_key(settings, home), **options)


def _read_key(settings: ServerSettings, home: Path) -> bytes:
    return read_key(Path(settings.key).expanduser() if settings.key else home / KEY_FILE)


class Server:
    """A running server. `url`, `token(user)`, `metrics()`, `stop()`."""

    running = False

    def __init__(self, lab: ServedLab, settings: ServerSettings, home: Path) -> None:
        """Start the server, and return once it listens. home: the state folder, where the key is.

        Raise InvalidRequest if the port is taken or a setting can't be used, StorageError if `home` can't.
        """
        self.settings = settings
        self._lab = lab
        self._tokens = new_tokens(settings, home)
        key = _read_key(settings, home) if settings.public_keys is None else secrets.token_bytes(KEY_BYTES)
        self._app = App(lab, settings, self._tokens, SignedUrls(key, settings.link_ttl_s))
        self._loop = _new_loop()
        self._stopping = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="harmonia-server", daemon=True)
        self._switch_interval = sys.getswitchinterval()
        self._thread.start()
        try:
            self.url: str = self._in_loop(self._app.start(), START_S)
        except BaseException:
            self._end_loop()
            raise
        if settings.switch_interval_s is not None:
            sys.setswitchinterval(settings.switch_interval_s)
        self.running = True
        _log.info("Serving at %s.", self.url)

    @property
    def local_url(self) -> str:
        """The URL that works on this machine, whatever `url` tells other machines."""
        return self._app.local_url

    def token(self, user: str = "local", roles: tuple[str, ...] = (), ttl: float = 3600.0) -> str:
        """Return a token with which a client connects as `user`. ttl: seconds. roles: ("admin",) sees all users' jobs.

        Songs that the lab itself makes belong to the user "local".
        """
        return self._tokens.issue(user, tuple(roles), ttl)

    def metrics(self) -> Readings:
        """Return the guide's metrics: connections, active generations, messages sent, errors, latency."""
        return self._lab.metrics.readings()

    def stop(self) -> None:
        """Disconnect the clients and free the port. Idempotent. Songs in progress go on."""
        with self._stopping:
            if not self.running:
                return
            self.running = False
            own = self.settings.switch_interval_s
            if own is not None and abs(sys.getswitchinterval() - own) < 1e-6:  # else the user has set another one since
                sys.setswitchinterval(self._switch_interval)
            try:
                self._in_loop(self._app.stop(), STOP_S)
            finally:
                self._end_loop()

    def __repr__(self) -> str:
        return f"Server({self.url if self.running else 'stopped'})"

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop):  # at the end, it cancels pings and downloads
            self._loop.run_forever()

    def _in_loop(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Run `work` in the server's loop and wait for its result. An interrupt gets through."""
        done = threading.Event()
        outcome = asyncio.run_coroutine_threadsafe(work, self._loop)
        outcome.add_done_callback(lambda _: done.set())
        wait_for(done, timeout_s)
        if not outcome.done():
            outcome.cancel()
            raise HarmoniaError(f"The server did not answer within {timeout_s:g} s.", hint="Restart the kernel.")
        return outcome.result()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        join(self._thread, STOP_S)


def _new_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's loop if it is installed: it takes a third of the time for the same messages."""
    try:
        import uvloop  # noqa: PLC0415 - not available on every system
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
