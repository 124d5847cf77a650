"""The server inside a running process, such as a Jupyter kernel: in a thread with an event loop of its own.

Owns that thread, the interpreter's switch interval while the server runs, and the handle that a caller keeps. `app.py`
is what runs in the loop.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import sys
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harmonia_lab.errors import HarmoniaError, InvalidRequest
from harmonia_lab.server.app import App
from harmonia_lab.server.audit import AUDIT_FILE, AuditLog
from harmonia_lab.server.auth import Tokens
from harmonia_lab.server.keys import KEY_BYTES, KeyFile, PublicKeyFile
from harmonia_lab.server.page import LINK_TTL_S, page_link
from harmonia_lab.server.revocations import REVOKED_FILE, Revocations
from harmonia_lab.server.served_lab import ServedLab
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.server.signed_urls import SignedUrls
from harmonia_lab.storage import expanded
from harmonia_lab.store.metrics import Readings
from harmonia_lab.waiting import join, wait_for

if TYPE_CHECKING:
    from harmonia_lab.store.shared.redis_journal import RedisJournal

__all__ = ["KEY_FILE", "Server", "ServerSettings", "key_path", "new_tokens"]

KEY_FILE = "token.key"
START_S = STOP_S = 15.0

T = TypeVar("T")
_log = logging.getLogger(__name__)


def key_path(settings: ServerSettings, home: Path) -> Path:
    """Return the file of the key that signs tokens under `settings`."""
    return expanded(settings.key) if settings.key else home / KEY_FILE


def new_tokens(settings: ServerSettings, home: Path, shared: RedisJournal | None = None) -> Tokens:
    """Return what issues and checks tokens under `settings`. shared: the journal that other servers share.

    Raise InvalidRequest or StorageError for a bad key, or one that the other servers don't have.
    """
    owner_key = bytes.fromhex(settings.owner_key) if settings.owner_key is not None else None
    options: dict[str, Any] = {"audience": settings.audience, "issuer": settings.issuer, "owner_key": owner_key}
    options["revocations"] = _revocations(home, shared)
    if shared is not None and settings.public_keys is None:
        check_shared_key(shared, KeyFile(key_path(settings, home))(), key_path(settings, home))
    if settings.public_keys is not None:
        return Tokens(public=PublicKeyFile(Path(settings.public_keys)), **options)
    return Tokens(keys=KeyFile(key_path(settings, home)), **options)


def _revocations(home: Path, shared: RedisJournal | None) -> Revocations:
    if shared is None:
        return Revocations(home / REVOKED_FILE)
    from harmonia_lab.server.shared_revocations import SharedRevocations  # noqa: PLC0415 - Redis loads where it is used

    return SharedRevocations(shared.connection, home / REVOKED_FILE)


def check_shared_key(shared: RedisJournal, keys: Sequence[bytes], path: Path) -> None:
    """Raise InvalidRequest if a server that shares the journal signs with a key that is none of `keys`. Else tell the
    others which key this one signs with, by a digest."""
    digests = [hmac.digest(key, b"harmonia-lab servers with one key", "sha256").hex() for key in keys]
    for about in shared.connection.servers():
        if (other := about.get("key")) is not None and other not in digests:
            raise InvalidRequest(
                f"A server at {shared.connection.label} signs its tokens with another key than {path}: what one issues,"
                " the other would refuse.",
                hint="Copy that server's token.key to this machine, or name it: HARMONIA_TOKEN_KEY.",
                details={"fields": ["key", "redis"]},
            )
    shared.lease.tell(key=digests[0])


def _new_urls(settings: ServerSettings, home: Path) -> SignedUrls:
    if settings.public_keys is None:
        return SignedUrls(KeyFile(key_path(settings, home)), settings.link_ttl_s)
    secret = secrets.token_bytes(KEY_BYTES)  # this server has no key of its own
    return SignedUrls(lambda: (secret,), settings.link_ttl_s)


def _new_audit(settings: ServerSettings, home: Path) -> AuditLog | None:
    if not settings.audit:
        return None
    path = home / AUDIT_FILE if settings.audit is True else expanded(settings.audit)
    return AuditLog(path, max_bytes=settings.audit_bytes, kept=settings.audit_files)


class Server:
    """A running server. `url`, `token(user)`, `revoke(user)`, `metrics()`, `stop()`."""

    running = False

    def __init__(self, lab: ServedLab, settings: ServerSettings, home: Path) -> None:
        """Start the server, and return once it listens. home: the state folder, where the key is.

        Raise InvalidRequest if the port is taken or a setting can't be used, StorageError if `home` can't.
        """
        settings.check_encryption()
        self.settings = settings
        self._lab = lab
        self._tokens = new_tokens(settings, home, lab.shared)
        urls = _new_urls(settings, home)
        self._audit = _new_audit(settings, home)
        try:
            self._app = App(lab, settings, self._tokens, urls, self._audit)
        except BaseException:
            self._end_audit()
            raise
        self._loop = _new_loop()
        self._stopping = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="harmonia-server", daemon=True)
        self._switch_interval = sys.getswitchinterval()
        self._thread.start()
        try:
            self.url: str = self._in_loop(self._app.start(), START_S)
        except BaseException:
            self._end_loop()
            self._end_audit()
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
        return self._tokens.issue(user, tuple(roles), ttl).token

    def link(self, user: str = "local", ttl: float = LINK_TTL_S) -> str:
        """Return the address of the page in a browser, with a token for `user` in its fragment. ttl: seconds.

        Raise InvalidRequest if the page is off, or another service issues the tokens.
        """
        return page_link(self.settings.page_at(self.url), self.token(user, ttl=ttl))

    def revoke(self, user: str | None = None, *, token_id: str | None = None) -> None:
        """Revoke every token that `user` got before now, or the one with the id `token_id` (its claim `jti`). Within a
        second, their sockets are closed and their links end, on every server of this state folder.

        Raise InvalidRequest unless one of the two is given, StorageError if it can't be written down.
        """
        self._tokens.revoke(user, token_id)

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
                self._end_audit()

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

    def _end_audit(self) -> None:
        if self._audit is not None:
            self._audit.close()

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
