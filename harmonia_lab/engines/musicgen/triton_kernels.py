"""The parts of one decode step, launched as Triton kernels on the current stream.

Owns the launches: grids, tile sizes and programmatic dependent launch. `triton_sources.py` owns the kernels. The
functions, their arguments and their rounding are those of `plain_kernels.py`, whose docstrings explain the shapes;
`kernel_plans.py` chooses the tile sizes. Only import this module where Triton is installed.

Nothing is allocated and nothing is read back, so a step can be recorded into a CUDA graph, after a first step outside
of one has compiled the kernels. All tensors are contiguous, and on the current device.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harmonia_lab.engines.musicgen.kernel_plans import Partial, plan
from harmonia_lab.engines.musicgen.lm_weights import Norm
from harmonia_lab.engines.musicgen.triton_sources import (
    attend_kernel,
    embed_kernel,
    guided_logits_kernel,
    norm_project_cache_kernel,
    norm_project_kernel,
    project_attended_kernel,
    project_kernel,
    sample_kernel,
)

__all__ = [
    "attend",
    "embed",
    "guided_logits",
    "norm_project",
    "norm_project_cache",
    "project",
    "project_attended",
    "sample",
]

POSITIONS = 128
"""Positions of a cache that a program of `attend` reads at once."""


class Machine(NamedTuple):
    """dependent: whether kernels are launched by programmatic dependent launch."""

    processors: int
    dependent: bool


@cache
def machine(device: torch.device) -> Machine:
    """Return what decides the launches. A CPU runs the kernels in Triton's interpreter."""
    if device.type != "cuda":
        return Machine(processors=132, dependent=False)
    properties = torch.cuda.get_device_properties(device)
    return Machine(properties.multi_processor_count, dependent=properties.major >= 9)


def embed(
    sequence: Tensor, step: Tensor, embeddings: Tensor, offsets: Tensor, table: Tensor, lead: Tensor, x: Tensor
) -> None:
    rows, dim = x.shape
    _, prompts, codebooks = sequence.shape
    grid = (rows, -(-dim // 256))
    arguments = (sequence, step, embeddings, offsets, table, lead, x)
    embed_kernel[grid](*arguments, B=prompts, K=codebooks, DIM=dim, BLOCK=256, **_launch(x, warps=4))


def norm_project(x: Tensor, norm: Norm, weight: Tensor, out: Tensor, *, gelu: bool = False) -> None:
    rows, dim = x.shape
    grid, tiling = _tiling(weight, len(x))
    arguments = (x, norm.weight, norm.bias, norm.eps, weight, out)
    norm_project_kernel[grid](*arguments, R=rows, N=len(weight), K=dim, GELU=gelu, **tiling)


def norm_project_cache(
    x: Tensor, norm: Norm, weight: Tensor, query: Tensor, keys_values: Tensor, step: Tensor, lead: Tensor
) -> None:
    rows, dim = x.shape
    positions, width = keys_values.shape[3:]
    grid, tiling = _tiling(weight, len(x))
    if width % tiling["HEIGHT"]:
        raise ValueError(f"A tile of {tiling['HEIGHT']} rows spans heads of width {width}.")
    arguments = (x, norm.weight, norm.bias, norm.eps, weight, query, keys_values, step, positions, lead)
    norm_project_cache_kernel[grid](*arguments, R=rows, K=dim, D=width, **tiling)


def attend(query: Tensor, keys_values: Tensor, length: Tensor, offset: Tensor, partial: Partial) -> None:
    rows, _, heads, positions, width = keys_values.shape
    splits = partial.top.shape[2]
    arguments = (query, keys_values, length, offset, *partial, positions, 1 / math.sqrt(width))
    launch = _launch(query, warps=4 if query.element_size() == 2 else 8)
    attend_kernel[rows * heads, splits](*arguments, H=heads, D=width, SPLITS=splits, BLOCK=POSITIONS, **launch)


def project_attended(partial: Partial, weight: Tensor, x: Tensor) -> None:
    rows, dim = x.shape
    _, _, splits, width = partial.out.shape
    grid, tiling = _tiling(weight, len(x))
    if tiling["CHUNK"] % width:
        raise ValueError(f"A tile of {tiling['CHUNK']} columns cuts heads of width {width}.")
    shape = {"R": rows, "K": dim, "D": width, "SPLITS": splits, "SPAN": 1 << (splits - 1).bit_length()}
    project_attended_kernel[grid](*partial, weight, x, **shape, **tiling)


def project(hidden: Tensor, weight: Tensor, x: Tensor) -> None:
    outputs, inputs = weight.shape
    grid, tiling = _tiling(weight, len(x))
    project_kernel[grid](hidden, weight, x, R=len(x), N=outputs, K=inputs, **tiling)


def guided_logits(x: Tensor, norm: Norm, weight: Tensor, coef: float, logits: Tensor) -> None:
    outputs, dim = weight.shape
    grid, tiling = _tiling(weight, len(x))
    arguments = (x, norm.weight, norm.bias, norm.eps, weight, float(coef), logits)
    guided_logits_kernel[grid](*arguments, B=len(x) // 2, N=outputs, K=dim, **tiling)


def sample(
    logits: Tensor,
    noise: Tensor | None,
    known: Tensor,
    sequence: Tensor,
    step: Tensor,
    temp: float,
    top_k: int,
) -> None:
    prompts, codebooks, card = logits.shape
    rows = prompts * codebooks
    greedy = noise is None
    block = 1 << (card - 1).bit_length()
    arguments = (logits, logits if greedy else noise, known, sequence, step, float(temp), top_k, rows)
    kinds = {"CARD": card, "BLOCK": block, "GREEDY": greedy, "CUT": not greedy and top_k > 0}
    sample_kernel[rows,](*arguments, **kinds, **_launch(logits, warps=4))


def _launch(tensor: Tensor, warps: int) -> dict[str, Any]:
    dependent = machine(tensor.device).dependent
    options = {"launch_pdl": True} if dependent else {}  # an option that other GPUs' compilers need not know
    return {"PDL": dependent, "num_warps": warps, **options}


def _tiling(weight: Tensor, rows: int) -> tuple[tuple[int], dict[str, Any]]:
    """Return the grid and the tile sizes for a matrix."""
    outputs, inputs = weight.shape
    itemsize = weight.element_size()
    chosen = plan(outputs, inputs, itemsize, machine(weight.device).processors, rows)
    sizes = {"HEIGHT": chosen.height(itemsize), "CHUNK": chosen.chunk, "TILES": chosen.tiles}
    return (outputs // chosen.block(itemsize),), {**sizes, **_launch(weight, chosen.warps)}
