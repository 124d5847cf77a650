"""One attempt at a song: what its two stages share, and what they measure.

Owns the log row and the song's timings while they are filled, the attempt's clocks, memory by stage, and a stage's time
limit. How a generation starts, is retried and ends is decided in `generation.py`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from harmonia_lab.engines.base import CancelToken, processes_of
from harmonia_lab.engines.load import read_load
from harmonia_lab.engines.probes import MemoryReading, cpu_seconds, measure_memory
from harmonia_lab.generation.progress import OverallProgress
from harmonia_lab.protocol.events import Event, StageName
from harmonia_lab.protocol.models import SongRequest, iso_time, utc_now

__all__ = ["Attempt", "time_limit"]


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

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Measure the attempt from now on: what it waited in a queue isn't counted."""
        self.row["started_at"] = iso_time(utc_now())
        self._began, self._cpu, self._load = time.perf_counter(), cpu_seconds(), read_load()

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self._began

    def columns_at_its_end(self) -> dict[str, Any]:
        """Return wall and processor time, and the load by other programs."""
        cpu_s = cpu_seconds() - self._cpu
        load = read_load().columns(self._load, cpu_s)
        return {"total_s": round(self.elapsed_s, 6), "cpu_s": round(cpu_s, 3), **load}

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
    def measured(self, stage: StageName) -> Iterator[None]:
        """Record a stage's memory, also if it raises: peaks in `row`, samples in `memory`."""
        others = [engine for name, engine in self.engines.items() if name != stage]  # they idle or load meanwhile
        reading: MemoryReading | None = None
        try:
            with measure_memory(lambda: [pid for engine in others for pid in processes_of(engine)]) as reading:
                yield
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
