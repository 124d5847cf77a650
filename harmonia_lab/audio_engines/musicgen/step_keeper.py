"""The recorded step that a decoder keeps from song to song on a GPU.

Owns who has it: one generation at a time. The step itself, its buffers and its graph are `gpu_step.py`'s.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

from harmonia_lab.audio_engines.musicgen.gpu_step import GpuStep, StepShape
from harmonia_lab.audio_engines.musicgen.lm_weights import Weights
from harmonia_lab.audio_engines.musicgen.memory import is_out_of_memory

__all__ = ["StepKeeper"]


class StepKeeper:
    """Keeps one. Two songs at once each have their own, and the later one's is kept.

    positions: returns the embeddings of so many positions, float32 [positions, d].
    """

    def __init__(self, weights: Weights, positions: Callable[[int], Tensor]) -> None:
        self._weights, self._positions = weights, positions
        self._lock = threading.Lock()
        self._kept: GpuStep | None = None

    @property
    def bytes(self) -> int:
        """What is kept and not in use; a song of another shape takes its place."""
        kept = self._kept
        return kept.bytes() if kept is not None else 0

    def release(self) -> None:
        """Give back what is kept. The next song allocates and records anew."""
        with self._lock:
            self._kept = None

    @contextmanager
    def borrowed(self, shape: StepShape) -> Iterator[GpuStep]:
        """Inside, a step that serves `shape` is the caller's alone. After a lack of memory it is not kept."""
        with self._lock:
            step, self._kept = self._kept, None
        if step is None or not step.shape.serves(shape):
            step = None  # before the next one is allocated
            step = GpuStep(self._weights, shape, self._positions(shape.positions))
        keep = True
        try:
            yield step
        except BaseException as error:
            keep = not is_out_of_memory(error)
            raise
        finally:
            if keep and step.recorded:
                with self._lock:
                    self._kept = step
