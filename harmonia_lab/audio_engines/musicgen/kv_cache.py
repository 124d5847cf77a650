"""What attention remembers: one fixed block of memory per layer, written in place.

Owns the layout. audiocraft's own cache grows by concatenation, which copies everything at every step.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["KVCache", "cache_bytes"]


class KVCache:
    """Keys and values of one layer for `rows` sequences: both, [R, 2, H, T, D], T positions allocated once."""

    def __init__(self, rows: int, heads: int, positions: int, width: int, like: Tensor) -> None:
        self.both = like.new_zeros(rows, 2, heads, positions, width)
        self._keys, self._values = self.both.unbind(1)

    def write(self, position: int, kv: Tensor) -> None:
        """kv: [R, 2, H, 1, D]."""
        self.both.narrow(3, position, 1).copy_(kv)

    def fill(self, kv: Tensor) -> None:
        """kv: [R, 2, H, P, D], for positions 0 to P - 1."""
        self.both.narrow(3, 0, kv.shape[3]).copy_(kv)

    def read(self, positions: int) -> tuple[Tensor, Tensor]:
        """The first `positions` keys and values, [R, H, positions, D] each. Views."""
        return self._keys.narrow(2, 0, positions), self._values.narrow(2, 0, positions)


def cache_bytes(*, layers: int, rows: int, width: int, positions: int, dtype: torch.dtype) -> int:
    """Memory for all layers of a model `width` wide (heads × head width). rows: prompts and null prompts."""
    return layers * rows * 2 * positions * width * dtype.itemsize
