"""What the kernels of one decode step share: the buffer of split attention, and how each matrix kernel is launched.

Owns `Partial`, and the choice of tile sizes from a matrix's shape. Not the kernels: `triton_kernels.py` holds them for
GPUs, and `plain_kernels.py` holds the same functions in torch operations.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["PLANS", "Partial", "Plan", "plan"]


class Partial(NamedTuple):
    """Attention over the splits of a cache, before the splits are combined. All float32.

    out: [R, H, splits, D], sums of values weighted by exp(score - top). top: [R, H, splits], each split's largest
    score, -inf where the split has no position. total: [R, H, splits], the sums of the weights.
    """

    out: Tensor
    top: Tensor
    total: Tensor

    @classmethod
    def allocate(cls, rows: int, heads: int, splits: int, width: int, device: torch.device | str) -> Partial:
        """Return zeroed buffers. width: D."""
        per_split = (rows, heads, splits)
        out, top, total = ((*per_split, width), per_split, per_split)
        return cls(*(torch.zeros(shape, dtype=torch.float32, device=device) for shape in (out, top, total)))


class Plan(NamedTuple):
    """How a matrix kernel over weights [N, K] is launched.

    Each program of `warps` warps holds `tiles` tiles of [height, chunk] weights for every chunk of K, where the height
    is such that a thread holds 16 bytes of a tile: one load.
    """

    warps: int
    chunk: int
    tiles: int

    def height(self, itemsize: int) -> int:
        return self.warps * 32 * (16 // itemsize) // self.chunk

    def block(self, itemsize: int) -> int:
        """Return how many rows of the weights one program reads."""
        return self.height(itemsize) * self.tiles


PLANS: dict[tuple[int, int], Plan] = {}
"""Plans for weights [N, K] in half precision and one or two rows, in place of the computed ones: what was measured."""


def plan(outputs: int, inputs: int, itemsize: int, processors: int, rows: int) -> Plan:
    """Return the plan for weights [outputs, inputs] and `rows` activations on a GPU with so many multiprocessors."""
    if itemsize == 2 and rows <= 2 and (outputs, inputs) in PLANS:
        return PLANS[outputs, inputs]
    return _computed(outputs, inputs, itemsize, processors, paired=rows <= 2)


@cache
def _computed(outputs: int, inputs: int, itemsize: int, processors: int, *, paired: bool) -> Plan:
    """Return a plan of as many rows a program as leave 3 programs for 2 multiprocessors, and registers for the rest.

    More rows a program mean fewer programs that repeat the layer norm. paired: there is one pair of activations; for
    more of them the compiler keeps the weights in float32 as well.
    """
    warps = 4 if inputs <= 2048 else 8
    widest = 1024 if inputs <= 2048 else 2048
    chunk = min(inputs & -inputs, widest, warps * 32 * (16 // itemsize))  # a power of two that divides the inputs
    registers = (48 if inputs <= 1536 else 64) if paired else 32  # of 4 bytes, for each thread's weights
    best = Plan(warps, chunk, 1)
    for tiles in (2, 4, 8, 16):
        wider = best._replace(tiles=tiles)
        block = wider.block(itemsize)
        fits = block * inputs * itemsize <= registers * 4 * warps * 32 and block <= 16
        if fits and outputs % block == 0 and outputs // block * 2 >= processors * 3:
            best = wider
    if outputs % best.block(itemsize):
        raise ValueError(f"A matrix of {outputs} rows can't be cut into blocks of {best.block(itemsize)} rows.")
    return best
