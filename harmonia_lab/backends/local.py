"""`LocalBackend`: makes songs in this process, one at a time.

Owns the jobs that wait or run here. `generation/` makes a song, `events/event_log.py` hands on its events,
`job_queue.py` decides whose turn it is.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from harmonia_lab.audio_options import check_options
from harmonia_lab.backends.base import JobOptions
from harmonia_lab.backends.job_queue import JobQueue
from harmonia_lab.backends.local_job import LocalJob
from harmonia_lab.backends.metadata_choice import MetadataChoice
from harmonia_lab.engine_registry import AudioEngines
from harmonia_lab.engines.base import AudioEngine
from harmonia_lab.errors import ErrorCode, HarmoniaError, Refused, StorageError
from harmonia_lab.events.event_log import EventLog
from harmonia_lab.events.state import GenerationState, new_state
from harmonia_lab.generation.artifacts import SongFolder
from harmonia_lab.generation.generation import Generation, TimeLimits
from harmonia_lab.generation.handle import JobHandle, QueueLimits
from harmonia_lab.generation.interrupted import interrupted_error, quarantine_error
from harmonia_lab.generation.progress import LEARNT_COLUMNS, LEARNT_ROWS
from harmonia_lab.generation.written_metadata import WrittenMetadata
from harmonia_lab.protocol.events import FamilyEvent
from harmonia_lab.protocol.models import ENDED, Job, SongRequest, utc_now
from harmonia_lab.storage import absolute
from harmonia_lab.store.journal_core import JournalCore
from harmonia_lab.store.run_log import RunLabels, RunLog
from harmonia_lab.store.submissions import MAX_DEATHS, Submission

__all__ = ["LocalBackend"]

_log = logging.getLogger(__name__)


class LocalBackend:
    """A `Backend`: makes one song at a time, users taking turns. It takes every option."""

    def __init__(
        self,
        *,
        journal: Callable[[], JournalCore],
        publish: Callable[[FamilyEvent], None],
        run_log: RunLog,
        songs: Path,
        limits: TimeLimits,
        metadata: MetadataChoice,
        audio_engines: AudioEngines,
        panel: Callable[[str], Any] | None = None,
        on_row: Callable[[dict[str, Any]], None] = lambda _row: None,
        ahead: int = 0,
    ) -> None:
        """journal: opens the journal with the first song. publish: gets every event. songs: the folder of songs.
        panel: makes a view of a generation. on_row: gets the run log's row of each attempt that has ended. ahead: as
        `JobQueue` has it."""
        self._journal, self._publish, self._run_log = journal, publish, run_log
        self._songs, self._limits, self._panel = songs, limits, panel
        self._metadata, self._audio_engines, self._on_row = metadata, audio_engines, on_row
        self._queue: JobQueue = JobQueue(limits.unheard_s, self._give_up, self._width, ahead)
        self._lock = threading.RLock()
        self._jobs: dict[str, LocalJob] = {}
        self._own_engines: dict[str, AudioEngine] = {}
        """By generation, those that were given as objects: of these, the journal knows only what they are."""
        self._restored: list[AudioEngine] = []
        """Engines made again from what the journal knows of them."""

    @property
    def running(self) -> bool:
        """Always: it ends with its lab."""
        return True

    def _width(self) -> int:
        """Return how many songs are made at once. All songs of a process share stage 1's engine and the device."""
        return 1

    @property
    def width(self) -> int:
        """How many songs are made at once."""
        return self._width()

    @property
    def closed(self) -> bool:
        """Whether it takes no more songs."""
        return self._queue.closed

    @property
    def busy(self) -> bool:
        """Whether songs are being made, or wait."""
        return bool(self.unfinished)

    @property
    def unfinished(self) -> list[str]:
        """The ids of the songs that are being made, or wait."""
        return [generation_id for generation_id, job in list(self._jobs.items()) if not job.handle.done]

    def owns(self, generation_id: str) -> bool:
        return generation_id in self._jobs

    def submit(self, request: SongRequest, options: JobOptions) -> JobHandle:
        with self._lock:
            self._queue.check_limits(options.user, options.limits)
            generation_id = request.generation_id or secrets.token_hex(6)
            # The seed is drawn here, so that another attempt can go on from this one's stems.
            seed = request.seed if request.seed is not None else secrets.randbits(32)
            request = request.model_copy(update={"generation_id": generation_id, "seed": seed})
            engine = self._audio_engines.get(options.audio, request.audio_model)
            check_options(engine, request.audio_options)
            folder = self._folder(generation_id, options)
            now = utc_now()
            job = Job(id=generation_id, user_id=options.user, created_at=now, updated_at=now)
            state = new_state(job, request)
            made = self._make_job(request, state, engine, folder, options.labels)
            submission = self._submission(options, engine)
            self._journal().begin(job, request, made.generation.row, submission, limits=_shared(options.limits))
            if isinstance(options.audio, str | None):
                self._own_engines.pop(generation_id, None)
            else:
                self._own_engines[generation_id] = options.audio
            self._track(made)
            self._queue.submit(made, user=options.user)
            return made.handle

    def retry(self, generation_id: str, options: JobOptions) -> JobHandle:
        earlier = self._jobs.get(generation_id)
        if earlier is not None:
            earlier.log.wait_until_delivered()  # its last event goes to the listeners before the new attempt's first
        with self._lock:
            state = self._journal().state(generation_id)
            if state is None:
                raise Refused(f"There is no generation {generation_id}.", code=ErrorCode.NOT_FOUND)
            self._check_recoverable(state)
            self._queue.check_limits(state.owner, options.limits)
            request = self._journal().request(generation_id)
            submission = self._journal().submissions.of(generation_id) or Submission(self._songs)
            folder = self._folder_of(generation_id, submission)
            engine = self._engine_of(generation_id, submission, options, request)
            check_options(engine, request.audio_options)
            written = folder.written_metadata() if state.metadata is not None else None
            if written is None:
                request = request.model_copy(update={"metadata": state.metadata})
            earlier_row = self._kept_row(generation_id)
            labels = RunLabels.of(earlier_row) if earlier_row else options.labels
            attempt = (earlier_row.get("attempt") or 1) + 1
            made = self._make_job(request, state, engine, folder, labels, attempt, written)
            self._journal().reopen(state, made.generation.row, _shared(options.limits))
            folder.resume()
            self._track(made)
            self._queue.submit(made, user=state.owner)
            return made.handle

    def cancel(self, generation_id: str) -> bool:
        job = self._jobs.get(generation_id)
        if job is not None:
            asked = job.cancel(generation_id)
            if asked or job.generation.status not in ("completed", "failed"):
                return asked
        state = self._journal().state(generation_id)
        if state is not None and state.status == "cancelled":
            return False
        status = "unknown" if state is None else state.status
        ended = f"It is {status}." if state is None or status in ENDED else "It is another process's."
        raise Refused(f"Generation {generation_id} cannot be cancelled. {ended}", code=ErrorCode.CANCEL_FAILED)

    def lose(self, generation_id: str) -> None:
        """Stop a song that another server has ended, since this one was not to be heard. Nothing more is told of it."""
        if (job := self._jobs.get(generation_id)) is not None:
            job.generation.cancel()
            job.handle.fail(interrupted_error())

    def check_open(self) -> None:
        """Raise RuntimeError if the backend is closed."""
        self._queue.check_open()

    def close(self, grace_s: float) -> None:
        with self._lock:  # the job of a `submit` that is under way is among them
            self._queue.close()
            jobs = list(self._jobs.values())
        for job in jobs:
            job.handle.cancel()
        for job in jobs:
            if not job.handle.done:
                job.handle.stop(grace_s)
        for engine in self._restored:
            engine.close()

    def _check_recoverable(self, state: GenerationState) -> None:
        """Raise Refused if the generation can't be tried again."""
        error = state.failure.error if state.status == "failed" and state.failure is not None else None
        if error is None or not error.recoverable:
            if error is not None and error.code == ErrorCode.QUARANTINED:
                if self._journal().submissions.deaths(state.id) < MAX_DEATHS:
                    return  # the quarantine was lifted
                refusal = quarantine_error(state.id)
                raise Refused(refusal.message, code=refusal.code, hint=refusal.hint, details=refusal.details)
            why = f"It is {state.status}." if error is None else "It would fail again."
            raise Refused(f"Generation {state.id} cannot be tried again. {why}", code=ErrorCode.NOT_RECOVERABLE)

    def _folder(self, generation_id: str, options: JobOptions) -> SongFolder:
        out = Path(options.out) if options.out is not None else None
        return SongFolder(self._songs, generation_id, out, replaces=options.replaces)

    def _folder_of(self, generation_id: str, submission: Submission) -> SongFolder:
        """Return the folder that the song was submitted for; in the lab's songs, where its folder of songs is gone."""
        songs = submission.songs if submission.songs.is_dir() else self._songs
        return SongFolder(songs, generation_id, submission.out, replaces=submission.replaces)

    def _submission(self, options: JobOptions, engine: AudioEngine) -> Submission:
        audio: str | dict[str, Any] | None
        audio = options.audio if isinstance(options.audio, str | None) else {"engine": engine.name, **engine.identity()}
        out = None if options.out is None else absolute(options.out)
        return Submission(absolute(self._songs), out, options.replaces, audio)

    def _engine_of(
        self, generation_id: str, submission: Submission, options: JobOptions, request: SongRequest
    ) -> AudioEngine:
        """Return the engine that the song was submitted with, or the one that `options` name.

        Raises Refused if it was an object that only the process had which is gone.
        """
        choice = options.audio or self._own_engines.get(generation_id) or submission.audio
        if not isinstance(choice, Mapping):
            return self._audio_engines.get(choice, request.audio_model)
        try:
            engine = self._audio_engines.from_record(choice)
        except HarmoniaError as error:
            raise Refused(
                f"Generation {generation_id} was made with an engine of its own, {choice.get('engine')}, which this "
                f"process doesn't have. {error.message}",
                code=ErrorCode.NOT_RECOVERABLE,
                hint="Give the engine: lab.retry(…, audio=engine).",
            ) from error
        self._restored.append(engine)
        return engine

    def _make_job(
        self,
        request: SongRequest,
        state: GenerationState,
        engine: AudioEngine,
        folder: SongFolder,
        labels: RunLabels,
        first_attempt: int = 1,
        written: WrittenMetadata | None = None,
    ) -> LocalJob:
        """written: what stage 1 wrote in an earlier attempt."""
        job = LocalJob()
        job.handle = JobHandle(job, state.id, state, self._panel)
        # The handle comes last: a caller that waits for the job goes on once every other listener had the event.
        job.log = EventLog(state, self._journal(), self._publish, job.handle.observe)
        job.generation = self._new_generation(
            request,
            metadata_engine=written or (self._metadata.engine if request.metadata is None else self._metadata),
            audio_engine=engine,
            folder=folder,
            draw=_draw_overview,
            emit=job.log,
            log_row=self._log_row,
            history=self._history(),
            limits=self._limits,
            user_id=state.owner,
            labels=labels,
            first_attempt=first_attempt,
            keep_row=partial(self._keep_row, state.id),
            written=None if written is None else written.result,
        )
        return job

    def _new_generation(self, request: SongRequest, **arguments: Any) -> Generation:
        return Generation(request, **arguments)

    def _kept_row(self, generation_id: str) -> dict[str, Any]:
        """Return the row that the last attempt began with; empty if an older version began it."""
        with contextlib.suppress(StorageError):
            return self._journal().last_attempt(generation_id)
        return {}

    def _keep_row(self, generation_id: str, row: dict[str, Any]) -> None:
        """Keep the row of an attempt that begins, for the process that finds this one killed."""
        with contextlib.suppress(StorageError):  # the event log says that the journal can't be written
            self._journal().begin_attempt(generation_id, row)

    def _log_row(self, row: dict[str, Any]) -> None:
        """Add a row to the run log, now or as soon as that is possible."""
        self._on_row(row)
        try:
            self._run_log.append(row)
        except StorageError as error:
            self._journal().unwritten.add_row(self._run_log.path, row, error)

    def _history(self) -> list[dict[str, Any]]:
        """Return what times are learnt from; nothing of a log that can't be read, which is said when a row is added."""
        with contextlib.suppress(StorageError):
            return self._run_log.latest(LEARNT_ROWS, LEARNT_COLUMNS)
        return []

    def _track(self, job: LocalJob) -> None:
        self._jobs[job.handle.id] = job
        job.handle.when_done(lambda: self._forget(job))

    def _give_up(self, job: LocalJob) -> None:
        """End a job whose worker is stuck, and let the waiting jobs have a new engine in place of the one it is in."""
        generation, engine = job.generation, job.generation.lent_engine
        _log.warning(
            "Generation %s is given up: its engine, %s, did not stop within %g s. The next song gets a new one.",
            job.handle.id,
            getattr(engine, "name", engine),
            self._limits.unheard_s,
        )
        try:
            with self._lock:  # no `submit` makes a job with the old engine meanwhile
                renew: Callable[[Any], object] = self._audio_engines.renew
                renewed = (self._metadata.renew if generation.stage == "metadata" else renew)(engine)
                for waiting in list(self._jobs.values()):
                    waiting.generation.replace_engine(engine, renewed or engine)
        except Exception:  # noqa: BLE001 - whatever a new engine raises, the songs that wait must have their turn
            _log.exception("There is no new engine: the next song uses the same one.")
        generation.abandon()

    def _forget(self, job: LocalJob) -> None:
        self._queue.remove(job)
        if job.handle.status != "failed":
            self._own_engines.pop(job.handle.id, None)
        if self._jobs.get(job.handle.id) is job:
            del self._jobs[job.handle.id]


def _shared(limits: QueueLimits | None) -> tuple[int, int] | None:
    """Return the limits as the journal takes them, which may be shared with other servers."""
    return None if limits is None else (limits.total, limits.per_user)


def _draw_overview(path: Path, **picture: Any) -> str:
    """Draw the song's picture. Return what it can't show. The drawing library loads when the first picture is drawn."""
    from harmonia_lab.analysis.plots import overview  # noqa: PLC0415 - see above

    return overview(path, **picture)
