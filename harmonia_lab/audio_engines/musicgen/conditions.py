"""The conditions of a window, embedded: the text that is cross-attended to, and what is put before the sequence.

Owns which rows go through the model together, and how rows of different lengths lie in one tensor. A prompt is encoded
alone with its null prompt, as audiocraft does for that prompt alone, so that no row depends on its neighbours. (In one
of audiocraft's batches, a shorter prompt attends to the zeros that pad it to the longest, which dilutes it; with
`attend_padding`, rows are such a batch's.) Owns, too, what a negative prompt is.

Letters in shapes: as in `forward_pass.py`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harmonia_lab.audio_engines.musicgen.audiocraft_standins import load_audiocraft
from harmonia_lab.audio_engines.musicgen.lm_weights import compute_dtype

__all__ = [
    "Aligned",
    "Conditions",
    "align",
    "autocast",
    "embed_conditions",
    "guided_by",
    "null_conditions",
    "nulled_in_audiocraft",
    "steer_away",
]


class Aligned(NamedTuple):
    """Rows of different lengths, each at the end of its part of one tensor.

    values: [R, L, d], with zeros before a row begins. begins: R numbers, where each row begins.
    """

    values: Tensor
    begins: tuple[int, ...]


class Conditions(NamedTuple):
    """The embedded conditions of one pass. text: cross-attended to, or None. prefix: likewise.

    rows: R. prompts: B; rows b, b + B, … belong to prompt b, and begin together.
    """

    text: Aligned | None
    prefix: Aligned | None
    rows: int
    prompts: int

    @property
    def prefix_length(self) -> int:
        return self.prefix.values.shape[1] if self.prefix is not None else 0

    @property
    def text_length(self) -> int:
        return self.text.values.shape[1] if self.text is not None else 0


def align(rows: Sequence[Tensor]) -> Aligned:
    """Return `rows`, [length, d] each, in one tensor."""
    longest = max(len(row) for row in rows)
    begins = tuple(longest - len(row) for row in rows)
    values = [torch.nn.functional.pad(row, (0, 0, at, 0)) for row, at in zip(rows, begins, strict=True)]
    return Aligned(torch.stack(values), begins)


def steer_away(given: Sequence[Any], negative_prompt: str) -> None:
    """Give audiocraft's ConditioningAttributes a negative prompt, for `null_conditions`."""
    for each in given:
        each.negative_prompt = negative_prompt


def null_conditions(given: list[Any]) -> list[Any]:
    """Return what guidance leads away from: conditions without words and melody, or with the negative prompt's words.

    Guidance takes logits = null + cfg_coef · (conditioned - null); with the words of a negative prompt in the null
    condition's place, it leads from these to the prompt (Sanchez et al., "Stay on topic with Classifier-Free Guidance",
    2023, section 3.4; diffusers' `negative_prompt` does the same with noise).
    """
    load_audiocraft()
    from audiocraft.modules.conditioners import ClassifierFreeGuidanceDropout  # noqa: PLC0415

    null: list[Any] = ClassifierFreeGuidanceDropout(p=1.0)(given)  # copies, with the attribute of `steer_away`
    for each in null:
        if (text := getattr(each, "negative_prompt", None)) is not None:
            each.text.update(dict.fromkeys(each.text, text))
    return null


@contextmanager
def nulled_in_audiocraft(given: Sequence[Any]) -> Iterator[None]:
    """Let audiocraft's own loop take `null_conditions` inside the block. It makes its own, by a class that it looks up
    in its module for each song. Without a negative prompt nothing is replaced."""
    if not any(getattr(each, "negative_prompt", None) for each in given):
        yield
        return
    module: Any = importlib.import_module("audiocraft.models.lm")
    own = module.ClassifierFreeGuidanceDropout
    module.ClassifierFreeGuidanceDropout = lambda p: null_conditions  # noqa: ARG005 - its only call has p=1.0
    try:
        yield
    finally:
        module.ClassifierFreeGuidanceDropout = own


@contextmanager
def guided_by(lm: Any, cfg_coef: float) -> Iterator[None]:
    """Let the model's own coefficient be `cfg_coef` inside the block: audiocraft's guidance in two passes takes no
    other, whatever its caller asks for."""
    own, lm.cfg_coef = lm.cfg_coef, cfg_coef
    try:
        yield
    finally:
        lm.cfg_coef = own


def embed_conditions(lm: Any, given: list[Any], *, two_step: bool, attend_padding: bool) -> list[Conditions]:
    """Return the conditions of each pass: one with prompts before null prompts, or (two_step) first and second.

    given: audiocraft's ConditioningAttributes, one for each prompt.
    """
    null = null_conditions(given)
    batches: list[list[list[Any]]]  # of each pass, those that are encoded together
    if attend_padding:
        batches = [[given], [null]] if two_step else [[given + null]]
    elif two_step:
        batches = [[[each] for each in given], [[each] for each in null]]
    else:
        batches = [[list(pair) for pair in zip(given, null, strict=True)]]
    return [_embed_pass(lm, together, len(given)) for together in batches]


def _embed_pass(lm: Any, batches: list[list[Any]], prompts: int) -> Conditions:
    """Return the rows of all batches, which are equally long: their first rows, then their second rows, …"""

    def aligned(tensors: Sequence[Tensor | None]) -> Aligned | None:
        rows = [tensor[row] for row in range(len(batches[0])) for tensor in tensors if tensor is not None]
        return align(rows) if rows else None

    texts, prefixes = zip(*[_embed(lm, batch) for batch in batches], strict=True)
    return Conditions(aligned(texts), aligned(prefixes), sum(map(len, batches)), prompts)


def _embed(lm: Any, batch: list[Any]) -> tuple[Tensor | None, Tensor | None]:
    """Return text and prefix, [rows, length, d] each or None, fused as audiocraft's ConditionFuser does it."""
    with autocast(lm):
        tensors = lm.condition_provider(lm.condition_provider.tokenize(batch))
    crossed: list[Tensor] = []
    prepended: list[Tensor] = []
    for name, (tensor, _) in tensors.items():
        tensor = tensor.to(compute_dtype(lm))  # noqa: PLW2901
        if lm.fuser.cond2fuse[name] == "cross":
            crossed.append(tensor)
        else:
            prepended.insert(0, tensor)  # the fuser prepends each to what it has prepended before
    return torch.cat(crossed, 1) if crossed else None, torch.cat(prepended, 1) if prepended else None


def autocast(lm: Any) -> torch.autocast:
    """Return the autocast that audiocraft computes conditions and positions under: on a GPU the weights' precision."""
    dtype = compute_dtype(lm)
    enabled = lm.emb[0].weight.is_cuda and dtype != torch.float32
    return torch.autocast(lm.emb[0].weight.device.type, dtype if enabled else None, enabled=enabled)
