"""`LocalBackend`: makes songs in this process, one at a time.

Owns the jobs that wait or run here. `generation/` makes a song, `events/event_log.py` hands on its events,
`job_queue.py` decides whose turn it is.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from harmonia_lab.backends.base import JobOptions
from harmonia_lab.backends.job_queue import JobQueue
from harmonia_lab.backends.local_job import LocalJob
from harmonia_lab.backends.metadata_choice import MetadataChoice
from harmonia_lab.engine_registry import AudioEngines
from harmonia_lab.engines.base import AudioEngine
from harmonia_lab.errors import ErrorCode, Refused, StorageError
from harmonia_lab.events.event_log import EventLog
from harmonia_lab.events.state import GenerationState, new_state
from harmonia_lab.generation.artifacts import SongFolder
from harmonia_lab.generation.generation import Generation, TimeLimits
from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.generation.progress import LEARNT_COLUMNS, LEARNT_ROWS
from harmonia_lab.protocol.events import FamilyEvent
from harmonia_lab.protocol.models import ENDED, Job, SongRequest, utc_now
from harmonia_lab.store.journal import Journal
from harmonia_lab.store.run_log import RunLabels, RunLog

__all__ = ["LocalBackend"]


class LocalBackend:
    """A `Backend`: makes one song at a time, users taking turns. It takes every option."""

    def __init__(
        self,
        *,
        journal: Callable[[], Journal],
        publish: Callable[[FamilyEvent], None],
        run_log: RunLog,
        songs: Path,
        limits: TimeLimits,
        metadata: MetadataChoice,
        audio_engines: AudioEngines,
        panel: Callable[[str], Any] | None = None,
    ) -> None:
        """journal: opens the journal with the first song. publish: gets every event. songs: the folder of songs.
        panel: makes a view of a generation."""
        self._journal, self._publish, self._run_log = journal, publish, run_log
        self._songs, self._limits, self._panel = songs, limits, panel
        self._metadata, self._audio_engines = metadata, audio_engines
        self._queue: JobQueue = JobQueue()
        self._lock = threading.RLock()
        self._jobs: dict[str, LocalJob] = {}

    @property
    def running(self) -> bool:
        """Always: it ends with its lab."""
        return True

    @property
    def busy(self) -> bool:
        """Whether songs are being made, or wait."""
        return any(not job.handle.done for job in list(self._jobs.values()))

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
            folder = self._folder(generation_id, options)
            now = utc_now()
            job = Job(id=generation_id, user_id=options.user, created_at=now, updated_at=now)
            state = new_state(job, request)
            made = self._make_job(request, state, engine, folder, options.labels)
            self._journal().begin(job, request, made.generation.row)
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
            if state.status != "failed" or state.failure is None or not state.failure.error.recoverable:
                why = "It would fail again." if state.status == "failed" else f"It is {state.status}."
                raise Refused(
                    f"Generation {generation_id} cannot be tried again. {why}", code=ErrorCode.NOT_RECOVERABLE
                )
            self._queue.check_limits(state.owner, options.limits)
            request = self._journal().request(generation_id).model_copy(update={"metadata": state.metadata})
            folder = self._folder(generation_id, options)
            engine = self._audio_engines.get(options.audio, request.audio_model)
            earlier_row = self._kept_row(generation_id)
            labels = RunLabels.of(earlier_row) if earlier_row else options.labels
            made = self._make_job(request, state, engine, folder, labels, (earlier_row.get("attempt") or 1) + 1)
            self._keep_row(generation_id, made.generation.row)
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

    def _folder(self, generation_id: str, options: JobOptions) -> SongFolder:
        out = Path(options.out) if options.out is not None else None
        return SongFolder(self._songs, generation_id, out, replaces=options.replaces)

    def _make_job(
        self,
        request: SongRequest,
        state: GenerationState,
        engine: AudioEngine,
        folder: SongFolder,
        labels: RunLabels,
        first_attempt: int = 1,
    ) -> LocalJob:
        job = LocalJob()
        job.handle = JobHandle(job, state.id, state, self._panel)
        # The handle comes last: a caller that waits for the job goes on once every other listener had the event.
        job.log = EventLog(state, self._journal(), self._publish, job.handle.observe)
        job.generation = Generation(
            request,
            metadata_engine=self._metadata.engine if request.metadata is None else self._metadata,
            audio_engine=engine,
            folder=folder,
            draw=_draw_overview,
            emit=job.log,
            log_row=self._run_log.append,
            history=self._history(),
            limits=self._limits,
            user_id=state.owner,
            labels=labels,
            first_attempt=first_attempt,
            keep_row=partial(self._keep_row, state.id),
        )
        return job

    def _kept_row(self, generation_id: str) -> dict[str, Any]:
        """Return the row that the last attempt began with; empty if an older version began it."""
        with contextlib.suppress(StorageError):
            return self._journal().last_attempt(generation_id)
        return {}

    def _keep_row(self, generation_id: str, row: dict[str, Any]) -> None:
        """Keep the row of an attempt that begins, for the process that finds this one killed."""
        with contextlib.suppress(StorageError):  # the event log says that the journal can't be written
            self._journal().begin_attempt(generation_id, row)

    def _history(self) -> list[dict[str, Any]]:
        """Return what times are learnt from; nothing of a log that can't be read, which is said when a row is added."""
        with contextlib.suppress(StorageError):
            return self._run_log.latest(LEARNT_ROWS, LEARNT_COLUMNS)
        return []

    def _track(self, job: LocalJob) -> None:
        self._jobs[job.handle.id] = job
        job.handle.when_done(lambda: self._forget(job))

    def _forget(self, job: LocalJob) -> None:
        self._queue.remove(job)
        if self._jobs.get(job.handle.id) is job:
            del self._jobs[job.handle.id]


def _draw_overview(path: Path, **picture: Any) -> str:
    """Draw the song's picture. Return what it can't show. The drawing library loads when the first picture is drawn."""
    from harmonia_lab.analysis.plots import overview  # noqa: PLC0415 - see above

    return overview(path, **picture)
