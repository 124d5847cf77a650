"""transformers' sampling loop with our forward pass: what `GenerationMixin._sample` does for MusicGen.

Owns the loop over the steps. Temperature, top-k, a caller's own processors, stopping criteria and streamers are
transformers' objects, and draws are made as it makes them: tokens and random state are its own. What of a call is
served is for `transformers_musicgen.py`.

Letters in shapes: as in `forward_pass.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harmonia_lab.audio_engines.musicgen.conditions import Aligned, Conditions, align
from harmonia_lab.audio_engines.musicgen.forward_pass import ForwardPass, embed, guided_logits
from harmonia_lab.audio_engines.musicgen.lm_weights import Weights

__all__ = ["Steps", "draw_for_layer_drop", "generate_ids", "masked_text"]


@dataclass(frozen=True)
class Steps:
    """One call. ids: [B · K, first], the tokens before the first step that is generated. known: [B · K, S], the tokens
    that prompt and pattern fix; -1 where one is to be chosen.

    guidance: the coefficient, or None for none. text: [R, L, d], or None; text_mask: [R, L], or None if all of it is
    seen. prefix: [R, P, d], what melody models put before the first step, or None. R is 2 B with guidance, else B.
    processors, criteria, streamer: transformers' objects.
    """

    ids: Tensor
    known: Tensor
    guidance: float | None
    text: Tensor | None
    text_mask: Tensor | None
    prefix: Tensor | None
    processors: Callable[[Tensor, Tensor], Tensor]
    criteria: Callable[[Tensor, None], Tensor]
    streamer: Any
    do_sample: bool


def masked_text(text: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return text with zeros for padding, as transformers has it, and the mask if it hides anything.

    A row that is all padding, such as a null prompt, has values of zero: whatever it attends to, it adds nothing.
    """
    if mask is None:
        return text, None
    seen = mask.bool()
    seen = seen | ~seen.any(1, keepdim=True)
    return text * mask[..., None], None if bool(seen.all()) else seen


class _Sequence:
    """The tokens so far, [S, B, K], and the pass that reads them."""

    def __init__(self, weights: Weights, steps: Steps, table: Callable[[int], Tensor]) -> None:
        self.weights, self.guidance = weights, steps.guidance
        self.part = ForwardPass(weights, _conditions(weights, steps), steps.known.shape[1])
        self.table = table(self.part.positions).to(weights.embeddings.device)
        self.known = self._by_step(steps.known)
        self.tokens = self.known.clone()

    def _by_step(self, ids: Tensor) -> Tensor:
        return ids.view(-1, self.weights.codebooks, ids.shape[-1]).permute(2, 0, 1)  # [B · K, S] → [S, B, K]

    def begin(self, ids: Tensor) -> None:
        """Write the tokens before the first step, and prefill all but the last."""
        first = ids.shape[-1]
        self.tokens[:first] = self._by_step(ids)
        self.part.prefill(embed(self.weights, self.tokens[: first - 1].transpose(0, 1)), self.table)

    def logits(self, step: int) -> Tensor:
        """Return the guided logits of `step`, float32 [B · K, card]."""
        x = embed(self.weights, self.tokens[step - 1])
        at = self.part.prefix_length + step - 1
        hidden = self.part.step(x.repeat(self.part.rows // len(x), 1), at, self.table)
        if self.guidance is not None:
            logits = guided_logits(self.weights, hidden, self.guidance)
        else:
            logits = self.weights.heads(hidden.to(self.weights.dtype)).float()
        return logits.view(-1, self.weights.card)

    def write(self, step: int, chosen: Tensor) -> None:
        """Write the tokens of `step`: chosen, [B · K], where they are not known."""
        known = self.known[step]
        self.tokens[step] = torch.where(known < 0, chosen.view(known.shape), known)


def _conditions(weights: Weights, steps: Steps) -> Conditions:
    """Return text and prefix as the forward pass reads them. A null prompt, all zeros, is as long as its prompt."""
    songs = steps.known.shape[0] // weights.codebooks
    rows = songs * (1 if steps.guidance is None else 2)
    text = prefix = None
    if steps.text is not None:
        values = steps.text.to(weights.dtype)
        mask = steps.text_mask
        text = align([values[row] if mask is None else values[row][mask[row % songs]] for row in range(rows)])
    if steps.prefix is not None:
        prefix = Aligned(steps.prefix, (0,) * rows)
    return Conditions(text, prefix, rows, songs)


def generate_ids(weights: Weights, steps: Steps, table: Callable[[int], Tensor]) -> Tensor:
    """Return the ids that `_sample` returns, [B · K, S] or fewer steps if a criterion stops all rows before.

    table: returns the embeddings of so many positions.
    """
    with torch.inference_mode():
        sequence = _Sequence(weights, steps, table)
        sequence.begin(steps.ids)
    ids = steps.ids
    unfinished = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
    for step in range(ids.shape[-1], steps.known.shape[-1]):
        with torch.inference_mode():
            logits = sequence.logits(step)
        # Processors, criteria and streamers get tensors that the caller may keep and write to.
        scores = steps.processors(ids, logits.clone())
        chosen = torch.multinomial(scores.softmax(-1), 1)[:, 0] if steps.do_sample else scores.argmax(-1)
        with torch.inference_mode():
            sequence.write(step, chosen)
        draw_for_layer_drop(weights)
        ids = torch.cat([ids, chosen[:, None]], 1)
        unfinished &= ~steps.criteria(ids, None)
        if steps.streamer is not None:
            steps.streamer.put(chosen.cpu())
        if not bool(unfinished.any()):
            break
    if steps.streamer is not None:
        steps.streamer.end()
    return ids


def draw_for_layer_drop(weights: Weights) -> None:
    """Draw from Python's `random` what transformers draws in one pass for LayerDrop, and uses in training alone."""
    for _ in weights.layers:
        random.uniform(0, 1)  # noqa: S311 - its stream is to be left as transformers leaves it
