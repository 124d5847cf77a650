"""`ProcessBackend`: asks an isolated server for songs, as its client.

Owns the handles of the songs that this process asked for: their events come over the connection, and go to this
process's subscribers. When the server exits, `ProcessBackend` ends the songs that the server left unfinished. The
journal is one file for both processes.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

from harmonia_lab.backends.base import JobOptions
from harmonia_lab.backends.isolated_server import IsolatedServer
from harmonia_lab.backends.serve_settings import LabSettings
from harmonia_lab.errors import (
    Cancelled,
    Disconnected,
    ErrorCode,
    HarmoniaError,
    InvalidRequest,
    Refused,
    StorageError,
    error_of,
)
from harmonia_lab.events.state import GenerationState
from harmonia_lab.generation.artifacts import load_song
from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.generation.interrupted import end_interrupted, hung_error, interrupted_error
from harmonia_lab.protocol.events import (
    AudioGenerationComplete,
    FamilyEvent,
    JobCompletedEvent,
    JobStatusEvent,
    linked,
)
from harmonia_lab.protocol.models import Song, SongRequest
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.store.journal_core import JournalCore
from harmonia_lab.store.run_log import RunLog

__all__ = ["ProcessBackend"]

_log = logging.getLogger(__name__)


class ProcessBackend:
    """A `Backend`: songs are made in the isolated server's process. It takes no option for one song.

    When the server stops, or its process dies, songs that it was making end as INTERRUPTED, and can be tried again.
    """

    def __init__(
        self,
        lab: LabSettings,
        settings: ServerSettings,
        *,
        journal: JournalCore,
        run_log: RunLog,
        publish: Callable[[FamilyEvent], None],
        panel: Callable[[str], Any] | None = None,
        for_server: Callable[[SongRequest], SongRequest] = lambda request: request,
    ) -> None:
        """Start the server; see `IsolatedServer`. journal, run_log: this process's, of the same home. publish: gets
        each event of this process's songs, in order, one at a time. panel: makes a view of a generation. for_server:
        puts ids of sounds in the place of a request's files."""
        self._for_server = for_server
        self._journal, self._run_log, self._publish, self._panel = journal, run_log, publish, panel
        self._hung_s = lab.limits.unheard_s
        self._lock = threading.Lock()
        self._jobs: dict[str, JobHandle] = {}
        self._ended_ids: list[str] = []
        self._waited: dict[str, None] = {}
        """Generations that waited for their turn in a server that hung, oldest first, and are asked for again."""
        self.server = IsolatedServer(
            lab,
            settings,
            on_event=self._take,
            on_exit=self._fail_pending_jobs,
            on_hang=self._fail_hung_job,
            on_return=self._ask_again,
        )

    @property
    def running(self) -> bool:
        return self.server.running

    def owns(self, generation_id: str) -> bool:
        return generation_id in self._jobs

    def submit(self, request: SongRequest, options: JobOptions) -> JobHandle:
        """As `Backend.submit`. Raises the server's error too, or Disconnected if it has exited."""
        _check_options(options)
        generation_id = request.generation_id or secrets.token_hex(6)
        request = self._for_server(request.model_copy(update={"generation_id": generation_id}))
        with self._following(generation_id, None) as handle:
            self.server.client.start(request)
        return handle

    def retry(self, generation_id: str, options: JobOptions) -> JobHandle:
        """As `Backend.retry`. Raises Disconnected if the server has exited."""
        _check_options(options)
        if self.owns(generation_id):
            raise Refused(
                f"Generation {generation_id} cannot be tried again. It is being made.", code=ErrorCode.NOT_RECOVERABLE
            )
        state = self._journal.state(generation_id)
        if state is None:
            raise Refused(f"There is no generation {generation_id}.", code=ErrorCode.NOT_FOUND)
        with self._following(generation_id, state) as handle:
            client = self.server.client
            client.join(generation_id)
            client.subscribe_to_job(generation_id)
            client.retry(generation_id)
        return handle

    def cancel(self, generation_id: str) -> bool:
        """As `Backend.cancel`. Raises Disconnected if the server can't be reached."""
        self.server.client.cancel(generation_id)
        return True

    def abandon(self, generation_id: str) -> bool:
        del generation_id  # the server decides how its songs end
        return False

    def outcome(self, state: GenerationState) -> Song:
        if state.song is not None:
            assert state.song_path is not None, "the journal has the song's place"
            return load_song(state.song_path.parent, duration=state.song.duration)
        if state.failure is None:
            raise interrupted_error()
        error = state.failure.error
        raise (
            Cancelled
            if error.code == ErrorCode.CANCELLED
            else error_of(error.code, error.message, details=error.details)
        )

    def close(self, grace_s: float) -> None:
        with self._lock:
            handles = list(self._jobs.values())
        for handle in handles:
            with contextlib.suppress(HarmoniaError):
                handle.cancel()
        deadline = time.monotonic() + grace_s
        for handle in handles:
            handle.wait(max(0.0, deadline - time.monotonic()))

    @contextlib.contextmanager
    def _following(self, generation_id: str, state: GenerationState | None) -> Iterator[JobHandle]:
        """Make the handle before the block: events may come as soon as the server is asked. state: of earlier attempts.

        If the block fails, the handle is dropped.
        """
        handle = JobHandle(self, generation_id, state, self._panel)
        with self._lock:
            if generation_id in self._jobs:
                raise InvalidRequest(f"The generation id {generation_id} is in use.", hint="Choose another, or none.")
            self._jobs[generation_id] = handle
            ended, self._ended_ids = self._ended_ids, []
        try:
            for earlier in ended:
                if earlier != generation_id:
                    self.server.client.leave(earlier)
                    self.server.client.unsubscribe_from_job(earlier)
            yield handle
        except BaseException as error:
            with self._lock:
                self._jobs.pop(generation_id, None)
            if not isinstance(error, Exception):  # an interrupt: no caller would hold the song that may have begun
                with contextlib.suppress(HarmoniaError):
                    self.cancel(generation_id)
            if isinstance(error, Disconnected) and not self.running:
                raise self.server.exit_error() from None
            raise

    def _take(self, event: FamilyEvent) -> None:
        """Hand on an event of one of this process's songs, in the reading thread."""
        handle = self._jobs.get(event.generation_id)
        if handle is None or not handle.state.expects(event):
            if event.delivery == "preview" and handle is not None:
                self._publish(event)
            return
        if isinstance(event, AudioGenerationComplete | JobCompletedEvent):
            event = self._with_local_file(event)
        self._publish(event)
        if isinstance(event, JobStatusEvent) and event.status == "pending":
            self._waited.pop(handle.id, None)
        # Last: a caller that waits for the job has had every event when it goes on.
        handle.observe(event, resolve=handle.id not in self._waited)
        if handle.done:
            with self._lock:
                self._jobs.pop(handle.id, None)
                self._ended_ids.append(handle.id)

    def _with_local_file(self, event: FamilyEvent) -> FamilyEvent:
        """Return the event with the song's file, which the journal has, in place of the server's link."""
        with contextlib.suppress(StorageError):
            state = self._journal.state(event.generation_id)
            if state is not None and state.song is not None:
                return linked(event, state.song.audio_url)
        return event

    def _fail_hung_job(self) -> None:
        """End what the killed server was making: as failed, by its stage's time-out. What waited is asked for again."""
        try:
            ended = end_interrupted(self._journal, self._run_log, error_for=self._hung_or_interrupted)
            failures = {each: state.failure for each in ended if (state := self._journal.state(each)) is not None}
            self._waited = {i: None for i, f in failures.items() if f and f.error.code == ErrorCode.INTERRUPTED}
        except StorageError as error:
            _log.warning("How songs of the isolated server ended is not known. %s", error)

    def _hung_or_interrupted(self, state: GenerationState) -> HarmoniaError:
        """Return the error of a generation of a server that was killed for its silence: what it made timed out."""
        return hung_error(state.stage, self._hung_s) if state.active else interrupted_error()

    def _ask_again(self) -> None:
        for generation_id in list(self._waited):
            try:
                self.server.client.retry(generation_id)
            except HarmoniaError as error:
                self._waited.pop(generation_id, None)
                if (handle := self._jobs.get(generation_id)) is not None:
                    handle.fail(error)

    def _fail_pending_jobs(self) -> None:
        """Fail every song that the exited server left unfinished, and publish the events."""
        handles = list(self._jobs.values())
        try:
            end_interrupted(self._journal, self._run_log)
            for handle in handles:
                for event in self._journal.history(handle.id):
                    self._take(event)
        except StorageError as error:
            _log.warning("How songs of the isolated server ended is not known. %s", error)
        for handle in handles:
            handle.fail(interrupted_error())
        with self._lock:
            self._jobs.clear()


def _check_options(options: JobOptions) -> None:
    """Raise InvalidRequest if an option was given: the wire has none for an engine, a folder or another user."""
    given = sorted(field.name for field in fields(options) if getattr(options, field.name) != field.default)
    if given:
        raise InvalidRequest(
            f"An isolated server can't take {', '.join(f'{name}=' for name in given)} for one song.",
            hint="Leave it out, or stop the server (lab.server.stop()) and make the song in the kernel.",
            details={"fields": given},
        )
