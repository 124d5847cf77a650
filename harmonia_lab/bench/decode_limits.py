"""What a decode step can't be faster than: the bytes that it reads, and the multiply-adds that it computes.

Owns the two rates of a machine, measured as the loops use it, and the floor that follows from them. A step reads all
weights, and the keys and values of all positions; it multiplies each weight by every row. On a CPU with little
arithmetic for its memory, or with much, one or the other is the limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from harmonia_lab.audio_engines.musicgen.kv_cache import cache_bytes
from harmonia_lab.audio_engines.musicgen.packed_weights import Packing, pack

__all__ = ["Work", "bandwidth", "matrix_elements", "multiply_add_rate"]


CPU_ELEMENTS = 2**26
"""float32 numbers that a CPU's bandwidth is measured with: 256 MB, more than any cache."""


@dataclass(frozen=True)
class Work:
    """What a step must do. bytes_read: of weights, keys and values. multiply_adds: of weights and attention."""

    bytes_read: int
    multiply_adds: int

    def floor_s(self, read: float, rate: float | None) -> float:
        """Return the seconds of the slower limit. read: bytes per second. rate: multiply-adds per second, or None."""
        return max(self.bytes_read / read, self.multiply_adds / rate if rate is not None else 0.0)

    @classmethod
    def of(cls, lm: Any, weight_bytes: int, prompts: int, position: int, *, guided_first: bool) -> Work:
        """Return the work of a step of `prompts` prompts with their null prompts.

        weight_bytes: of all matrices as the loop stores them. guided_first: guidance comes before the heads, which then
        read half as many rows.
        """
        rows = 2 * prompts
        layers, heads = matrix_elements(lm)
        attended = len(lm.transformer.layers) * rows * position * lm.dim * 2  # products with keys and with values
        multiplied = layers * rows + heads * (prompts if guided_first else rows) + attended
        return cls(weight_bytes + cache_bytes(lm, rows, position), multiplied)


def matrix_elements(lm: Any) -> tuple[int, int]:
    """Return the numbers of weights that a step multiplies by: in the layers, and in the heads."""
    layers = lm.transformer.layers
    elements = sum(weight.numel() for weight in layers.parameters() if weight.ndim == 2)
    if layers[0].cross_attention is not None:
        elements -= 2 * lm.dim**2 * len(layers)  # the text's keys and values are cached
    return elements, sum(head.weight.numel() for head in lm.linears)


def bandwidth(device: torch.device) -> float:
    """Return the bytes per second that this device reads, in the fastest of some operations that mostly read."""
    on_gpu = device.type == "cuda"
    elements = CPU_ELEMENTS
    if on_gpu:  # 4 GB, so that launch times don't matter, or half of the free memory
        elements = min(2**30, torch.cuda.mem_get_info(device)[0] // 8 // 4096 * 4096)
    data = torch.ones(elements, device=device)

    def seconds(read: Any) -> float:
        if on_gpu:
            torch.cuda.synchronize(device)
        begin = time.perf_counter()
        read()
        if on_gpu:
            torch.cuda.synchronize(device)
        return time.perf_counter() - begin

    matrix = data.view(-1, 4096)
    vector = data[:4096]
    reads = (data.sum, data.norm, data.amax, lambda: torch.mv(matrix, vector))
    return data.numel() * 4 / min(seconds(read) for read in reads for _ in range(3))


def multiply_add_rate(packing: Packing, rows: int) -> float:
    """Return the multiply-adds per second of a packing's product on this CPU while its matrix is in the cache.

    Conversions of the weights are counted with them. The difference of two sizes is free of what a call costs.
    """
    inputs, small, large = 1024, 256, 768
    given = torch.randn(rows, inputs)
    products = {outputs: pack(torch.randn(outputs, inputs).half().float(), packing) for outputs in (small, large)}

    def seconds(product: Callable[[torch.Tensor], torch.Tensor]) -> float:
        begin = time.perf_counter()
        for _ in range(8):
            product(given)
        return (time.perf_counter() - begin) / 8

    fastest = {outputs: min(seconds(product) for _ in range(12)) for outputs, product in products.items()}
    # On a machine that is interrupted all the time, the difference may come out as nothing.
    difference = max(fastest[large] - fastest[small], fastest[large] / 10)
    return rows * inputs * (large - small) / difference
