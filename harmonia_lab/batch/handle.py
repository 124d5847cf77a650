"""`BatchHandle`: a batch that is being made in the background, as its caller and its panel see it.

Owns what is known of the rows while they are made. `run.py` makes the songs, and tells a `BatchWatch` what happens.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from harmonia_lab.batch.report import BatchReport, Outcome
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.songs_handle import Present, SongProgress, SongsHandle

__all__ = ["BatchHandle", "BatchWatch"]


class BatchWatch:
    """What `run.py` tells while it makes a batch, and what it is asked for. This one does nothing, and asks nothing."""

    stopped = False
    """Whether the batch is to end; the song that is being made is cancelled."""

    def planned(self, report: BatchReport) -> None:
        """The table is read, and songs are made from now on. report: as it is now; it changes while they are made."""

    def song_began(self, index: int, job: JobHandle, seconds_left: float | None) -> None:
        """seconds_left: of the whole batch, this song included; None while there is no song to learn it from."""

    def row_ended(self, index: int, outcome: Outcome) -> None:
        """The report has `outcome` from now on."""

    def noted(self, note: str) -> None:
        """note: what is being done beside the songs; "" when it is done."""

    def is_cancelled(self, _index: int) -> bool:
        """Return whether this row's song is not wanted any more."""
        return False


class BatchHandle(SongsHandle[BatchReport], BatchWatch):
    """A batch being made. `batch.result()`, `await batch`, `batch.cancel()`; Jupyter shows its panel."""

    what, unit = "batch", "rows"

    def __init__(self, run: Callable[[BatchWatch], BatchReport], present: Present) -> None:
        """run: makes the batch. present: shows the handle in a cell."""
        super().__init__(present)
        self._run = run
        self._report: BatchReport | None = None
        self._peaks: dict[int, tuple[int | None, int | None]] = {}
        self._note = ""

    def _make(self) -> BatchReport:
        self._report = self._run(self)
        return self._report

    @property
    def report(self) -> BatchReport:
        """The report as it is now. It changes while songs are made."""
        assert self._report is not None
        return self._report

    @property
    def total(self) -> int:
        """How many rows there are."""
        return len(self.report.outcomes)

    @property
    def done(self) -> int:
        """How many rows have ended: with a song, also one of an earlier run, or with an error."""
        return sum(outcome.status != "waiting" for outcome in self.report.outcomes)

    @property
    def failures(self) -> int:
        """How many rows have ended without a song."""
        return len(self.report.errors)

    @property
    def why_stopped(self) -> str:
        """Why the batch ended before its last row; "" where it didn't."""
        return str(self.report.stopped or "")

    @property
    def note(self) -> str:
        """Which sounds are being encoded, if any are."""
        return self._note

    def __repr__(self) -> str:
        return f"BatchHandle({self.report.out}, {self.state}, {self.done} of {self.total})"

    # For `run.py`, in the batch's thread

    def planned(self, report: BatchReport) -> None:
        self._report = report
        self._planned.set()

    def song_began(self, index: int, job: JobHandle, seconds_left: float | None) -> None:
        self._begin(index, job, seconds_left)

    def row_ended(self, index: int, outcome: Outcome) -> None:
        peaks = _memory_peaks(self.report.out / outcome.song["directory"]) if outcome.status == "made" else None
        with self._lock:
            self._jobs.pop(index, None)
            if peaks is not None:
                self._peaks[index] = peaks
        self._tell()

    def noted(self, note: str) -> None:
        self._note = note
        self._tell()

    def _progress(self, index: int) -> SongProgress:
        outcome = self.report.outcomes[index]
        row, song = outcome.row, outcome.song
        request = row.request
        common: dict[str, Any] = {"number": row.number, "narrative": request.narrative if request is not None else ""}
        if song:
            rss, gpu = self._peaks.get(index, (None, None))
            return SongProgress(
                **common,
                status="kept" if outcome.status == "kept" else "made",
                id=song["generationId"],
                title=song["title"],
                seed=song["seed"],
                percent=100.0,
                seconds=song["totalSeconds"],
                rss_peak=rss,
                gpu_peak=gpu,
                folder=self.report.out / song["directory"],
            )
        common["seed"] = request.seed if request is not None else None
        if outcome.error is not None:
            return SongProgress(**common, **self._error_values(index, outcome.error))
        if (running := self._running_values(index)) is not None:
            return SongProgress(**common, **running)
        return SongProgress(**common, status="cancelled" if index in self._unwanted else "waiting")


def _memory_peaks(folder: Path) -> tuple[int | None, int | None] | None:
    """Return the highest readings in a song's record: this process with its children, the GPU. None: no record."""
    try:
        stages = read_record(folder).get("memory") or {}
        samples = [sample for stage in stages.values() for sample in stage["samples"]]
        gpu = [used for _, _, used in samples if used is not None]
        return max((rss for _, rss, _ in samples), default=None), max(gpu, default=None)
    except (HarmoniaError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
