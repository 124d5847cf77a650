"""What the kernels of one decode step share: attention's scratch memory, and how each matrix kernel is launched.

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
    """Scratch memory for attention over the splits of a cache, before the last split to arrive combines them.

    out: float32 [R, H, splits, D], sums of values weighted by exp(score - top). top, total: float32 [R, H, splits],
    each split's largest score and its sum of weights. arrivals: int32 [R, H], how many splits are done; 0 between uses.
    """

    out: Tensor
    top: Tensor
    total: Tensor
    arrivals: Tensor

    @classmethod
    def allocate(cls, rows: int, heads: int, splits: int, width: int, device: torch.device | str) -> Partial:
        """Return zeroed buffers. width: D."""
        shape = (rows, heads, splits)
        out, top, total = (torch.zeros(each, device=device) for each in ((*shape, width), shape, shape))
        return cls(out, top, total, torch.zeros(rows, heads, dtype=torch.int32, device=device))


class Plan(NamedTuple):
    """How a matrix kernel over weights [N, K] is launched.

    A program of `warps` warps takes tiles of `rows` rows, and at most `width` columns of them at once. There are at
    most `programs` programs for each multiprocessor.
    """

    rows: int
    width: int
    warps: int
    programs: int


PLANS: dict[tuple[int, int], Plan] = {}
"""Plans for weights [N, K] in half precision, in place of the computed ones: for trials."""

WIDEST = 2048
"""Columns of a tile whose activations are normalised, and so taken whole: wider models are left to torch."""


def plan(outputs: int, inputs: int, itemsize: int) -> Plan:
    """Return the plan for weights [outputs, inputs]. Raises ValueError where no tile divides them."""
    if itemsize == 2 and (outputs, inputs) in PLANS:
        return PLANS[outputs, inputs]
    return _computed(outputs, inputs, itemsize)


@cache
def _computed(outputs: int, inputs: int, itemsize: int) -> Plan:
    """Tiles of 16 to 32 KiB, which a thread holds twice (the tile and the one ahead) beside the activations.

    By trial on an H200, float16, in the whole chain: eight warps where a row is long or there are many rows of 1,024,
    four elsewhere. Programs that leave room for those of the next kernel can be worth more than their own speed.
    """
    if inputs > WIDEST:
        width, rows, warps = 2 * WIDEST, 4, 8
        if inputs % width:
            width, warps = WIDEST, 4
        if inputs % width:
            raise ValueError(f"A matrix of {inputs} columns can't be cut into chunks of {width}.")
    else:
        width = 1 << (inputs - 1).bit_length()
        rows, warps = (16, 8) if inputs <= 1024 and outputs >= 3072 else (8, 4)
        if inputs > 1536 or outputs <= 2048:
            rows = 4
    rows = max(1, rows * 2 // itemsize)
    while outputs % rows:
        rows //= 2
    return Plan(rows, width, warps, 2 if outputs == inputs == WIDEST else 16 // warps)
