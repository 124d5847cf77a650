"""Weight matrices packed for products with a few rows: linear layers without bias, in the layout a CPU reads fastest.

Decoding reads every weight once per step for 2 to 8 rows, so a step takes as long as reading the weights. Owns the
packings and the choice of an exact one. Not the matrices of a model (`lm_weights.py`).

    dense    the tensor itself, with torch's own product
    onednn   float32, reordered for oneDNN (what torch.compile's freezing emits): 4 times as fast as dense at 2 rows
    half     float16 in memory, float32 arithmetic (FBGEMM): half the bytes. Exact, and only chosen, if every weight is
             a float16 number, which is true of the released MusicGen checkpoints: they are stored in float16
    int8     8-bit weights (a scale per output), 8-bit activations (a range per row): a quarter of the bytes, not exact

Measured on 2 cores (AVX-512, 41 GB/s), musicgen-small's matrices, 2 rows, time per layer: dense 4.9 ms, onednn 1.2,
half 0.61, int8 0.40.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from harmonia_lab.errors import AudioError, ErrorCode

__all__ = ["Packing", "Projection", "exact_packing", "pack", "supported"]

Packing = Literal["dense", "onednn", "half", "int8"]
Projection = Callable[[Tensor], Tensor]
"""[rows, inputs] → [rows, outputs]."""

SMALLEST = 1e-30
"""The least range of a row in 8 bits, for rows of equal values."""

ROWS_EXPECTED = 2
"""One prompt and its null prompt. It tunes the layout only; any number of rows works."""


def exact_packing(weight: Tensor) -> Packing:
    """Return the fastest packing on this processor that keeps every bit of `weight`."""
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return "dense"
    if supported("half") and bool(torch.equal(weight.half().float(), weight)):
        return "half"
    return "onednn" if supported("onednn") else "dense"


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
}
