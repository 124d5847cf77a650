"""The keys and values that attention reads: one block of memory per layer, allocated once and written in place.

Owns the layout. audiocraft's own cache grows by concatenation, which copies all of it at every step.
"""

from __future__ import annotations

import torch
from torch import Tensor

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


def cache_bytes(*, layers: int, rows: int, width: int, positions: int, dtype: torch.dtype) -> int:
    """Return the bytes of all layers' caches. rows: prompts and null prompts. width: heads × head width."""
    return layers * rows * 2 * positions * width * dtype.itemsize
