"""Progress and cancel while a pipeline runs: looks before each of its parts, each step, and each block of its decoder.

Owns the hooks. diffusers calls back once a denoising step, and not while text is encoded or sound decoded; its own
interrupt decodes all the same (ACE-Step) or is ignored (Stable Audio 3). So a look raises.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harmonia_lab.engines.base import CancelToken

__all__ = ["PhaseShares", "watch"]


@dataclass(frozen=True)
class PhaseShares:
    """Of a song's time: what encoding, denoising and decoding took, together 1. Those of the song before, if any."""

    encoding: float = 0.05
    denoising: float = 0.75
    decoding: float = 0.2


class _Watch:
    """Its phases follow each other: encoding until the first forward of the transformer, decoding from the VAE's."""

    def __init__(
        self, steps: int, shares: PhaseShares, cancel: CancelToken, report: Callable[[float, str], None]
    ) -> None:
        self._steps, self._shares, self._cancel, self._report = steps, shares, cancel, report
        self._began = time.perf_counter()
        self._denoising: float | None = None
        self._decoding: float | None = None
        self._ended = 0.0
        self._blocks = 0
        self.blocks_expected = 0
        """Forwards of the decoder's blocks; 0 where that isn't known."""
        self.steps_done = 0

    def encode(self, *_: Any) -> None:
        self._cancel.raise_if_cancelled()

    def transform(self, *_: Any) -> None:
        self._cancel.raise_if_cancelled()
        if self._denoising is None:
            self._denoising = time.perf_counter()
            self._report(self._shares.encoding, "Denoising...")

    def step(self, _pipeline: Any, _index: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self._cancel.raise_if_cancelled()
        self.steps_done += 1
        done = min(1.0, self.steps_done / self._steps)
        status = f"Denoising, step {self.steps_done} of {self._steps}..."
        self._report(self._shares.encoding + self._shares.denoising * done, status)
        return tensors  # Stable Audio 3 takes its latents from what comes back

    def decode(self, *_: Any) -> None:
        self._cancel.raise_if_cancelled()
        if self._denoising is None:
            return  # a sound to go by is being encoded
        if self._decoding is None:
            self._decoding = time.perf_counter()
        self._blocks += 1
        done = min(1.0, self._blocks / self.blocks_expected) if self.blocks_expected else 0.0
        self._report(1 - self._shares.decoding * (1 - done), "Decoding the sound...")

    def end(self) -> None:
        self._ended = time.perf_counter()

    @property
    def steps_per_second(self) -> float | None:
        if self._denoising is None or not self.steps_done:
            return None
        return self.steps_done / ((self._decoding or self._ended) - self._denoising)

    def shares(self) -> PhaseShares:
        """Return this song's; the former ones where a phase wasn't seen."""
        if self._denoising is None or self._decoding is None:
            return self._shares
        total = self._ended - self._began
        encoding, decoding = (self._denoising - self._began) / total, (self._ended - self._decoding) / total
        return PhaseShares(encoding, 1 - encoding - decoding, decoding)


@contextmanager
def watch(
    pipeline: Any, steps: int, shares: PhaseShares, cancel: CancelToken, report: Callable[[float, str], None]
) -> Iterator[_Watch]:
    """Look at `cancel`, and report 0…1, while `pipeline` runs in the block. Its hooks go with the block."""
    import torch  # noqa: PLC0415

    watched = _Watch(steps, shares, cancel, report)
    hooks: list[Any] = []
    try:
        for name, part in pipeline.components.items():
            if not isinstance(part, torch.nn.Module):
                continue
            if name != "vae":
                look = watched.transform if name == "transformer" else watched.encode
                hooks.append(part.register_forward_pre_hook(look))
                continue
            # A VAE's `decode` calls no forward of its own: its blocks are looked at, in each tile anew.
            decoder = {id(block) for block in _blocks(part.decoder)}
            hooks += [block.register_forward_pre_hook(watched.decode) for block in _blocks(part.decoder)]
            hooks += [block.register_forward_pre_hook(watched.encode) for block in _blocks(part.encoder)]
            watched.blocks_expected = len(decoder)
        yield watched
    finally:
        watched.end()
        for hook in hooks:
            hook.remove()


def _blocks(coder: Any) -> list[Any]:
    """Return the modules two levels down, which are called one after the other: Oobleck's and SAME's blocks, and what
    stands in lists. Each takes a part of the time."""
    import torch  # noqa: PLC0415

    found = []
    for child in coder.children():
        inner = list(child.children()) if isinstance(child, torch.nn.ModuleList | torch.nn.Sequential) else []
        found += inner or [child]
    return found
