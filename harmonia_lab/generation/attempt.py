"""One attempt at a song: what its two stages share, and what they measure.

Owns the log row and the song's timings while they are filled, the attempt's clocks, memory by stage, and a stage's time
limit. How a generation starts, is retried and ends is decided in `generation.py`.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from harmonia_lab.engines.base import CancelToken, processes_of
from harmonia_lab.engines.load import read_load
from harmonia_lab.engines.probes import MemoryReading, cpu_seconds, measure_memory
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.generation.progress import OverallProgress
from harmonia_lab.generation.recovery_plans import Retry, recovery_event
from harmonia_lab.protocol.events import (
    AudioGenerationProgress,
    Event,
    MetadataGenerationProgress,
    ProgressEvent,
    StageName,
)
from harmonia_lab.protocol.models import SongRequest, iso_time, utc_now

__all__ = ["Attempt", "release_frames", "time_limit"]


@dataclass
class Attempt:
    """Data that both stages share. Its clocks run from when it is made; `start` sets them again.

    engines: by stage. row: the run log's row as filled so far. timings: seconds by step, for the song's record.
    memory: stage → {"began": seconds since the first stage's start, "samples": [[second since then, bytes of this
    process and its children, bytes in use on the GPU or null], …]}.
    """

    request: SongRequest
    generation_id: str
    song_id: str
    seed: int
    cancel: CancelToken
    emit: Callable[[Event], None]
    overall: OverallProgress
    engines: Mapping[str, object]
    row: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    _memory_began: float | None = None
    _ended: dict[str, Any] | None = None
    _told: Counter[tuple[StageName, str]] = field(default_factory=Counter)
    _latest: ProgressEvent | None = None

    def __post_init__(self) -> None:
        self._send, self.emit = self.emit, self._emit
        self.start()

    def _emit(self, event: Event) -> None:
        if isinstance(event, ProgressEvent):
            self._latest = event
        self._send(event)

    def start(self) -> None:
        """Measure the attempt from now on: what it waited in a queue isn't counted."""
        self.row["started_at"] = iso_time(utc_now())
        self._began, self._cpu, self._load = time.perf_counter(), cpu_seconds(), read_load()
        self._try_began = self._began

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self._began

    def columns_at_its_end(self) -> dict[str, Any]:
        """Return wall and processor time, and the load by other programs, until now or until `end`."""
        if self._ended is not None:
            return self._ended
        cpu_s = cpu_seconds() - self._cpu
        load = read_load().columns(self._load, cpu_s)
        return {"total_s": round(self.elapsed_s, 6), "cpu_s": round(cpu_s, 3), **load}

    def end(self) -> None:
        """Measure no further: what is waited for from now on is no part of the attempt."""
        self._ended = self.columns_at_its_end()

    def say_wait(self, stage: StageName, retry: Retry) -> None:
        """Report the wait before a retry as progress, so that whoever watches a bar sees it: the latest, with another
        status."""
        wait = f" (again in {retry.wait_s:.0f} s)" if retry.wait_s >= 1 else ""
        latest = self._latest
        if latest is None:
            estimate = self.overall.at("metadata" if stage == "metadata" else "render", 0.0)
            shares = {"progress": estimate.stage, "overall_progress": estimate.overall, "status": ""}
            latest = (
                MetadataGenerationProgress(generation_id=self.generation_id, current_step="analysis", **shares)
                if stage == "metadata"
                else AudioGenerationProgress(
                    generation_id=self.generation_id, instruments_completed=0, total_instruments=1, **shares
                )
            )
        self._send(latest.model_copy(update={"status": f"{retry.action}{wait}"}))

    def follows(self, retry: Retry) -> None:
        """Record that the attempt is a retry, which begins now."""
        self._count_recovery(retry.plan, retry.cost_s)

    def recovers_within(self, failure: HarmoniaError, stage: StageName, plan: str, action: str) -> None:
        """Record and tell a failure that an engine deals with by itself. plan: unless the error's details name one.

        The cost is the time of the try that failed, and the wait that follows.
        """
        now = time.perf_counter()
        plan = str(failure.details.get("plan") or plan)
        self._told[stage, plan] += 1
        retry = Retry(plan, self._told[stage, plan], float(failure.details.get("waitSeconds") or 0.0), action)
        self._count_recovery(plan, max(0.0, now - self._try_began) + retry.wait_s)
        self._try_began = now + retry.wait_s
        self.emit(recovery_event(self.generation_id, failure, stage, retry))

    def _count_recovery(self, plan: str, cost_s: float) -> None:
        before = self.row.get("recoveries")
        self.row["recoveries"] = f"{before},{plan}" if before else plan
        self.row["recovery_s"] = round((self.row.get("recovery_s") or 0.0) + cost_s, 6)

    def record_duration(self, column: str, seconds: float) -> None:
        """Write a duration into the row, and under the same name without its unit into the timings."""
        self.row[column] = round(seconds, 6)
        self.timings[column.removesuffix("_s")] = round(seconds, 6)

    @contextmanager
    def timed(self, column: str) -> Iterator[None]:
        """Record how long the block took, unless it raises."""
        began = time.perf_counter()
        yield
        self.record_duration(column, time.perf_counter() - began)

    @contextmanager
    def measured(self, stage: StageName) -> Iterator[MemoryReading]:
        """Record a stage's memory, also if it raises: peaks in `row`, samples in `memory`. Yield the reading."""
        self._try_began = time.perf_counter()
        others = [engine for name, engine in self.engines.items() if name != stage]  # they idle or load meanwhile
        reading: MemoryReading | None = None
        try:
            with measure_memory(lambda: [pid for engine in others for pid in processes_of(engine)]) as reading:
                yield reading
        finally:
            if reading is not None:
                self._record_memory(stage, reading)

    def _record_memory(self, stage: StageName, reading: MemoryReading) -> None:
        self._memory_began = self._memory_began or reading.began
        self.memory[stage] = {"began": round(reading.began - self._memory_began, 3), "samples": reading.samples}
        self.row |= {
            "pss_peak_bytes": max(self.row.get("pss_peak_bytes") or 0, reading.total_pss_peak or 0) or None,
            f"{stage}_pss_peak_bytes": reading.pss_peak,
            f"{stage}_rss_peak_bytes": reading.rss_peak,
            f"{stage}_uss_peak_bytes": reading.uss_peak,
            "memory_reason": reading.memory_reason,
            f"{stage}_gpu_allocated_peak_bytes": reading.gpu_allocated_peak,
            f"{stage}_gpu_reserved_peak_bytes": reading.gpu_reserved_peak,
            f"{stage}_gpu_used_peak_bytes": reading.gpu_used_peak,
            "gpu_reason": reading.gpu_reason,
        }


@contextmanager
def time_limit(cancel: CancelToken, seconds: float) -> Iterator[None]:
    """Cancel with reason "timeout" if the block takes longer than `seconds`."""
    timer = threading.Timer(seconds, cancel.cancel, ("timeout",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def release_frames(error: BaseException | None) -> None:
    """Clear the local variables of the frames that the traceback holds.

    They hold hundreds of megabytes of audio, for as long as a caller keeps the error. The traceback still says where.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
