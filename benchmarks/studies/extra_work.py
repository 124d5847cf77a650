"""`ExtraWork`: an audio engine that does a known amount of work more than another.

Owns the amount. The other engine makes the sound, so both make the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harmonia_lab.engines.base import AudioEngine, AudioProgress, CancelToken, Stem
from harmonia_lab.music.plan import Part, Plan

__all__ = ["ExtraWork"]


class ExtraWork:
    """Renders with `engine`, then uses `cpu_s` seconds of processor time more, in the same thread.

    Processor time is counted, not time on the clock: a busy machine makes the work last longer, but not larger.
    """

    def __init__(self, engine: AudioEngine, cpu_s: float) -> None:
        self._engine, self._cpu_s = engine, cpu_s
        self.name, self.uses_gpu = f"{engine.name}-and-more", engine.uses_gpu
        self._used_s = 0.0

    def prepare(self) -> None:
        self._engine.prepare()

    def render(
        self,
        parts: Sequence[Part],
        plan: Plan,
        seeds: Mapping[str, int],
        progress: Callable[[AudioProgress], None],
        cancel: CancelToken,
        finished: Mapping[str, Stem],
    ) -> list[Stem]:
        stems = self._engine.render(parts, plan, seeds, progress, cancel, finished)
        began = time.thread_time()
        while time.thread_time() - began < self._cpu_s:
            cancel.raise_if_cancelled()
            sum(range(1000))
        self._used_s = time.thread_time() - began
        return stems

    def identity(self) -> dict[str, Any]:
        return self._engine.identity() | {"engine": self.name, "settings": {"cpu_s": self._cpu_s}}

    def record(self) -> dict[str, Any]:
        """Return `identity`, and the processor time that was used for nothing in the latest song, in seconds."""
        return self.identity() | {"extra_cpu_s": round(self._used_s, 6)}

    def close(self) -> None:
        self._engine.close()
