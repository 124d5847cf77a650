"""Does a device compute what the CPU computes? A few given steps of a loaded model on both, compared by their logits.

Owns the steps, the distance and its limits (not what follows: `models.py` then loads the model on the CPU). A device
may compute garbage without an error: audiocraft's models did on Apple's Metal. Tokens are no measure of that, since one
draw that tips at a tie changes all that follow; so the steps' tokens are given, and their guided logits compared.

Measured on 200 random models of 2 to 48 layers on CPUs: with other kernels float32's distance is at most 1.4e-6, and
each of 2,198 planted faults (a layer lost or misplaced, heads or codebooks swapped, keys written a step early, …) was
above 1e-5. float16's is at most 0.011 and bfloat16's 0.075, and their limits find gross faults alone. Of a large model,
so many layers are taken, evenly, that the check takes a second or two.

HARMONIA_DEVICE_CHECK=off leaves it out.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from harmonia_lab.audio_engines.musicgen.conditions import Aligned, Conditions
from harmonia_lab.audio_engines.musicgen.forward_pass import ForwardPass, Sequencer
from harmonia_lab.audio_engines.musicgen.lm_weights import Weights, compute_dtype, unknown_layout
from harmonia_lab.audio_engines.musicgen.memory import is_out_of_memory
from harmonia_lab.audio_engines.musicgen.sampling import Sampling

__all__ = ["LIMITS", "DeviceCheck", "check_model", "is_switched_off"]

LIMITS = {"float32": 1e-5, "float16": 0.02, "bfloat16": 0.15}
"""The largest distance that is rounding, by the precision on the device."""

STEPS = 8
COEF = 3.0
TEXT_LENGTH = 9
MOST_VALUES = 150_000_000
"""Values in the layers that are compared: 0.6 GB in float32."""


@dataclass(frozen=True)
class DeviceCheck:
    """distances: by precision, from the CPU's float32. error: of the device instead. layers: compared, of all."""

    device: str
    distances: dict[str, float]
    layers: tuple[int, int]
    seconds: float
    error: str = ""

    @property
    def fault(self) -> str:
        """What is wrong with the device; "" if nothing is."""
        if self.error:
            return f"{self.device} can't run the model: {self.error}"
        for dtype, distance in self.distances.items():
            if not distance <= LIMITS[dtype]:
                return (
                    f"{self.device} computes other numbers than the CPU in {dtype}:"
                    f" their distance is {distance:.2g}, and {LIMITS[dtype]:g} would be rounding"
                )
        return ""

    def to_json(self) -> dict[str, Any]:
        """Return what a song's record says of it. A distance that is no number is null."""
        found = {dtype: distance if math.isfinite(distance) else None for dtype, distance in self.distances.items()}
        plain = {"device": self.device, "distances": found, "layers": list(self.layers)}
        return plain | {"seconds": round(self.seconds, 2)} | ({"fault": self.fault} if self.fault else {})


def is_switched_off() -> bool:
    """Return whether a person has switched the check off."""
    return os.environ.get("HARMONIA_DEVICE_CHECK", "").lower() in ("off", "0", "no")


def check_model(lm: Any, weights: Weights | None) -> DeviceCheck:
    """Compare audiocraft's LMModel on its device with the CPU: in float32, and in its own precision. Change nothing.

    weights: those that the decoder reads; None where audiocraft's own loop decodes. Raises out-of-memory errors.
    """
    begun = time.perf_counter()
    device, chosen = next(lm.parameters()).device, _evenly(lm.transformer.layers)
    distances: dict[str, float] = {}
    error = ""
    with torch.inference_mode(), torch.autocast(device.type, enabled=False), _full_precision():
        here = _copied(lm, chosen)
        want = _logits(here)
        try:
            distances["float32"] = _distance(_logits(_moved(here, device)), want)
            dtype = str(compute_dtype(lm)).removeprefix("torch.")
            if weights is not None and dtype != "float32":
                distances[dtype] = _distance(_step_logits(_some_layers(weights, chosen)), want)
        except Exception as failure:
            if is_out_of_memory(failure):
                raise
            error = f"{type(failure).__name__}: {' '.join(str(failure).split())[:200]}"
    layers = len(chosen), len(lm.transformer.layers)
    return DeviceCheck(str(device), distances, layers, time.perf_counter() - begun, error)


def _evenly(layers: Sequence[Any]) -> list[int]:
    """Return the numbers of as many layers as MOST_VALUES allows, the first and the last among them."""
    values = sum(parameter.numel() for parameter in layers[0].parameters())
    count = min(len(layers), max(1, MOST_VALUES // values))
    return sorted({round(i * (len(layers) - 1) / max(1, count - 1)) for i in range(count)})


def _copied(lm: Any, chosen: Sequence[int]) -> Any:
    """Return the parts that a step reads, in float32 on the CPU."""

    def copied(module: Any) -> Any:
        return copy.deepcopy(module).to("cpu", torch.float32)

    return SimpleNamespace(
        transformer=SimpleNamespace(layers=[copied(lm.transformer.layers[number]) for number in chosen]),
        emb=[copied(table) for table in lm.emb],
        linears=[copied(head) for head in lm.linears],
        out_norm=copied(lm.out_norm),
        n_q=lm.n_q,
        card=lm.card,
        dim=lm.dim,
        known=not unknown_layout(lm),
    )


def _moved(parts: Any, device: torch.device) -> Any:
    """Return a copy of these parts on the device."""

    def moved(module: Any) -> Any:
        return copy.deepcopy(module).to(device)

    return SimpleNamespace(
        **vars(parts)
        | {
            "transformer": SimpleNamespace(layers=[moved(layer) for layer in parts.transformer.layers]),
            "emb": [moved(table) for table in parts.emb],
            "linears": [moved(head) for head in parts.linears],
            "out_norm": moved(parts.out_norm),
        }
    )


def _some_layers(weights: Weights, chosen: Sequence[int]) -> Weights:
    some = copy.copy(weights)
    some.layers = [weights.layers[number] for number in chosen]
    return some


def _logits(parts: Any) -> Tensor:
    return _step_logits(Weights(parts, "dense")) if parts.known else _module_logits(parts)


def _step_logits(weights: Weights) -> Tensor:
    """Return the guided logits of the given steps, step by step as in a song: float32 [STEPS, K, card] on the CPU."""
    device = weights.embeddings.device
    given = torch.Generator().manual_seed(0)
    codes = torch.randint(weights.card, (STEPS + 1, 1, weights.codebooks), generator=given)
    for codebook in range(weights.codebooks):
        codes[: codebook + 1, :, codebook] = weights.card  # the start of the delay pattern
    text = torch.randn(1, TEXT_LENGTH, weights.dim, generator=given)
    rows = torch.cat([text, torch.zeros_like(text)]).to(device, weights.dtype)  # prompt and null prompt
    conditions = Conditions(Aligned(rows, (0, 0)), None, 2, 1)
    table = _positions(STEPS + 1, weights.dim).to(device, weights.dtype)  # the same numbers on both sides
    run = Sequencer(
        [ForwardPass(weights, conditions, STEPS + 1)],
        codes.to(device),
        table,
        coef=COEF,
        sampling=Sampling(use_sampling=False),
        generators=None,
    )
    return torch.stack([run.logits(step)[0] for step in range(1, STEPS + 1)]).float().cpu()


def _module_logits(parts: Any) -> Tensor:
    """As `_step_logits` of a layout that our steps don't know: all positions at once, by audiocraft's own modules."""
    given = torch.Generator().manual_seed(0)
    device = parts.out_norm.weight.device
    x, text = (torch.randn(1, length, parts.dim, generator=given).to(device) for length in (STEPS, TEXT_LENGTH))
    for layer in parts.transformer.layers:
        x = layer(x, cross_attention_src=text if layer.cross_attention is not None else None)
    x = parts.out_norm(x)
    return torch.stack([head(x)[0] for head in parts.linears], 1).float().cpu()


def _positions(count: int, dim: int) -> Tensor:
    half = dim // 2
    phase = torch.arange(count)[:, None] / 10000 ** (torch.arange(half) / max(1, half - 1))
    return torch.cat([phase.cos(), phase.sin()], 1)


def _distance(got: Tensor, want: Tensor) -> float:
    """Return the worst codebook's RMS error over the logits' own RMS. got, want: [steps, K, card], compared as softmax
    sees them, without what is common to a row. Infinite where a logit is no number."""
    if not bool(torch.isfinite(got).all()):
        return math.inf
    got, want = (logits - logits.mean(-1, keepdim=True) for logits in (got, want))
    error, size = (each.square().mean((0, 2)).sqrt() for each in (got - want, want))
    return float((error / size).max())


@contextmanager
def _full_precision() -> Iterator[None]:
    """Compute float32 products in float32: TF32, which a person may have chosen for speed, is no fault."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
