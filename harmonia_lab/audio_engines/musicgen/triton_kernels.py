"""The parts of one decode step, launched as Triton kernels on the current stream.

Owns the launches: grids, tile sizes and programmatic dependent launch. `triton_sources.py` owns the kernels. The
functions, their arguments and their rounding are those of `plain_kernels.py`, whose docstrings explain the shapes;
`kernel_plans.py` chooses the tile sizes. Only import this module where Triton is installed.

One prompt and its null prompt (two rows, or one) are multiplied by our matrix kernels, which read each weight once;
more rows by cuBLAS, whose tensor cores are faster there. Nothing is read back, so a step can be recorded into a CUDA
graph, after a first step outside of one has compiled the kernels. All tensors are contiguous, and on the current
device.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harmonia_lab.audio_engines.musicgen.kernel_plans import Partial, plan
from harmonia_lab.audio_engines.musicgen.lm_weights import Norm
from harmonia_lab.audio_engines.musicgen.triton_sources import (
    attend_kernel,
    embed_kernel,
    guided_logits_kernel,
    keep_kernel,
    norm_kernel,
    norm_project_cache_kernel,
    norm_project_kernel,
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
    "sample",
]

MATRIX_ROWS = 2
"""Rows of activations that our matrix kernels serve; on an H200, cuBLAS is the faster one from four on."""

POSITIONS = 128
"""Positions of a cache that a program of `attend` reads at once, at most."""


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
    if rows > MATRIX_ROWS:
        torch.mm(_normalised(x, norm, weight.dtype), weight.t(), out=out)
        if gelu:
            torch.ops.aten.gelu_(out)
        return
    grid, sizes, tiling = _tiling(weight, whole=True)
    arguments = (x, norm.weight, norm.bias, norm.eps, weight, out, *sizes)
    norm_project_kernel[grid](*arguments, R=rows, N=len(weight), K=dim, GELU=gelu, **tiling)


def norm_project_cache(
    x: Tensor, norm: Norm, weight: Tensor, query: Tensor, keys_values: Tensor, step: Tensor, lead: Tensor
) -> None:
    rows, dim = x.shape
    positions, width = keys_values.shape[3:]
    if rows > MATRIX_ROWS:
        projected = _normalised(x, norm, weight.dtype) @ weight.t()  # [R, 3 d]
        block = min(512, dim & -dim)  # a power of two that divides the width, so that a block is of one kind
        grid_of_blocks = (rows, 3 * dim // block)
        places = (projected, query, keys_values, step, lead, positions)
        keep_kernel[grid_of_blocks](*places, K=dim, D=width, BLOCK=block, **_launch(x, warps=4))
        return
    grid, sizes, tiling = _tiling(weight, whole=True)
    if width % tiling["ROWS"]:
        raise ValueError(f"A tile of {tiling['ROWS']} rows spans heads of width {width}.")
    arguments = (x, norm.weight, norm.bias, norm.eps, weight, query, keys_values, step, lead, positions, *sizes)
    norm_project_cache_kernel[grid](*arguments, R=rows, K=dim, D=width, **tiling)


def attend(
    query: Tensor, keys_values: Tensor, length: Tensor, offset: Tensor, attended: Tensor, partial: Partial, *,
    grows: bool,
) -> None:  # fmt: skip
    rows, _, heads, positions, width = keys_values.shape
    splits = partial.top.shape[2]
    block = min(POSITIONS, max(16, 1 << (positions - 1).bit_length()))
    arguments = (query, keys_values, length, offset, attended, *partial, positions, 1 / math.sqrt(width))
    shape = {"H": heads, "D": width, "SPLITS": splits, "SPAN": 1 << (splits - 1).bit_length(), "BLOCK": block}
    warps = 4 if query.element_size() == 2 else 8
    attend_kernel[rows * heads, splits](*arguments, **shape, GROWS=grows, **_launch(query, warps))


def project(hidden: Tensor, weight: Tensor, x: Tensor) -> None:
    if len(x) > MATRIX_ROWS:
        x.add_(hidden @ weight.t())
        return
    outputs, inputs = weight.shape
    grid, sizes, tiling = _tiling(weight)
    project_kernel[grid](hidden, weight, x, *sizes, R=len(x), N=outputs, K=inputs, **tiling)


def guided_logits(x: Tensor, norm: Norm, weight: Tensor, coef: float, logits: Tensor) -> None:
    dim = weight.shape[1]
    if len(x) > MATRIX_ROWS:
        with_text, without = _normalised(x, norm, torch.float32).chunk(2)
        logits.copy_(torch.lerp(without, with_text, coef).to(weight.dtype) @ weight.t())
        return
    grid, sizes, tiling = _tiling(weight, whole=True)
    arguments = (x, norm.weight, norm.bias, norm.eps, weight, float(coef), logits, *sizes)
    guided_logits_kernel[grid](*arguments, K=dim, **tiling)


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


def _normalised(x: Tensor, norm: Norm, dtype: torch.dtype) -> Tensor:
    """Return layer_norm(x), [R, d], in the precision of the product that follows."""
    rows, dim = x.shape
    out = torch.empty(rows, dim, dtype=dtype, device=x.device)
    width = 1 << (dim - 1).bit_length()
    norm_kernel[rows,](x, norm.weight, norm.bias, norm.eps, out, K=dim, WIDTH=width, **_launch(x, warps=4))
    return out


def _launch(tensor: Tensor, warps: int) -> dict[str, Any]:
    dependent = machine(tensor.device).dependent
    options = {"launch_pdl": True} if dependent else {}  # an option that other GPUs' compilers need not know
    return {"PDL": dependent, "num_warps": warps, **options}


def _tiling(weight: Tensor, *, whole: bool = False) -> tuple[tuple[int], tuple[int, int], dict[str, Any]]:
    """Return the grid, the numbers of tiles and programs, and the tile sizes for a matrix.

    whole: the kernel takes rows of activations whole. Raises ValueError where they are too wide for that.
    """
    outputs, inputs = weight.shape
    chosen = plan(outputs, inputs, weight.element_size())
    if whole and chosen.width < inputs:
        raise ValueError(f"Rows of {inputs} activations are wider than a tile of {chosen.width}.")
    tiles = outputs // chosen.rows
    most = machine(weight.device).processors * chosen.programs
    programs = -(-tiles // -(-tiles // most))  # as few rounds as can be, and all of them full
    sizes = {"WIDTH": chosen.width, "ROWS": chosen.rows}
    return (programs,), (tiles, programs), {**sizes, **_launch(weight, chosen.warps)}
