"""`LocalBackend`: makes songs in this process, one at a time.

Owns the jobs that wait or run here. `generation/` orders the steps of making a song, `events/event_log.py` takes its
events out, `job_queue.py` says whose turn it is.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harmonia_lab.backends.base import LOCAL_USER
from harmonia_lab.backends.job_queue import JobQueue
from harmonia_lab.engine_registry import AudioEngines
from harmonia_lab.engines.base import AudioEngine, MetadataEngine
from harmonia_lab.errors import ErrorCode, HarmoniaError, Refused
from harmonia_lab.events.event_log import EventLog
from harmonia_lab.events.state import GenerationState, new_state
from harmonia_lab.generation.artifacts import SongFolder
from harmonia_lab.generation.generation import Generation, TimeLimits
from harmonia_lab.generation.handle import JobHandle, QueueLimits
from harmonia_lab.protocol.events import FamilyEvent
from harmonia_lab.protocol.models import ENDED, Job, Song, SongRequest, utc_now
from harmonia_lab.store.journal import Journal
from harmonia_lab.store.run_log import RunLog

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
        metadata_engine: MetadataEngine,
        audio_engines: AudioEngines,
        panel: Callable[[str], Any] | None = None,
    ) -> None:
        """journal: opens the journal with the first song. publish: gets every event. songs: the folder of songs.
        panel: makes a view of a generation."""
        self._journal, self._publish, self._run_log = journal, publish, run_log
        self._songs, self._limits, self._panel = songs, limits, panel
        self._metadata_engine, self._audio_engines = metadata_engine, audio_engines
        self._queue: JobQueue[_LocalJob] = JobQueue()
        self._lock = threading.RLock()
        self._jobs: dict[str, _LocalJob] = {}

    @property
    def running(self) -> bool:
        """Always: it ends with its lab."""
        return True

    @property
    def busy(self) -> bool:
        """Whether songs are being made, or wait."""
        return any(not job.handle.done for job in list(self._jobs.values()))

    def can(self, option: str) -> bool:
        del option
        return True

    def owns(self, generation_id: str) -> bool:
        return generation_id in self._jobs

    def submit(
        self,
        request: SongRequest,
        *,
        audio: str | AudioEngine | None = None,
        out: Path | str | None = None,
        user: str = LOCAL_USER,
        limits: QueueLimits | None = None,
    ) -> JobHandle:
        with self._lock:
            self._queue.check_room(user, limits)
            generation_id = request.generation_id or secrets.token_hex(6)
            # The seed is drawn here, so that another attempt can go on from this one's stems.
            seed = request.seed if request.seed is not None else secrets.randbits(32)
            request = request.model_copy(update={"generation_id": generation_id, "seed": seed})
            engine = self._audio_engines.get(audio, request.audio_model)
            folder = self._folder(generation_id, out)
            now = utc_now()
            job = Job(id=generation_id, user_id=user, created_at=now, updated_at=now)
            state = new_state(job, request)
            made = self._make_job(request, state, engine, folder)
            self._journal().begin(job, request)
            self._queue.submit(self._tracked(made), user=user)
            return made.handle

    def retry(
        self,
        generation_id: str,
        *,
        audio: str | AudioEngine | None = None,
        out: Path | str | None = None,
        limits: QueueLimits | None = None,
    ) -> JobHandle:
        with self._lock:
            state = self._journal().state(generation_id)
            if state is None:
                raise Refused(f"There is no generation {generation_id}.", code=ErrorCode.NOT_FOUND)
            if state.status != "failed" or state.failure is None or not state.failure.error.recoverable:
                why = "It would fail again." if state.status == "failed" else f"It is {state.status}."
                raise Refused(
                    f"Generation {generation_id} cannot be tried again. {why}", code=ErrorCode.NOT_RECOVERABLE
                )
            self._queue.check_room(state.owner, limits)
            request = self._journal().request(generation_id).model_copy(update={"metadata": state.metadata})
            folder = self._folder(generation_id, out)
            engine = self._audio_engines.get(audio, request.audio_model)
            made = self._make_job(request, state, engine, folder)
            folder.resume()
            self._queue.submit(self._tracked(made), user=state.owner)
            return made.handle

    def cancel(self, generation_id: str) -> bool:
        job = self._jobs.get(generation_id)
        if job is not None:
            if job.generation.status == "pending" and job.generation.abandon():
                return True  # it had not begun: there is no worker to wait for
            if job.generation.cancel():
                return True
            if job.generation.status not in ("completed", "failed"):
                return False
        state = self._journal().state(generation_id)
        if state is not None and state.status == "cancelled":
            return False
        status = "unknown" if state is None else state.status
        ended = f"It is {status}." if state is None or status in ENDED else "It is another process's."
        raise Refused(f"Generation {generation_id} cannot be cancelled. {ended}", code=ErrorCode.CANCEL_FAILED)

    def abandon(self, generation_id: str) -> bool:
        job = self._jobs.get(generation_id)
        return job is not None and job.generation.abandon()

    def outcome(self, state: GenerationState) -> Song:
        outcome = self._jobs[state.id].generation.outcome
        if isinstance(outcome, Song):
            return outcome
        assert outcome is not None, "set before the event that ends the generation"
        raise outcome

    def check_open(self) -> None:
        """Raise RuntimeError if the backend is closed."""
        self._queue.check_open()

    def close(self, grace_s: float) -> None:
        self._queue.close()
        jobs = list(self._jobs.values())
        for job in jobs:
            job.handle.cancel()
        for job in jobs:
            if not job.handle.done:
                job.handle.stop(grace_s)

    def _folder(self, generation_id: str, out: Path | str | None) -> SongFolder:
        return SongFolder(self._songs, generation_id, Path(out) if out is not None else None)

    def _make_job(
        self, request: SongRequest, state: GenerationState, engine: AudioEngine, folder: SongFolder
    ) -> _LocalJob:
        handle = JobHandle(self, state.id, state, self._panel)
        # The handle comes last: a caller that waits for the job goes on once every other listener had the event.
        log = EventLog(state, self._journal(), self._publish, handle.observe)
        generation = Generation(
            request,
            metadata_engine=self._metadata_engine,
            audio_engine=engine,
            folder=folder,
            draw=_draw_overview,
            emit=log,
            log_row=self._run_log.append,
            history=self._run_log.rows(),
            limits=self._limits,
            user_id=state.owner,
        )
        return _LocalJob(generation, log, handle)

    def _tracked(self, job: _LocalJob) -> _LocalJob:
        self._jobs[job.handle.id] = job
        job.handle.when_done(lambda: self._forget(job))
        return job

    def _forget(self, job: _LocalJob) -> None:
        self._queue.remove(job)
        if self._jobs.get(job.handle.id) is job:
            del self._jobs[job.handle.id]


@dataclass(eq=False)
class _LocalJob:
    """A generation on its way through the queue; see `job_queue.QueueItem`."""

    generation: Generation
    log: EventLog
    handle: JobHandle

    @property
    def remaining_s(self) -> float:
        eta_s = self.handle.progress.eta_seconds if self.handle.progress is not None else None
        return self.generation.expected_s if eta_s is None else eta_s

    def announce(self, position: int, eta_s: float) -> None:
        self.log.queued(position, eta_s)

    @property
    def run(self) -> Callable[[], Song]:
        return self.generation.run

    def fail(self, error: HarmoniaError) -> None:
        self.handle.fail(error)


def _draw_overview(path: Path, **picture: Any) -> None:
    """Draw the song's picture. The drawing library loads when the first picture is drawn."""
    from harmonia_lab.analysis.plots import overview  # noqa: PLC0415 - see above

    overview(path, **picture)
