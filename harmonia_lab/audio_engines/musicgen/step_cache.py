"""The recorded step that a decoder keeps from song to song on a GPU.

Owns which generation uses it: one at a time. The step, its buffers and its graph are in `cuda_graph_step.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

from harmonia_lab.audio_engines.musicgen.cuda_graph_step import CudaGraphStep, StepShape
from harmonia_lab.audio_engines.musicgen.lm_weights import Weights
from harmonia_lab.audio_engines.musicgen.memory import is_out_of_memory

__all__ = ["StepCache"]


class StepCache:
    """Keeps one recorded step. Of two generations at once each has its own; the one that ends later is kept.

    positions: returns the embeddings of so many positions, float32 [positions, d].
    """

    def __init__(self, weights: Weights, positions: Callable[[int], Tensor]) -> None:
        self._weights, self._positions = weights, positions
        self._lock = threading.Lock()
        self._kept: CudaGraphStep | None = None

    @property
    def bytes(self) -> int:
        """Bytes of the kept step's caches while no generation uses it. A song of another shape replaces it."""
        kept = self._kept
        return kept.cache_bytes if kept is not None else 0

    def release(self) -> None:
        """Free the kept step. The next song allocates and records a new one."""
        with self._lock:
            self._kept = None

    @contextmanager
    def lease(self, shape: StepShape) -> Iterator[CudaGraphStep]:
        """Yield a step that serves `shape` and that no other generation uses. Not kept if memory ran out."""
        with self._lock:
            step, self._kept = self._kept, None
        if step is None or not step.shape.serves(shape):
            step = None  # frees the old step before the new one is allocated
            step = CudaGraphStep(self._weights, shape, self._positions(shape.positions))
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
