"""`RemoteBackend`: has a lab's songs made by a server on another machine, and brings them home.

Owns which songs are followed there, and the order of what happens at a song's end: its folder comes home, then the rows
of its attempts, then its last event. Journal and run log are this lab's own; events keep the server's numbers.
`remote_follow.py` orders one song's events, `remote_server.py` has the connection, `remote_home.py` brings folder and
rows.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harmonia_lab.audio_options import with_recordings
from harmonia_lab.backends.base import JobOptions
from harmonia_lab.backends.remote_address import RemoteAddress
from harmonia_lab.backends.remote_commands import RemoteCommands
from harmonia_lab.backends.remote_engines import RemoteAudioEngines, RemoteMetadata
from harmonia_lab.backends.remote_follow import FollowedSong
from harmonia_lab.backends.remote_home import Homecoming
from harmonia_lab.backends.remote_server import RemoteServer
from harmonia_lab.errors import (
    Cancelled,
    Disconnected,
    ErrorCode,
    HarmoniaError,
    Refused,
    StorageError,
    error_of,
)
from harmonia_lab.events.event_log import EventLog
from harmonia_lab.events.state import GenerationState
from harmonia_lab.generation.artifacts import SongFolder, load_song
from harmonia_lab.generation.handle import JobHandle, QueueLimits
from harmonia_lab.generation.interrupted import interrupted_error
from harmonia_lab.protocol.events import AudioGenerationComplete, ErrorInfo, FamilyEvent, GenerationError
from harmonia_lab.protocol.models import ENDED, Job, ShareRole, Song, SongRequest, utc_now
from harmonia_lab.store.journal_core import JournalCore
from harmonia_lab.store.run_log import RunLabels, RunLog
from harmonia_lab.store.submissions import Submission

__all__ = ["RemoteBackend"]

FETCHED_AT_ONCE = 2
"""Songs that come home at the same time."""

_log = logging.getLogger(__name__)


class RemoteBackend:
    """A `Backend`: songs are made by a server, with its engines, in the turn that it gives their user."""

    def __init__(
        self,
        address: RemoteAddress,
        engines: Mapping[str, Any],
        *,
        journal: Callable[[], JournalCore],
        publish: Callable[[FamilyEvent], None],
        run_log: RunLog,
        songs: Path,
        home: Path,
        panel: Callable[[str], Any] | None = None,
        on_row: Callable[[dict[str, Any]], None] = lambda _row: None,
    ) -> None:
        """Connect. engines: the lab's parameters, as far as they name engines and models. The others: as `LocalBackend`
        has them. home: where a song's archive lies until it is unpacked.

        Raises Disconnected if no server answers, Refused for a bad token, InvalidRequest for an address that can't be
        used, and for an engine or a model that the server doesn't offer.
        """
        self._journal, self._publish, self._songs, self._panel = journal, publish, songs, panel
        self._lock = threading.RLock()
        self._rooms = threading.Lock()
        """Held while a song's rooms are joined or left: one that is tried again isn't left afterwards."""
        self._jobs: dict[str, FollowedSong] = {}
        self._stranded: dict[str, FollowedSong] = {}
        """Songs that are whole at the server and could not be brought home, with their events; `retry` tries again."""
        self._fetching = threading.BoundedSemaphore(FETCHED_AT_ONCE)
        self._closed = False
        self.server = RemoteServer(address, on_event=self._take, on_lost=self._fail)
        self._commands = RemoteCommands(self.server)
        self._homecoming = Homecoming(self.server, run_log, home / "archives", journal, on_row)
        try:
            self.server.connect()
            offered = self.server.engines()
            self.metadata = RemoteMetadata(self.url, offered["metadata"], engines["metadata"], engines["model"])
            self.audio_engines = RemoteAudioEngines(
                self.url, offered["audio"], offered["options"], engines["audio"], engines["audio_model"]
            )
        except BaseException:
            self.server.close()
            raise

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def running(self) -> bool:
        """Always: it ends with its lab."""
        return True

    @property
    def busy(self) -> bool:
        return bool(self._jobs)

    def owns(self, generation_id: str) -> bool:
        return generation_id in self._jobs

    @property
    def closed(self) -> bool:
        """Whether it takes nothing more."""
        return self._closed

    def check_open(self) -> None:
        """Raise RuntimeError if the backend is closed."""
        if self._closed:
            raise RuntimeError("The lab is closed.")

    def resume(self) -> None:
        """Follow the songs that this home's earlier processes left at the server; fetch what has ended meanwhile."""
        left = self._journal().left_elsewhere(self.url)
        self._homecoming.clear(self._journal().unfinished())
        for generation_id in left:
            if self.owns(generation_id):
                continue
            try:
                self._follow_again(generation_id)
            except HarmoniaError as error:
                _log.warning("Generation %s can't be followed now. %s", generation_id, error)

    def submit(self, request: SongRequest, options: JobOptions) -> JobHandle:
        self.check_open()
        engine = self.audio_engines.get(options.audio, request.audio_model)
        self._check_model(request)
        self._check_limits(options.user, options.limits)
        self._ensure_connected()
        generation_id = request.generation_id or secrets.token_hex(6)
        seed = request.seed if request.seed is not None else secrets.randbits(32)
        request = request.model_copy(update={"generation_id": generation_id, "seed": seed})
        out = None if options.out is None else Path(options.out).expanduser().absolute()
        submission = Submission(self._songs.expanduser().absolute(), out, options.replaces, _named(options.audio))
        job = self._followed(generation_id, None, submission, options)
        row = {
            "run_id": f"{generation_id}-1",
            "generation_id": generation_id,
            "attempt": 1,
            **asdict(options.labels),
            "audio_engine": engine.name,
            "audio_model": engine.identity().get("model"),
            "seed": seed,
            "narrative_characters": len(request.narrative),
            "seconds_requested": request.seconds,
        }
        now = utc_now()
        new = Job(id=generation_id, user_id=options.user, created_at=now, updated_at=now)
        self._journal().begin(new, request, row, submission, server=self.url)
        self._jobs[generation_id] = job
        try:
            job.folder.create()  # a place that can't be written is an error before the server makes anything
            job.folder.discard()
            self._commands.start(with_recordings(request, engine, self._commands.upload))
        except BaseException as error:
            self._jobs.pop(generation_id, None)
            if isinstance(error, Disconnected) or not isinstance(error, Exception):
                self._commands.cancel_later(generation_id)  # the server may have begun it, and nobody would hold it
            with contextlib.suppress(StorageError):
                self._journal().forget(generation_id)
            if isinstance(error, HarmoniaError):
                raise self.server.explained(error) from None
            raise
        self._commands.subscribe(generation_id, lambda: self.owns(generation_id))
        return job.handle

    def retry(self, generation_id: str, options: JobOptions) -> JobHandle:
        self.check_open()
        self.audio_engines.get(options.audio)
        state = self._journal().state(generation_id)
        if state is None:
            raise Refused(f"There is no generation {generation_id}.", code=ErrorCode.NOT_FOUND)
        if self.owns(generation_id):
            raise _not_recoverable(generation_id, "It is being made.")
        if self._journal().elsewhere.server_of(generation_id) != self.url:
            raise _not_recoverable(
                generation_id, f"It is not {self.url}'s.", hint="A lab of this machine has it: Lab(server='')."
            )
        self._ensure_connected()
        if (followed := self._jobs.get(generation_id)) is not None:  # since it is connected again
            return followed.handle
        if state.status not in ENDED:  # it goes on there, or has not come home
            return self._follow_again(generation_id)
        row = self._row_of(generation_id)
        attempt = (row.get("attempt") or 1) + 1
        job = self._enter(generation_id, state, owner=state.owner)
        try:
            self._join(state)
            self._commands.retry(generation_id)
        except BaseException:
            self._jobs.pop(generation_id, None)
            raise
        with contextlib.suppress(StorageError):
            self._journal().begin_attempt(
                generation_id, row | {"attempt": attempt, "run_id": f"{generation_id}-{attempt}"}
            )
        return job.handle

    def cancel(self, generation_id: str) -> bool:
        """As `Backend.cancel`. While there is no connection, the server is told once there is one."""
        try:
            self._ensure_connected()
            self.server.client.cancel(generation_id)
        except Disconnected as error:
            _log.warning("Generation %s is cancelled as soon as the server is reached. %s", generation_id, error)
            self._commands.cancel_later(generation_id)
        return True

    def abandon(self, generation_id: str) -> bool:
        del generation_id  # the server decides how its songs end
        return False

    def outcome(self, state: GenerationState) -> Song:
        job = self._jobs.get(state.id)
        if state.song is not None:
            if state.song_path is None:
                raise (job and job.error) or HarmoniaError("The song has not come home.", code=ErrorCode.NOT_FOUND)
            return load_song(state.song_path.parent, duration=state.song.duration)
        if state.failure is None:
            raise interrupted_error()
        error = state.failure.error
        if error.code == ErrorCode.CANCELLED:
            raise Cancelled
        raise error_of(error.code, error.message, details=error.details)

    def share(self, generation_id: str, user: str, role: ShareRole) -> None:
        """Share a song with another user of the server."""
        self._ensure_connected()
        self.server.client.share(generation_id, user, role)

    def unshare(self, generation_id: str, user: str) -> None:
        self._ensure_connected()
        self.server.client.unshare(generation_id, user)

    def close(self, grace_s: float) -> None:
        self._closed = True
        with self._lock:
            handles = [job.handle for job in self._jobs.values()]
        if self.server.connected and self.server.client.connected:  # else, each would wait for the line
            for handle in handles:
                with contextlib.suppress(HarmoniaError):
                    self.server.client.cancel(handle.id)
        deadline = time.monotonic() + grace_s
        for handle in handles:
            handle.wait(max(0.0, deadline - time.monotonic()))
        self.server.close()
        self._fail(
            Disconnected("The lab was closed before the song had ended.", hint="A lab that starts again has it.")
        )

    def _join(self, state: GenerationState) -> None:
        """Have the server send what is missing of a song, of both families, and all that follows."""
        client = self.server.client
        for event in self._journal().history(state.id):
            client.store(event)  # from which the client knows what it has
        with self._rooms:
            known = client.join(state.id).snapshot
            if known is None:
                raise Refused(f"{self.url} has no generation {state.id}.", code=ErrorCode.NOT_FOUND)
            client.subscribe_to_job(state.id)

    def _ensure_connected(self) -> None:
        """Connect again, where the connection was given up, such as for a token that had expired."""
        with self._lock:
            if self.server.connected:
                return
            self.check_open()
            self.server.connect()
            self.resume()

    def _follow_again(self, generation_id: str) -> JobHandle:
        """Follow a song that goes on at the server, or has ended there. One that it doesn't know is interrupted."""
        state = self._journal().state(generation_id)
        assert state is not None, "the journal has named it"
        stranded = self._stranded.pop(generation_id, None)
        if stranded is not None:
            self._jobs[generation_id] = stranded
            return stranded.again(JobHandle(self, generation_id, state, self._panel))
        job = self._enter(generation_id, state, owner=state.owner)
        try:
            self._join(state)
        except HarmoniaError as error:
            if error.code == ErrorCode.NOT_FOUND:
                log = EventLog(state, self._journal(), self._publish, job.handle.observe)
                failure = ErrorInfo.of(interrupted_error())
                log(GenerationError(generation_id=state.id, error=failure, stage=state.stage, final=True))
            self._jobs.pop(generation_id, None)
            if error.code != ErrorCode.NOT_FOUND:
                raise
        return job.handle

    def _enter(self, generation_id: str, state: GenerationState, *, owner: str) -> FollowedSong:
        submission = self._journal().submissions.of(generation_id) or Submission(self._songs.absolute())
        labels = RunLabels.of(self._row_of(generation_id))
        job = self._followed(generation_id, state, submission, JobOptions(user=owner, labels=labels))
        self._jobs[generation_id] = job
        return job

    def _followed(
        self, generation_id: str, state: GenerationState | None, submission: Submission, options: JobOptions
    ) -> FollowedSong:
        folder = SongFolder(submission.songs, generation_id, submission.out, replaces=submission.replaces)
        return FollowedSong(
            JobHandle(self, generation_id, state, self._panel),
            submission,
            folder,
            options.labels,
            owner=options.user,
            hand_on=self._hand_on,
            bring_home=self._bring_home,
        )

    def _take(self, event: FamilyEvent) -> None:
        """Take an event from the connection, in its reading thread."""
        job = self._jobs.get(event.generation_id)
        if job is not None:
            job.take(event)

    def _hand_on(self, job: FollowedSong, event: FamilyEvent) -> None:
        """Write down the song's next event, and pass it on."""
        if self._jobs.get(job.id) is not job:  # it is followed no longer, or by another
            return
        if event.delivery != "preview":
            try:
                self._journal().record(event)
            except StorageError as error:
                _log.debug("An event of %s is not in the journal. %s", job.id, error)
        self._publish(event)
        job.handle.observe(event)  # last: a caller that waits for the job has had every event when it goes on
        if job.handle.done:
            self._jobs.pop(job.id, None)
            self._commands.later(lambda: self._leave(job.id), lambda: not self.owns(job.id))

    def _leave(self, generation_id: str) -> None:
        with self._rooms:
            if not self.owns(generation_id):
                self.server.client.leave(generation_id)
                self.server.client.unsubscribe_from_job(generation_id)

    def _bring_home(self, job: FollowedSong, event: FamilyEvent) -> None:
        """Begin to bring home what a song has left at its end, in a thread; then its last event is handed on."""

        def work() -> None:
            with self._fetching:
                try:
                    self._homecoming.bring(job, with_song=isinstance(event, AudioGenerationComplete))
                except Exception as error:  # noqa: BLE001 - whatever it is, those who wait for the song must hear of it
                    failure = error if isinstance(error, HarmoniaError) else HarmoniaError(f"A defect: {error!r}.")
                    _log.warning("The song of %s has not come home. %s", job.id, failure)
                    if self._jobs.pop(job.id, None) is job:
                        self._stranded[job.id] = job
                    job.handle.fail(failure)
                    return
            job.at_home()

        threading.Thread(target=work, name="harmonia-remote-song", daemon=True).start()

    def _row_of(self, generation_id: str) -> dict[str, Any]:
        with contextlib.suppress(StorageError):
            return self._journal().last_attempt(generation_id)
        return {}

    def _check_model(self, request: SongRequest) -> None:
        if request.metadata is None and request.model is not None:
            RemoteMetadata(
                self.url, {"engine": self.metadata.name, "model": self.metadata.model}, "auto", request.model
            )

    def _check_limits(self, user: str, limits: QueueLimits | None) -> None:
        """Raise Refused beyond this lab's own limits: it may serve others. The server has limits of its own."""
        own = sum(job.owner == user for job in list(self._jobs.values()))
        if limits is not None and (own > limits.per_user or len(self._jobs) > limits.total):
            raise Refused("Too many songs wait.", code=ErrorCode.QUEUE_FULL, hint="Wait for one to end.")

    def _fail(self, error: HarmoniaError) -> None:
        """Tell all who wait that their songs are followed no longer. The server goes on, and `resume` finds them."""
        with self._lock:
            jobs, self._jobs, self._stranded = list(self._jobs.values()), {}, {}
        for job in jobs:
            job.handle.fail(error)


def _named(audio: Any) -> str | None:
    return audio if isinstance(audio, str | None) else str(audio.name)


def _not_recoverable(generation_id: str, why: str, hint: str = "") -> Refused:
    message = f"Generation {generation_id} cannot be tried again. {why}"
    return Refused(message, code=ErrorCode.NOT_RECOVERABLE, hint=hint)
