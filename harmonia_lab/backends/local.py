"""The songs that this process makes: asked for, queued, told, logged, cancelled, tried again.

Owns the queue, the journal, and what becomes of an event. Every step of making a song is somebody else's: `pipeline/`
orders them, `engines/` do them.
"""

from __future__ import annotations

import logging
import secrets
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harmonia_lab.backends.job_queue import JobQueue
from harmonia_lab.engine_registry import AudioEngines
from harmonia_lab.engines.base import AudioEngine, MetadataEngine
from harmonia_lab.errors import ErrorCode, Refused
from harmonia_lab.events.event_log import Outlet
from harmonia_lab.events.fanout import Fanout
from harmonia_lab.events.job_family import JobView
from harmonia_lab.events.state import Standing
from harmonia_lab.generation.artifacts import SongFolder
from harmonia_lab.generation.audio_stage import DrawOverview
from harmonia_lab.generation.generation import Generation, Limits
from harmonia_lab.generation.handle import JobHandle, QueueLimits
from harmonia_lab.protocol.events import Event, JobFailedEvent
from harmonia_lab.protocol.models import Job, SongRequest, utc_now
from harmonia_lab.store.journal import Journal

if TYPE_CHECKING:
    from harmonia_lab.analysis.frames import BenchmarkLog

__all__ = ["Workshop"]

_log = logging.getLogger(__name__)


class Owner(Protocol):
    """Whose workshop it is, `Lab`: folders, limits, stage 1, and where events, rows and views go."""

    home: Path
    songs: Path
    limits: Limits
    metadata_engine: MetadataEngine
    log: BenchmarkLog
    events: Fanout

    def panel(self, generation_id: str) -> Any: ...


class Workshop:
    """Makes one song at a time. Methods may be called from any thread."""

    def __init__(self, owner: Owner, audio_engines: AudioEngines) -> None:
        self._owner = owner
        self._audio_engines = audio_engines
        self._queue = JobQueue()
        self._lock = threading.RLock()
        self._opening = threading.Lock()
        self._journal: Journal | None = None
        self._active: dict[str, JobHandle] = {}
        self._chosen: dict[str, tuple[str | AudioEngine | None, Path | str | None]] = {}

    @property
    def busy(self) -> bool:
        """Whether songs are being made, or wait."""
        return any(not job.done for job in list(self._active.values()))

    def is_at(self, generation_id: str) -> bool:
        """Whether this one is being made here, or waits."""
        return generation_id in self._active

    def chosen(self, generation_id: str) -> tuple[str | AudioEngine | None, Path | str | None]:
        """The engine and the folder that were asked for with it, which no journal keeps."""
        return self._chosen.get(generation_id, (None, None))

    @property
    def journal(self) -> Journal:
        """As `Lab.journal`."""
        with self._opening:
            if self._journal is None:
                self._journal = Journal(self._owner.home / "journal.sqlite3")
                for generation_id in self._journal.end_interrupted():
                    _log.warning("Generation %s was interrupted: the process that made it has ended.", generation_id)
            return self._journal

    def submit(
        self,
        request: SongRequest,
        *,
        audio: str | AudioEngine | None = None,
        out: Path | str | None = None,
        user: str = "local",
        limits: QueueLimits | None = None,
    ) -> JobHandle:
        """Queues it and returns. audio: another engine than the lab's. out: the song's own folder.

        Raises InvalidRequest where the generation's id is taken or an engine is unknown, Refused (QUEUE_FULL) beyond
        `limits`, StorageError where the journal can't be written.
        """
        with self._lock:
            self._queue.check_room(user, limits)
            generation_id = request.generation_id or secrets.token_hex(6)
            # Drawn here, so that another attempt can go on from this one's stems.
            seed = request.seed if request.seed is not None else secrets.randbits(32)
            request = request.model_copy(update={"generation_id": generation_id, "seed": seed})
            now = utc_now()
            job = Job(id=generation_id, user_id=user, created_at=now, updated_at=now)
            handle = self._launch(request, JobView(job, metadata=request.metadata), audio, out)
            self._chosen[generation_id] = (audio, out)
            return handle

    def cancel(self, generation_id: str) -> None:
        """As `Lab.cancel`."""
        job = self._active.get(generation_id)
        if job is not None:
            job.cancel()
        standing = self.journal.standing(generation_id)
        status = "unknown" if standing is None else standing.job.status
        if status == "cancelled" or (job is not None and status in ("pending", "processing")):
            return
        ended = "It is another process's." if status in ("pending", "processing") else f"It is {status}."
        raise Refused(f"Generation {generation_id} cannot be cancelled. {ended}", code=ErrorCode.CANCEL_FAILED)

    def retry(self, generation_id: str, *, limits: QueueLimits | None = None) -> JobHandle:
        """As `Lab.retry`."""
        with self._lock:
            standing = self.journal.standing(generation_id)
            if standing is None:
                raise Refused(f"There is no generation {generation_id}.", code=ErrorCode.NOT_FOUND)
            failures = [e for e in self.journal.replay(generation_id, "job") if isinstance(e, JobFailedEvent)]
            if standing.job.status != "failed" or not failures[-1].recoverable:
                why = "It would fail again." if standing.job.status == "failed" else f"It is {standing.job.status}."
                raise Refused(
                    f"Generation {generation_id} cannot be tried again. {why}", code=ErrorCode.NOT_RECOVERABLE
                )
            self._queue.check_room(standing.owner, limits)
            request = standing.request.model_copy(update={"metadata": standing.metadata})
            view = JobView(standing.job, metadata=standing.metadata, seq=standing.job_seq, tick=standing.job_tick)
            return self._launch(request, view, *self.chosen(generation_id), earlier=standing)

    def check_open(self) -> None:
        """Raises RuntimeError once its lab is closed."""
        self._queue.check_open()

    def cancel_all(self, grace_s: float) -> None:
        """Cancels what runs and what waits, and takes nothing more. Idempotent."""
        self._queue.close(grace_s)

    def close(self) -> None:
        """Closes the journal. Idempotent."""
        if self._journal is not None:
            self._journal.close()

    def _launch(
        self,
        request: SongRequest,
        view: JobView,
        audio: str | AudioEngine | None,
        out: Path | str | None,
        earlier: Standing | None = None,
    ) -> JobHandle:
        """earlier: where an attempt that failed left it."""
        user, generation_id = view.job.user_id, view.job.id
        outlet = Outlet(view, self.journal, self._owner.events)
        first = True

        def emit(event: Event) -> None:
            handle.observe(event)
            outlet(event)

        def announce(place: int, eta_s: float) -> None:
            nonlocal first
            say, first = (outlet.queued if first else outlet.moved), False
            say(position=place, eta_seconds=eta_s)

        engine = self._audio_engines.get(audio, request.audio_model)
        folder = SongFolder(self._owner.songs, generation_id, Path(out) if out is not None else None)
        generation = Generation(
            request,
            metadata_engine=self._owner.metadata_engine,
            audio_engine=engine,
            folder=lambda _: folder,
            draw=_draw_overview(),
            emit=emit,
            log_row=self._owner.log.append,
            history=self._owner.log.rows(),
            limits=self._owner.limits,
            user_id=user,
            seq=earlier.seq if earlier else 0,
            tick=earlier.tick if earlier else 0,
        )
        handle = JobHandle(generation, announce, self._owner.panel)
        if earlier is None:
            self.journal.begin(view.job, request)
        else:
            folder.resume()
        self._active[generation_id] = handle
        handle.when_done(lambda: self._ended(handle))
        # One device: whatever renders, all songs of a lab share stage 1's engine.
        self._queue.submit(handle, user=user)
        return handle

    def _ended(self, job: JobHandle) -> None:
        if self._active.get(job.id) is job:
            del self._active[job.id]


def _draw_overview() -> DrawOverview:
    """The drawing library loads when the picture is drawn, not before."""

    def draw(path: Path, **picture: Any) -> None:
        from harmonia_lab.analysis.plots import overview  # noqa: PLC0415

        overview(path, **picture)

    return draw
