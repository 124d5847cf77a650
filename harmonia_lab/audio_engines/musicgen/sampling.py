"""From logits to tokens, as audiocraft does it: guidance is elsewhere, here are temperature, top-k, top-p and the draw.

The same noise gives the same tokens as `torch.multinomial`, which audiocraft calls: it divides the probabilities by
exponential noise and takes the largest (the exponential race, known as the Gumbel-max trick in another guise). Written
out, each row can have noise of its own, so that a song's stems don't depend on their place in a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harmonia_lab.errors import InvalidRequest

__all__ = ["Generators", "Noise", "Sampling", "choose"]

Generators = Sequence[torch.Generator] | torch.Generator | None
"""One per row: a row's tokens don't depend on the others'. One, or None (torch's global one): as audiocraft draws."""


@dataclass(frozen=True)
class Sampling:
    """audiocraft's parameters under audiocraft's names. top_p > 0 takes the place of top_k; both 0: no cut.

    use_sampling False, or temp 0: the likeliest token.
    """

    use_sampling: bool = True
    temp: float = 1.0
    top_k: int = 250
    top_p: float = 0.0

    @property
    def greedy(self) -> bool:
        return not self.use_sampling or self.temp <= 0

    def check(self, card: int) -> None:
        """Raises InvalidRequest for what can't be used with a vocabulary of `card` tokens."""
        if not 0 <= self.top_k <= card:
            raise InvalidRequest(
                f"top_k {self.top_k} is out of range for this model.",
                hint=f"Choose 0 to {card}.",
                details={"fields": ["top_k"]},
            )
        if not 0 <= self.top_p <= 1:
            raise InvalidRequest(
                f"top_p {self.top_p} is out of range.", hint="Choose 0 to 1.", details={"fields": ["top_p"]}
            )


class Noise:
    """Exponential noise, float32 [B, K, card], drawn anew for each step into the same memory.

    shape: (B, K, card). like: a tensor on the device. last: what was drawn last.
    """

    def __init__(self, generators: Generators, shape: tuple[int, int, int], like: Tensor) -> None:
        self.last = like.new_empty(shape, dtype=torch.float32)
        self._generators: Sequence[Any]
        if isinstance(generators, Sequence):
            if len(generators) != shape[0]:
                raise ValueError(f"{len(generators)} generators for {shape[0]} rows")
            self._generators, self._parts = generators, list(self.last.unbind(0))
        else:
            self._generators, self._parts = [generators], [self.last]

    def draw(self) -> Tensor:
        """The same tensor every time, with new values."""
        for part, generator in zip(self._parts, self._generators, strict=True):
            part.exponential_(1, generator=generator)
        return self.last


def choose(logits: Tensor, noise: Noise | None, sampling: Sampling) -> Tensor:
    """logits: float32 [B, K, card]. noise: None when greedy. Returns tokens [B, K]."""
    if sampling.greedy or noise is None:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits / sampling.temp, -1)
    if sampling.top_p > 0:
        ordered, order = probabilities.sort(-1, descending=True)
        ordered *= ordered.cumsum(-1) - ordered <= sampling.top_p
        ordered /= ordered.sum(-1, keepdim=True)
        return order.gather(-1, _race(ordered, noise)[..., None])[..., 0]
    if sampling.top_k > 0:
        # Unsorted: only the smallest of them matters, and sorting 250 of 2,048 takes longer than finding them.
        smallest = probabilities.topk(sampling.top_k, -1, sorted=False).values.amin(-1, keepdim=True)
        probabilities *= probabilities >= smallest
        probabilities /= probabilities.sum(-1, keepdim=True)
    return _race(probabilities, noise)


def _race(probabilities: Tensor, noise: Noise) -> Tensor:
    return (probabilities / noise.draw()).argmax(-1)
