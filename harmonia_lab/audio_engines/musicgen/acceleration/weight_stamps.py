"""Whether a model's weights are still those that were packed.

Owns the comparison. A change through `load_state_dict`, `to` or an optimiser shows in a tensor's address, type or
version; a write through `.data` or numpy shows in none of them, so the values are summed too: one pass over the
weights, as long as one step of decoding.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["WeightStamp"]

_Place = tuple[int, int, torch.dtype, torch.device, torch.Size]


class WeightStamp:
    """What `tensors` were when this was made. The tensors are vectors and matrices, on one device."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._places = [_place(tensor) for tensor in tensors]
        self._sums = _sums(tensors)

    def matches(self, tensors: Sequence[Tensor]) -> bool:
        """Return whether these are the same tensors with the same values."""
        return self._places == [_place(tensor) for tensor in tensors] and torch.equal(self._sums, _sums(tensors))


def _place(tensor: Tensor) -> _Place:
    version = -1 if tensor.is_inference() else tensor._version  # noqa: SLF001 - no public name; inference tensors have none
    return tensor.data_ptr(), version, tensor.dtype, tensor.device, tensor.shape


@torch.inference_mode()
def _sums(tensors: Sequence[Tensor]) -> Tensor:
    """Return the weighted sum of each matrix's rows, and the vectors themselves, as bits: NaN equals itself."""
    with torch.autocast(tensors[0].device.type, enabled=False):
        parts = [t.float() if t.dim() == 1 else t.float() @ _factors(t.shape[1], t.device) for t in tensors]
    return torch.cat(parts).view(torch.int32)


@functools.lru_cache(maxsize=8)
def _factors(count: int, device: torch.device) -> Tensor:
    """Return different factors, so that two weights that change places change the sum. From a stream of its own."""
    return (torch.rand(count, generator=torch.Generator().manual_seed(0)) + 0.5).to(device)
