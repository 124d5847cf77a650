"""The songs of a batch that are begun: of the row whose turn it is, and of later ones where several are made at once.

Owns which they are, and what a batch needs of a lab. `run.py` follows each in its row's turn, and says how it ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from harmonia_lab.analysis.frames import BenchmarkLog
from harmonia_lab.backends.base import SONGS_AHEAD
from harmonia_lab.batch.handle import BatchWatch
from harmonia_lab.batch.identity import EngineNames
from harmonia_lab.batch.plan import BatchPlan
from harmonia_lab.batch.resuming import generation_to_resume
from harmonia_lab.batch.songs import leftovers
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.store.journal_core import JournalCore
from harmonia_lab.store.run_log import RunLabels

__all__ = ["BatchLab", "BegunSongs"]


class BatchLab(EngineNames, Protocol):
    """What a batch needs of `lab.Lab`."""

    songs: Path
    log: BenchmarkLog
    labels: RunLabels

    @property
    def songs_at_once(self) -> int: ...

    @property
    def journal(self) -> JournalCore: ...

    @property
    def metadata_engine(self) -> Any: ...

    @property
    def metadata_reason(self) -> str: ...

    def submit_request(
        self,
        request: SongRequest,
        *,
        audio: Any = None,
        out: Any = None,
        here: bool = False,
        replaces: bool = False,
        labels: RunLabels | None = None,
    ) -> Any: ...

    def retry(self, generation_id: str, *, here: bool = False) -> Any: ...


class BegunSongs:
    """For the batch's thread."""

    def __init__(
        self,
        lab: BatchLab,
        plan: BatchPlan,
        require: str | None,
        watch: BatchWatch,
        seconds_left: Callable[[int], float | None],
    ) -> None:
        """require: as `Lab.batch` takes it. seconds_left: of the songs from a row on."""
        self._lab, self._plan, self._require, self._watch = lab, plan, require, watch
        self._seconds_left = seconds_left
        self.ids: dict[int, str] = {}
        """Index of each row that was tried → its generation's id; "" before it has one."""
        self._ahead: dict[int, JobHandle | HarmoniaError] = {}
        """Index of each row that was begun before its turn → its job, or why it can't begin."""

    def job_of(self, index: int) -> JobHandle:
        """Return the job of a row whose turn it is, which begins now, unless it has. Raises why it can't."""
        job = self._ahead.pop(index, None)
        if isinstance(job, HarmoniaError):
            raise job
        return job or self._begin(index)

    def begin_after(self, index: int) -> None:
        """Begin songs of rows after `index`, where the lab makes several at once, and `SONGS_AHEAD` more, which take
        the next places. Cancel those that are not wanted any more."""
        most = self._lab.songs_at_once
        if most == 1 or self._watch.stopped:
            return
        for later, job in self._ahead.items():
            if isinstance(job, JobHandle) and self._watch.is_cancelled(later):
                job.cancel()
        begun = 1 + sum(isinstance(job, JobHandle) and not job.done for job in self._ahead.values())
        for later, task in self._plan.tasks.items():
            if begun >= most + SONGS_AHEAD:
                return
            if later <= index or later in self.ids or self._watch.is_cancelled(later) or any(leftovers(task.folder)):
                continue  # leftovers may be a whole song: they are looked at in the row's turn
            try:
                self._ahead[later] = self._begin(later)
            except HarmoniaError as error:
                self._ahead[later] = error
            begun += 1

    def stop(self, grace_s: float) -> None:
        """Stop the songs whose rows had no turn, when the batch ends before that."""
        jobs = [job for job in self._ahead.values() if isinstance(job, JobHandle) and not job.done]
        for job in jobs:
            job.cancel()
        for job in jobs:
            job.stop(grace_s)

    def _begin(self, index: int) -> JobHandle:
        """Begin a row's song, or go on with what is kept of it. Raises the HarmoniaError that keeps it from that."""
        self.ids[index] = ""
        task, row = self._plan.tasks[index], self._plan.outcomes[index].row
        earlier = generation_to_resume(self._lab.journal, task, row.audio, self._require)
        job: JobHandle
        if earlier is not None:
            job = self._lab.retry(earlier, here=True)
        else:
            labels = replace(self._lab.labels, batch_row=row.number)
            job = self._lab.submit_request(
                task.identity.request,
                audio=row.audio,
                out=task.folder,
                here=True,
                replaces=task.replaces,
                labels=labels,
            )
        self.ids[index] = job.id
        self._watch.song_began(index, job, self._seconds_left(index))
        return job
