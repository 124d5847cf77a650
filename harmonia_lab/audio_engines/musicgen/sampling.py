"""From logits to tokens, by audiocraft's rules: temperature, top-k, top-p and the random draw.

Owns the sampling parameters, the random noise and the choice of a token. Guidance (cfg_coef) is in `forward_pass.py`.

`torch.multinomial`, which audiocraft calls, divides the probabilities by exponential noise and takes the largest
quotient (the exponential race, equivalent to the Gumbel-max trick). Here the noise is an explicit tensor: the same
noise gives the same tokens, and each row can draw from a generator of its own, so that a stem's tokens don't depend on
its place in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from harmonia_lab.errors import InvalidRequest

__all__ = ["Generators", "Noise", "Sampling", "generator_list", "sample_tokens"]

Generators: TypeAlias = Sequence[torch.Generator] | torch.Generator | None
"""A sequence: one generator per row, so that rows are independent. One generator, or None (torch's global one): a
single stream for all rows, as audiocraft draws."""


def generator_list(generators: Generators) -> list[torch.Generator]:
    """Return the caller's generators as a list; an empty one for torch's global generator."""
    if generators is None:
        return []
    return list(generators) if isinstance(generators, Sequence) else [generators]


@dataclass(frozen=True)
class Sampling:
    """audiocraft's sampling parameters under audiocraft's names. top_p > 0 overrides top_k; with both 0 nothing is cut.

    use_sampling=False, or temp=0: take the likeliest token.
    """

    use_sampling: bool = True
    temp: float = 1.0
    top_k: int = 250
    top_p: float = 0.0

    @property
    def greedy(self) -> bool:
        return not self.use_sampling or self.temp <= 0

    def check(self, card: int) -> None:
        """Raise InvalidRequest if a parameter is out of range for a vocabulary of `card` tokens."""
        for name, value, most in (("top_k", self.top_k, card), ("top_p", self.top_p, 1)):
            if not 0 <= value <= most:
                raise InvalidRequest(
                    f"{name} {value} is out of range for this model.",
                    hint=f"Choose 0 to {most}.",
                    details={"fields": [name]},
                )


class Noise:
    """Exponential noise, float32 [B, K, card], drawn anew for each step into one buffer.

    shape: (B, K, card). like: a tensor on the device that the noise is for.
    """

    def __init__(self, generators: Generators, shape: tuple[int, int, int], like: Tensor) -> None:
        self._buffer = like.new_empty(shape, dtype=torch.float32)
        self._generators: Sequence[Any]
        if isinstance(generators, Sequence):
            self._generators, self._parts = generators, self._buffer.unbind(0)
        else:
            self._generators, self._parts = [generators], (self._buffer,)

    def draw(self) -> Tensor:
        """Fill the buffer with new noise and return it. Raise ValueError if rows and generators differ in number."""
        for part, generator in zip(self._parts, self._generators, strict=True):
            part.exponential_(1, generator=generator)
        return self._buffer


def sample_tokens(logits: Tensor, noise: Tensor | None, sampling: Sampling) -> Tensor:
    """Return tokens [B, K]. logits: float32 [B, K, card]. noise: as `Noise.draw` returns it; None if greedy."""
    if sampling.greedy or noise is None:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits / sampling.temp, -1)
    if sampling.top_p > 0:
        # audiocraft draws over the sorted probabilities: the noise belongs to a rank, not to a token.
        ordered, order = probabilities.sort(-1, descending=True)
        ordered *= ordered.cumsum(-1) - ordered <= sampling.top_p
        ordered /= ordered.sum(-1, keepdim=True)
        return order.gather(-1, (ordered / noise).argmax(-1, keepdim=True))[..., 0]
    if sampling.top_k > 0:
        # sorted=False: only the smallest of the k matters, and sorting 250 of 2,048 takes longer than finding them.
        smallest = probabilities.topk(sampling.top_k, -1, sorted=False).values.amin(-1, keepdim=True)
        probabilities *= probabilities >= smallest
        probabilities /= probabilities.sum(-1, keepdim=True)
    return (probabilities / noise).argmax(-1)
