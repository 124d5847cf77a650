"""The keys and values that attention reads: one block of memory per layer, allocated once and written in place.

Owns the layout. audiocraft's own cache grows by concatenation, which copies all of it at every step.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from harmonia_lab.audio_engines.musicgen.lm_weights import compute_dtype

__all__ = ["KVCache", "cache_bytes"]


class KVCache:
    """Keys and values of one layer for `rows` sequences of up to T positions. both: [R, 2, H, T, D]."""

    def __init__(self, rows: int, heads: int, positions: int, width: int, like: Tensor) -> None:
        self.both = like.new_zeros(rows, 2, heads, positions, width)
        self._keys, self._values = self.both.unbind(1)

    def write(self, position: int, kv: Tensor) -> None:
        """Write P positions from `position` on. kv: [R, 2, H, P, D]."""
        self.both.narrow(3, position, kv.shape[3]).copy_(kv)

    def read(self, positions: int) -> tuple[Tensor, Tensor]:
        """Return views of the first `positions` keys and values, [R, H, positions, D] each."""
        return self._keys.narrow(2, 0, positions), self._values.narrow(2, 0, positions)


def cache_bytes(lm: Any, rows: int, positions: int) -> int:
    """Return the bytes of the caches of all layers of audiocraft's LMModel. rows: prompts and null prompts."""
    return len(lm.transformer.layers) * rows * 2 * positions * int(lm.dim) * compute_dtype(lm).itemsize
