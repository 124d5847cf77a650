"""One attempt at a song: what its two stages share, and what they note of themselves.

Owns the log row and the record while they are filled: durations and memory by stage, and a stage's time limit. How a
generation starts, is retried and ends is `generation.py`'s.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from harmonia_lab.engines.base import CancelToken
from harmonia_lab.engines.probes import MemoryReading, measure_memory
from harmonia_lab.generation.progress import OverallProgress
from harmonia_lab.protocol.events import Event, StageName
from harmonia_lab.protocol.models import SongRequest

__all__ = ["Attempt", "time_limit"]


@dataclass
class Attempt:
    """What both stages share.

    row: the log row as filled so far. timings: seconds by step, for the song's record. memory: by stage, over time:
    {"began": seconds since the first stage's start, "samples": [[second since then, bytes of this process and its
    children, bytes in use on the GPU or null], …]}.
    """

    request: SongRequest
    generation_id: str
    song_id: str
    seed: int
    cancel: CancelToken
    emit: Callable[[Event], None]
    overall: OverallProgress
    row: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    _memory_began: float | None = None

    def record_duration(self, column: str, seconds: float) -> None:
        """Notes a duration in the row, and under the same name without its unit in the timings."""
        self.row[column] = round(seconds, 6)
        self.timings[column.removesuffix("_s")] = round(seconds, 6)

    @contextmanager
    def timed(self, column: str) -> Iterator[None]:
        """Notes how long the block took, where it ends well."""
        began = time.perf_counter()
        yield
        self.record_duration(column, time.perf_counter() - began)

    @contextmanager
    def measured(self, stage: StageName) -> Iterator[None]:
        """Notes a stage's memory, however it ends: peaks in the row, samples over time."""
        reading: MemoryReading | None = None
        try:
            with measure_memory() as reading:
                yield
        finally:
            if reading is not None:
                self._note_memory(stage, reading)

    def _note_memory(self, stage: StageName, reading: MemoryReading) -> None:
        self._memory_began = self._memory_began or reading.began
        self.memory[stage] = {"began": round(reading.began - self._memory_began, 3), "samples": reading.samples}
        self.row |= {
            f"{stage}_rss_peak_bytes": reading.rss_peak,
            f"{stage}_gpu_allocated_peak_bytes": reading.gpu_allocated_peak,
            f"{stage}_gpu_reserved_peak_bytes": reading.gpu_reserved_peak,
            f"{stage}_gpu_used_peak_bytes": reading.gpu_used_peak,
            "gpu_reason": reading.gpu_reason,
        }


@contextmanager
def time_limit(cancel: CancelToken, seconds: float) -> Iterator[None]:
    """Cancels with reason "timeout" when the block takes longer."""
    timer = threading.Timer(seconds, cancel.cancel, ("timeout",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
