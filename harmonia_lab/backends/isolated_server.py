"""`IsolatedServer`: a server in a process of its own, as the kernel sees it.

Owns the kernel's connection to that process, and the thread that reads its events (`server_process.py` starts and ends
the process). It has the public methods of
`server.server_thread.Server`. `process.py` owns the songs that the kernel asks it for.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import httpx

from harmonia_lab.backends.base import LOCAL_USER
from harmonia_lab.backends.serve_settings import LabSettings, ServeSettings
from harmonia_lab.backends.server_process import Child
from harmonia_lab.client import Backoff, BlockingClient
from harmonia_lab.errors import Disconnected, HarmoniaError, InvalidRequest
from harmonia_lab.protocol.events import FamilyEvent
from harmonia_lab.server.keys import KEY_BYTES
from harmonia_lab.server.page import LINK_TTL_S, page_link
from harmonia_lab.server.server_thread import new_tokens
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.store.metrics import Readings
from harmonia_lab.waiting import join

__all__ = ["IsolatedServer"]

START_S = 120.0
"""Its imports take 2 s on an idle machine."""
STOP_S = 5.0
ANSWER_S = 60.0
"""For an answer to the kernel while the process lives: it may be loading a model."""

_log = logging.getLogger(__name__)


class IsolatedServer:
    """A server in another process, with `url`, `token()`, `revoke()`, `metrics()`, `stop()` as `server_thread` has."""

    def __init__(
        self,
        lab: LabSettings,
        settings: ServerSettings,
        *,
        on_event: Callable[[FamilyEvent], None],
        on_exit: Callable[[], None],
        on_hang: Callable[[], None],
        on_return: Callable[[], None],
    ) -> None:
        """Start the process, and return once it listens. lab: with its home. on_event: gets each event of the user
        "local"'s songs, in order, in one thread. on_exit: called once, in that thread, when no more will come.

        A process that is silent for `lab.limits.unheard_s` is killed, and another takes its port, to which all clients
        come back. on_hang: called in between; on_return: called when the other one listens.

        Raises InvalidRequest if the port is taken or a setting can't be used, StorageError if `home` can't.
        """
        assert lab.home is not None
        self.settings = settings
        self._on_event, self._on_exit = on_event, on_exit
        self._on_hang, self._on_return = on_hang, on_return
        self._silent_s, self._replacing = lab.limits.unheard_s, False
        child_settings = replace(settings, owner_key=secrets.token_hex(KEY_BYTES), audit=settings.audit or False)
        self._tokens = new_tokens(child_settings, Path(lab.home))
        _ssl_context(settings)  # raises for a certificate that can't be used
        self._client: BlockingClient | None = None
        self._reader: threading.Thread | None = None
        self._given = ServeSettings(lab=lab, server=child_settings)
        self._child = self._new_child()
        try:
            introduction = self._child.introduction(START_S)
            self.url: str = introduction["url"]
            self.local_url: str = introduction["localUrl"]
            self._client = self._connected()
            self._reader = threading.Thread(
                target=self._read, args=(self._client.everything(),), name="harmonia-isolated-events", daemon=True
            )
        except BaseException as error:
            exited = self._child.ended
            self._child.end(0.0)
            if exited and isinstance(error, Disconnected):
                raise self._child.exit_error() from None
            raise
        self.running = True
        self._reader.start()
        self._child.watch(self._silent_s, self._replace)
        _log.info("Serving at %s, in process %d.", self.url, self._child.pid)

    running = False

    def token(self, user: str = LOCAL_USER, roles: tuple[str, ...] = (), ttl: float = 3600.0) -> str:
        """Return a token with which a client connects as `user`. ttl: seconds. roles: ("admin",) sees everybody's jobs.

        The kernel's own songs belong to the user "local".
        """
        return self._tokens.issue(user, tuple(roles), ttl).token

    def link(self, user: str = LOCAL_USER, ttl: float = LINK_TTL_S) -> str:
        """As `server_thread.Server.link`."""
        return page_link(self.settings.page_at(self.url), self.token(user, ttl=ttl))

    def revoke(self, user: str | None = None, *, token_id: str | None = None) -> None:
        """As `server_thread.Server.revoke`. The kernel's own connection stays."""
        self._tokens.revoke(user, token_id)

    @property
    def client(self) -> BlockingClient:
        """The kernel's connection."""
        assert self._client is not None
        return self._client

    def exit_error(self) -> Disconnected:
        """Return the error that says why the process exited."""
        return self._child.exit_error()

    def metrics(self) -> Readings:
        """Return the guide's metrics of the other process; the kernel is one of its connections.

        Raises Disconnected if the process doesn't answer.
        """
        headers = {"Authorization": f"Bearer {self._own_token()}"}
        context = _ssl_context(self.settings)
        verify = True if context is None else context
        try:  # trust_env: no proxy leads to loopback
            answer = httpx.get(
                f"{self.local_url}/metrics", headers=headers, verify=verify, trust_env=False, timeout=ANSWER_S
            )
            return Readings.of_text(answer.text)
        except (httpx.HTTPError, KeyError):
            raise Disconnected("The isolated server did not answer with its metrics.", hint="Is it running?") from None

    def stop(self) -> None:
        """Disconnect the clients and end the process. Idempotent."""
        self.running = False
        self.client.disconnect()  # before the process ends: the client would try to connect again
        self._child.end(STOP_S)
        reader = self._reader
        # A listener that calls this from the reading thread can't wait for that thread.
        if reader is not None and reader is not threading.current_thread():
            join(reader, STOP_S)

    def __repr__(self) -> str:
        return f"IsolatedServer({self.url if self.running else 'stopped'})"

    def _read(self, events: Iterator[FamilyEvent]) -> None:
        """Hand on events until the connection is given up, which is when the process has exited."""
        with contextlib.suppress(HarmoniaError):
            for event in events:
                try:
                    self._on_event(event)
                except Exception:  # noqa: BLE001 - one event's defect must not keep the others from their listeners
                    _log.exception("%s of generation %s could not be handed on.", event.name, event.generation_id)
        self.running = False
        self._child.end(STOP_S)
        self._on_exit()

    def _new_child(self) -> Child:
        return Child(self._given.model_dump(mode="json"), self._child_has_exited)

    def _replace(self) -> None:
        """Kill the silent process, and start another on its port. Clients, the kernel's too, connect again."""
        _log.warning(
            "The isolated server has been silent for %g s, in a call that never lets another thread run. It is ended,"
            " and started again.",
            self._silent_s,
        )
        port = urlsplit(self.local_url).port or 0
        self._given = ServeSettings(lab=self._given.lab, server=replace(self._given.server, port=port))
        self._replacing = True
        self._child.end(0.0)
        self._on_hang()
        try:
            self._child = self._new_child()
            self._child.introduction(START_S)
        except HarmoniaError as error:
            _log.warning("It could not be started again. %s", error)
            self.client.disconnect()
            return
        finally:
            self._replacing = False
        if not self.running:  # stopped meanwhile
            self._child.end(STOP_S)
            return
        self._child.watch(self._silent_s, self._replace)
        self._on_return()

    def _child_has_exited(self) -> None:
        if self._replacing:
            return
        expected, self.running = not self.running, False
        if not expected:
            _log.warning("%s", self._child.exit_error())
        if self._client is not None:
            self._client.disconnect()

    def _connected(self) -> BlockingClient:
        client = BlockingClient(
            self.local_url,
            path=self.settings.path,
            ack_timeout_s=ANSWER_S,
            backoff=Backoff(0.05, 1.0),
            session=partial(_session, self.settings),
        )
        self._client = client  # set before it connects: when the process exits, `_child_has_exited` disconnects it
        client.connect(self._own_token)
        client.subscribe_to_user_jobs()
        return client

    def _own_token(self) -> str:
        return self._tokens.owner_token(LOCAL_USER)


def _session(settings: ServerSettings) -> aiohttp.ClientSession:
    try:
        trust = _ssl_context(settings)  # read anew: the server's certificate may have been renewed
    except InvalidRequest as error:  # it is being renewed
        raise Disconnected(error.message) from None
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=True if trust is None else trust))


def _ssl_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """Return a context that trusts the server's certificate alone, for any host name: the address is loopback."""
    if settings.certificate is None:
        return None
    try:
        context = ssl.create_default_context(cafile=str(settings.certificate))
    except (OSError, ssl.SSLError) as error:
        raise InvalidRequest(
            f"The certificate {settings.certificate} cannot be used: {error}.", details={"fields": ["certificate"]}
        ) from None
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False
    return context
