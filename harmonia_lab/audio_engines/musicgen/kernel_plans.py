"""What the kernels of one decode step share: attention's scratch memory, and how each matrix kernel is launched.

Owns `Partial`, and the choice of tile sizes from a matrix's shape. The kernels are in `triton_sources.py`, the same
functions in torch operations in `torch_kernels.py`.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["KernelPlan", "Partial", "kernel_plan"]


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


class KernelPlan(NamedTuple):
    """How a matrix kernel over weights [N, K] is launched.

    A program of `warps` warps takes tiles of `rows` rows, and at most `width` columns of them at once. There are at
    most `programs` programs for each multiprocessor.
    """

    rows: int
    width: int
    warps: int
    programs: int


WIDEST = 2048
"""The most columns of a tile that holds whole rows, as normalisation needs. torch's operations run wider models."""


@cache
def kernel_plan(outputs: int, inputs: int, itemsize: int) -> KernelPlan:
    """Return the plan for weights [outputs, inputs]. Raise ValueError if no tile divides them.

    A tile has 16 to 32 KiB: a program holds two (the current one and the next) beside the activations.
    Found by trial on an H200 in float16, timing the whole chain of kernels: eight warps for long rows and for many rows
    of 1,024, four otherwise. Fewer programs can be faster, since the next kernel's programs then start earlier.
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
    return KernelPlan(rows, width, warps, 2 if outputs == inputs == WIDEST else 16 // warps)
