"""Weight matrices packed for products with a few rows: linear layers without bias, in the layout a CPU reads fastest.

Decoding reads every weight once per step for 2 to 8 rows, so a step takes as long as reading the weights. Owns the
packings and the choice of an exact one. Not the matrices of a model (`lm_weights.py`).

    dense    the tensor itself, with torch's own product
    onednn   float32, reordered for oneDNN (what torch.compile's freezing emits): 4 times as fast as dense at 2 rows
    half     float16 in memory, float32 arithmetic (FBGEMM): half the bytes. Exact, and only chosen, if every weight is
             a float16 number, which is true of the released MusicGen checkpoints: they are stored in float16
    int8     8-bit weights (a scale per output), 8-bit activations (a range per row): a quarter of the bytes, not exact
    half_rows, float_rows
             float16, float32, by a compiled program (`compiled_products.py`), where it wins a trial in this process

Measured on 2 cores (AVX-512, 41 GB/s), musicgen-small's matrices, 2 rows, time per layer: dense 4.9 ms, onednn 1.2,
half 0.61, int8 0.40.
"""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from harmonia_lab.audio_engines.musicgen.compiled_products import rows_product
from harmonia_lab.errors import AudioError, ErrorCode

__all__ = ["Packing", "Projection", "exact_packing", "pack", "supported"]

Packing = Literal["dense", "onednn", "half", "int8", "half_rows", "float_rows"]
Projection = Callable[[Tensor], Tensor]
"""[rows, inputs] → [rows, outputs]."""

SMALLEST = 1e-30
"""The least range of a row in 8 bits, for rows of equal values."""

LARGE = 2**19
"""Weights from which on a matrix's packing is tried; smaller models stay in the cache, where torch's are good."""

TRIAL = 8, 2048
"""Matrices, and their rows and columns: two packings of 67 MB in float16, more than most caches keep."""

ROWS_EXPECTED = 2
"""One prompt and its null prompt. It tunes the layout only; any number of rows works."""


def exact_packing(weight: Tensor) -> Packing:
    """Return the fastest packing on this processor that keeps every bit of `weight`."""
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return "dense"
    narrow = bool(torch.equal(weight.half().float(), weight))
    torchs: Packing = "half" if narrow and supported("half") else "onednn" if supported("onednn") else "dense"
    compiled: Packing = "half_rows" if narrow else "float_rows"
    return compiled if weight.numel() >= LARGE and supported(compiled) and _wins(compiled, torchs) else torchs


def pack(weight: Tensor, packing: Packing) -> Projection:
    """Return the product with `weight` [outputs, inputs]. Raise AudioError (MUSICGEN_UNAVAILABLE) if unsupported."""
    weight = weight.detach()
    if not supported(packing):
        raise AudioError(
            f"This build of torch cannot multiply with {packing} weights on this processor.",
            code=ErrorCode.MUSICGEN_UNAVAILABLE,
            hint="Choose decoder=fast.",
        )
    return _PACK[packing](weight)


@functools.cache
def supported(packing: Packing) -> bool:
    """Return whether this torch and processor have the packing, by multiplying a small matrix."""
    weight = torch.linspace(-1, 1, 64 * 32).view(64, 32)
    rows = torch.ones(ROWS_EXPECTED, 32)
    try:
        difference = _PACK[packing](weight)(rows) - torch.nn.functional.linear(rows, weight)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return bool(difference.abs().max() < 0.5)


@functools.cache
def _wins(packing: Packing, over: Packing) -> bool:
    """Return whether `packing` is the faster of two, by the faster of two rounds each over matrices from memory."""
    matrices, size = TRIAL
    weight, rows = torch.ones(size, size), torch.ones(ROWS_EXPECTED, size)
    products = {each: [_PACK[each](weight.clone()) for _ in range(matrices)] for each in (packing, over)}
    seconds: dict[Packing, list[float]] = {packing: [], over: []}
    for _ in range(2):
        for each, taken in seconds.items():
            begin = time.perf_counter()
            for product in products[each]:
                product(rows)
            taken.append(time.perf_counter() - begin)
    return min(seconds[packing]) < min(seconds[over])


def _dense(weight: Tensor) -> Projection:
    return lambda rows: torch.nn.functional.linear(rows, weight)


def _onednn(weight: Tensor) -> Projection:
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS_EXPECTED)  # noqa: SLF001 - inductor's own entry
    multiply = torch.ops.mkldnn._linear_pointwise.default  # noqa: SLF001
    return lambda rows: multiply(rows, packed, None, "none", [], "")  # no bias, no activation


def _half(weight: Tensor) -> Projection:
    packed = torch.ops.quantized.linear_prepack_fp16(weight, None)
    multiply = torch.ops.quantized.linear_dynamic_fp16.default
    return lambda rows: multiply(rows, packed)


def _int8(weight: Tensor) -> Projection:
    """Return the product in 8 bits.

    torch's dynamic product takes the range of all rows of a call for their 8 bits, so a row's would depend on its
    neighbours. Here each row is brought to 0…1, which is the range in every call: with x = low + span · u,
    W x = span · W u + low · (sum of W's columns).
    """
    scales = (weight.abs().amax(1) / 127).clamp_min(1e-12).double()
    zeros = torch.zeros(weight.shape[0], dtype=torch.long)
    with warnings.catch_warnings():
        # Quantised tensors are deprecated. The product below is not, and takes nothing else.
        warnings.simplefilter("ignore")
        quantised = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        sums = quantised.dequantize().sum(1)
        packed = torch.ops.quantized.linear_prepack(quantised, None)
    multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default
    # Without VNNI, sums of products of two 8-bit numbers overflow 16 bits: activations then get 7 bits.
    step = 1 / 255 if torch.cpu._is_vnni_supported() else 1 / 127  # noqa: SLF001

    def product(rows: Tensor) -> Tensor:
        low = rows.amin(-1, keepdim=True)
        span = (rows.amax(-1, keepdim=True) - low).clamp_min_(SMALLEST)  # NaN and infinity end as NaN
        scaled = multiply((rows - low).div_(span), step, 0, packed).mul_(span)
        return torch.addcmul(scaled, low, sums)

    return product


_PACK: dict[Packing, Callable[[Tensor], Projection]] = {
    "dense": _dense,
    "onednn": _onednn,
    "half": _half,
    "int8": _int8,
    "half_rows": functools.partial(rows_product, dtype=torch.float16),
    "float_rows": functools.partial(rows_product, dtype=torch.float32),
}
