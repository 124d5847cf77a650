"""The parts of one decode step, launched as Triton kernels on the current stream.

Owns the launches: grids and programmatic dependent launch. The kernels are in `triton_sources.py`, the choice of tile
sizes in `kernel_plans.py`. The functions, their arguments and their rounding are those of `torch_kernels.py`, whose
docstrings explain the shapes. Import this module only where Triton is installed.

Our matrix kernels, which read each weight once, multiply one or two rows (a prompt and its null prompt); cuBLAS, whose
tensor cores are faster there, multiplies more. No value is copied to the host, so a step can be recorded into a CUDA
graph, after a first step outside of one has compiled the kernels. All tensors must be contiguous and on the current
device.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harmonia_lab.audio_engines.musicgen.kernel_plans import Partial, kernel_plan
from harmonia_lab.audio_engines.musicgen.lm_weights import Norm
from harmonia_lab.audio_engines.musicgen.sampling import Sampling
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

__all__ = ["attend", "embed", "guided_logits", "norm_project", "norm_project_cache", "project", "sample"]

MATRIX_ROWS = 2
"""The most rows of activations that our matrix kernels multiply. On an H200, cuBLAS is faster from four rows on."""

POSITIONS = 128
"""The most positions of a cache that a program of `attend` reads at once."""


class Machine(NamedTuple):
    """What the launches depend on. processors: multiprocessors. dependent: use programmatic dependent launch."""

    processors: int
    dependent: bool


@cache
def machine(device: torch.device) -> Machine:
    """Return the facts about a device. A CPU, on which Triton's interpreter runs the kernels, gets an H100's."""
    if device.type != "cuda":
        return Machine(processors=132, dependent=False)
    properties = torch.cuda.get_device_properties(device)
    return Machine(properties.multi_processor_count, dependent=properties.major >= 9)


def embed(
    sequence: Tensor, step: Tensor, embeddings: Tensor, offsets: Tensor, table: Tensor, prefix_length: Tensor,
    begins: Tensor, x: Tensor,
) -> None:  # fmt: skip
    rows, dim = x.shape
    _, prompts, codebooks = sequence.shape
    grid = (rows, -(-dim // 256))
    arguments = (sequence, step, embeddings, offsets, table, prefix_length, begins, x)
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
    x: Tensor, norm: Norm, weight: Tensor, query: Tensor, keys_values: Tensor, step: Tensor, prefix_length: Tensor
) -> None:
    rows, dim = x.shape
    positions, width = keys_values.shape[3:]
    if rows > MATRIX_ROWS:
        projected = _normalised(x, norm, weight.dtype) @ weight.t()  # [R, 3 d]
        block = min(
            512, dim & -dim
        )  # a power of two that divides dim: a block holds only queries, only keys or only values
        grid_of_blocks = (rows, 3 * dim // block)
        places = (projected, query, keys_values, step, prefix_length, positions)
        keep_kernel[grid_of_blocks](*places, K=dim, D=width, BLOCK=block, **_launch(x, warps=4))
        return
    grid, sizes, tiling = _tiling(weight, whole=True)
    if width % tiling["ROWS"]:
        raise ValueError(f"A tile of {tiling['ROWS']} rows spans heads of width {width}.")
    targets = (query, keys_values, step, prefix_length, positions)
    arguments = (x, norm.weight, norm.bias, norm.eps, weight, *targets, *sizes)
    norm_project_cache_kernel[grid](*arguments, R=rows, K=dim, D=width, **tiling)


def attend(
    query: Tensor, keys_values: Tensor, begins: Tensor, length: Tensor, offset: Tensor, attended: Tensor,
    partial: Partial, *, grows: bool,
) -> None:  # fmt: skip
    rows, _, heads, positions, width = keys_values.shape
    splits = partial.top.shape[2]
    block = min(POSITIONS, max(16, 1 << (positions - 1).bit_length()))
    arguments = (query, keys_values, begins, length, offset, attended, *partial, positions, 1 / math.sqrt(width))
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
    logits: Tensor, noise: Tensor | None, known: Tensor, sequence: Tensor, step: Tensor, total: Tensor,
    sampling: Sampling,
) -> None:  # fmt: skip
    """As in `torch_kernels.py`, but without top-p: `sampling.top_p` is ignored."""
    prompts, codebooks, card = logits.shape
    rows = prompts * codebooks
    greedy = noise is None
    block = 1 << (card - 1).bit_length()
    drawn = logits if greedy else noise  # a greedy kernel doesn't read it, but Triton wants a tensor
    arguments = (logits, drawn, known, sequence, step, total, float(sampling.temp), sampling.top_k, rows)
    kinds = {"CARD": card, "BLOCK": block, "GREEDY": greedy, "CUT": not greedy and sampling.top_k > 0}
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
    options = {"launch_pdl": True} if dependent else {}  # other GPUs' compilers may not know the option
    return {"PDL": dependent, "num_warps": warps, **options}


def _tiling(weight: Tensor, *, whole: bool = False) -> tuple[tuple[int], tuple[int, int], dict[str, Any]]:
    """Return the grid, the numbers of tiles and programs, and the tile sizes for a matrix.

    whole: a tile must be as wide as the rows of activations, which are normalised in it. Raise ValueError if they are
    too wide.
    """
    outputs, inputs = weight.shape
    chosen = kernel_plan(outputs, inputs, weight.element_size())
    if whole and chosen.width < inputs:
        raise ValueError(f"Rows of {inputs} activations are wider than a tile of {chosen.width}.")
    tiles = outputs // chosen.rows
    most = machine(weight.device).processors * chosen.programs
    programs = -(-tiles // -(-tiles // most))  # the fewest rounds, with the programs evenly loaded
    sizes = {"WIDTH": chosen.width, "ROWS": chosen.rows}
    return (programs,), (tiles, programs), {**sizes, **_launch(weight, chosen.warps)}
