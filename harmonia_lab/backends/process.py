"""What stands in the kernel for a server in a process of its own: the same face as `server.kernel.Server`'s.

Owns that process, the kernel's connection to it, and the handles of the songs that the kernel has it make: their events
come back to the kernel's listeners, and so does their end, also when the process dies. The journal is the same file for
both processes; what the dead one left in it is ended here.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from harmonia_lab.backends.remote_generation import RemoteGeneration
from harmonia_lab.backends.serve_settings import LabSettings, ServeSettings
from harmonia_lab.backends.server_process import Child
from harmonia_lab.client import Backoff, BlockingClient
from harmonia_lab.errors import Disconnected, ErrorCode, HarmoniaError, InvalidRequest, Refused, StorageError
from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.protocol.events import AudioGenerationComplete, Event, Family, FamilyEvent, JobCompletedEvent, linked
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.server.auth import KEY_BYTES
from harmonia_lab.server.server_thread import new_tokens
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.store.journal import Journal
from harmonia_lab.store.metrics import Readings

__all__ = ["IsolatedServer"]

LOCAL_USER = "local"
START_S = 120.0
"""Its imports take 2 s on an idle machine."""
STOP_S = 5.0
ANSWER_S = 60.0
"""For an answer to the kernel, where the process lives: it may be loading a model meanwhile."""

_log = logging.getLogger(__name__)


class IsolatedServer:
    """A server that runs elsewhere. `url`, `token(user)`, `metrics()`, `stop()`, as those of the server in the kernel.

    When it stops, or dies, songs that it was making end as INTERRUPTED, and can be tried again. The kernel's listeners
    hear of the kernel's songs; those that other clients ask for are heard by clients.
    """

    def __init__(
        self,
        lab: LabSettings,
        settings: ServerSettings,
        *,
        journal: Journal,
        hand_on: Callable[[FamilyEvent], None],
        panel: Callable[[str], Any] | None = None,
    ) -> None:
        """Starts it and returns once it listens. lab: with its home. journal: the kernel's, of the same home.
        hand_on: gets each event of the kernel's songs, in order, one at a time. panel: makes a view of a generation.

        Raises InvalidRequest where the port is taken or a setting can't be used, StorageError where `home` can't.
        """
        assert lab.home is not None
        self.settings = settings
        self._journal, self._hand_on, self._panel = journal, hand_on, panel
        told = replace(settings, owner_key=secrets.token_hex(KEY_BYTES))
        self._tokens = new_tokens(told, Path(lab.home))
        self._trust = _trust(settings)
        self._lock = threading.Lock()
        self._jobs: dict[str, tuple[RemoteGeneration, JobHandle]] = {}
        self._ended_ids: list[str] = []
        self._client: BlockingClient | None = None
        self._reader: threading.Thread | None = None
        self._child = Child(ServeSettings(lab=lab, server=told).model_dump_json(), self._child_has_ended)
        try:
            introduction = self._child.introduction(START_S)
            self.url: str = introduction["url"]
            self.local_url: str = introduction["localUrl"]
            self._client = self._connected()
            self._reader = threading.Thread(
                target=self._read, args=(self._client.everything(),), name="harmonia-isolated-events", daemon=True
            )
        except BaseException as error:
            died = self._child.ended
            self._child.end(0.0)
            if died and isinstance(error, Disconnected):
                raise self._child.exit_error() from None
            raise
        self.running = True
        self._reader.start()
        _log.info("Serving at %s, in process %d.", self.url, self._child.pid)

    running = False

    def token(self, user: str = LOCAL_USER, roles: tuple[str, ...] = (), ttl: float = 3600.0) -> str:
        """A token with which a client connects as `user`. ttl: seconds. roles: ("admin",) sees everybody's jobs.

        Songs that the kernel asks for are the user "local"'s.
        """
        return self._tokens.issue(user, tuple(roles), ttl)

    def metrics(self) -> Readings:
        """The guide's metrics, as the other process reads them; the kernel is one of its connections.

        Raises Disconnected where it does not answer.
        """
        address = urlsplit(self.local_url)
        assert address.hostname is not None
        if self._trust is None:
            connection = http.client.HTTPConnection(address.hostname, address.port, timeout=ANSWER_S)
        else:
            connection = http.client.HTTPSConnection(
                address.hostname, address.port, timeout=ANSWER_S, context=self._trust
            )
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {self._own_token()}"})
                return Readings.of_text(connection.getresponse().read().decode())
            except (OSError, http.client.HTTPException, KeyError):
                raise Disconnected("The isolated server does not tell its metrics.", hint="Is it running?") from None

    def stop(self) -> None:
        """Lets the clients go and ends the process. Idempotent."""
        self.running = False
        self._connection.disconnect()  # first: it would come back at once, and be waited for
        self._child.end(STOP_S)
        reader = self._reader
        # What a listener calls while it is told an event can't wait for the end of the telling.
        if reader is not None and reader is not threading.current_thread():
            deadline = time.monotonic() + STOP_S
            while reader.is_alive() and time.monotonic() < deadline:
                reader.join(0.05)

    def __repr__(self) -> str:
        return f"IsolatedServer({self.url if self.running else 'stopped'})"

    # Songs that the kernel asks for

    def submit(self, request: SongRequest, **untellable: Any) -> JobHandle:
        """Has a song made. untellable: what may be asked of a lab and can't be said on the wire; to be left out, or
        None.

        Raises InvalidRequest, or whatever the server answers; Disconnected where it has died.
        """
        _check(untellable)
        generation_id = request.generation_id or secrets.token_hex(6)
        request = request.model_copy(update={"generation_id": generation_id})
        with self._following(generation_id) as handle:
            self._connection.start(request)
        return handle

    def cancel(self, generation_id: str) -> None:
        """Raises Refused (CANCEL_FAILED) where it has ended otherwise; Disconnected."""
        self._connection.cancel(generation_id)

    def retry(self, generation_id: str, **untellable: Any) -> JobHandle:
        """Raises Refused: NOT_FOUND, NOT_RECOVERABLE; Disconnected."""
        _check(untellable)
        with self._lock:
            if generation_id in self._jobs:
                raise Refused(
                    f"Generation {generation_id} cannot be tried again. It is being made.",
                    code=ErrorCode.NOT_RECOVERABLE,
                )
        standing = self._journal.standing(generation_id)
        if standing is None:
            raise Refused(f"There is no generation {generation_id}.", code=ErrorCode.NOT_FOUND)
        with self._following(generation_id, {"generation": standing.seq, "job": standing.job_seq}) as handle:
            self._connection.join(generation_id)
            self._connection.subscribe_to_job(generation_id)
            self._connection.retry(generation_id)
        return handle

    def cancel_all(self, grace_s: float) -> None:
        """Cancels what the kernel has asked for, and waits `grace_s` seconds for the end of it."""
        with self._lock:
            handles = [handle for _, handle in self._jobs.values()]
        for handle in handles:
            with contextlib.suppress(HarmoniaError):
                handle.cancel()
        deadline = time.monotonic() + grace_s
        for handle in handles:
            handle.wait(max(0.0, deadline - time.monotonic()))

    @contextlib.contextmanager
    def _following(self, generation_id: str, had: dict[Family, int] | None = None) -> Iterator[JobHandle]:
        """Its events count from before the block on; where the block fails, there is nothing to follow."""
        generation = RemoteGeneration(generation_id, self.cancel, had)
        handle = JobHandle(generation, panel=self._panel)
        with self._lock:
            if generation_id in self._jobs:
                raise InvalidRequest(f"The generation id {generation_id} is in use.", hint="Choose another, or none.")
            self._jobs[generation_id] = generation, handle
            ended, self._ended_ids = self._ended_ids, []
        try:
            for earlier in ended:
                if earlier != generation_id:
                    self._connection.leave(earlier)
                    self._connection.unsubscribe_from_job(earlier)
            yield handle
        except BaseException as error:
            with self._lock:
                self._jobs.pop(generation_id, None)
            if not isinstance(error, Exception):  # an interrupt: nobody would hold the song that may have been begun
                with contextlib.suppress(HarmoniaError):
                    self.cancel(generation_id)
            if isinstance(error, Disconnected) and not self.running:
                raise self._child.exit_error() from None
            raise

    # Events

    def _read(self, events: Iterator[FamilyEvent]) -> None:
        """Until the connection is given up, which is when the process has ended."""
        with contextlib.suppress(HarmoniaError):
            for event in events:
                try:
                    self._take(event)
                except Exception:  # noqa: BLE001 - one event's defect must not keep the others from those who wait
                    _log.exception("%s of generation %s could not be handed on.", event.name, event.generation_id)
        self.running = False
        self._child.end(STOP_S)
        self._mourn()

    def _take(self, event: FamilyEvent) -> None:
        with self._lock:
            generation, handle = self._jobs.get(event.generation_id, (None, None))
        if generation is None or handle is None or not generation.take(event):
            return
        if isinstance(event, AudioGenerationComplete | JobCompletedEvent):
            event = self._at_home(event, generation)
        if isinstance(event, Event):
            handle.observe(event)
        self._hand_on(event)
        if generation.over:
            self._end(generation, handle)

    def _at_home(self, event: FamilyEvent, generation: RemoteGeneration) -> FamilyEvent:
        """Inside the machine, a song's place is its file's, as the journal has it."""
        with contextlib.suppress(StorageError):
            standing = self._journal.standing(event.generation_id)
            if standing is not None and standing.song is not None:
                if isinstance(event, AudioGenerationComplete):
                    generation.finish(standing.song, event.duration)
                return linked(event, standing.song.as_uri())
        return event

    def _end(self, generation: RemoteGeneration, handle: JobHandle) -> None:
        with self._lock:
            self._jobs.pop(generation.id, None)
            self._ended_ids.append(generation.id)
        handle.run()

    def _mourn(self) -> None:
        """What the process left unfinished is ended, and everybody told."""
        with self._lock:
            left = list(self._jobs.values())
        try:
            self._journal.end_interrupted()
            for generation, _ in left:
                for event in self._journal.history(generation.id):
                    if event.delivery == "lifecycle":
                        self._take(event)
        except StorageError as error:
            _log.warning("How songs of the isolated server ended is not known. %s", error)
        for generation, handle in left:
            if not generation.over:
                generation.lose()
                self._end(generation, handle)

    def _child_has_ended(self) -> None:
        expected, self.running = not self.running, False
        if not expected:
            _log.warning("%s", self._child.exit_error())
        if self._client is not None:
            self._client.disconnect()

    # The connection

    def _connected(self) -> BlockingClient:
        client = BlockingClient(
            self.local_url,
            path=self.settings.path,
            ack_timeout_s=ANSWER_S,
            backoff=Backoff(0.05, 1.0),
            session=partial(_session, self._trust),
        )
        self._client = client  # known before it connects: whoever waits for a dead process is let go
        client.connect(self._own_token)
        client.subscribe_to_user_jobs()
        return client

    @property
    def _connection(self) -> BlockingClient:
        assert self._client is not None
        return self._client

    def _own_token(self) -> str:
        return self._tokens.owner_token(LOCAL_USER)


def _session(trust: ssl.SSLContext | None) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=True if trust is None else trust))


def _trust(settings: ServerSettings) -> ssl.SSLContext | None:
    """Its certificate and no other, under whatever name: the kernel knows which it is, and comes by loopback."""
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


def _check(untellable: dict[str, Any]) -> None:
    given = sorted(name for name, value in untellable.items() if value is not None)
    if given:
        raise InvalidRequest(
            f"An isolated server can't be told {', '.join(f'{name}=' for name in given)} for one song.",
            hint="Leave it out, or stop the server (lab.server.stop()) and make the song in the kernel.",
            details={"fields": given},
        )
