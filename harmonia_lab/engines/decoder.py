"""One language model and the loop that decodes it: `decoder = auto | reference | fast | int8`.

Owns the choice of the loop, the fall back to audiocraft's own, and the window's frame: conditions, the codebooks'
interleaving, progress. The loop itself is in `decoding.py`; windows beyond the model's length are in `windows.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from harmonia_lab.engines.audiocraft_standins import load_audiocraft
from harmonia_lab.engines.cuda_graphs import replayed_steps
from harmonia_lab.engines.decoding import Pass, Sequencer
from harmonia_lab.engines.lm_weights import Weights, unknown_layout
from harmonia_lab.engines.sampling import Sampling
from harmonia_lab.errors import InvalidRequest

__all__ = ["MODES", "Decoder", "Generators", "Mode", "StepView"]

Mode = Literal["auto", "reference", "fast", "int8"]
MODES: tuple[Mode, ...] = get_args(Mode)

Generators = Sequence[torch.Generator] | torch.Generator | None
"""One per row: a row's tokens don't depend on the others. One, or None (torch's global one): drawn as audiocraft draws."""


@dataclass(frozen=True)
class StepView:
    """What a step hands out. done of total: steps. frames: how many have all their codebooks, prompt included."""

    done: int
    total: int
    frames: int
    _codes: Callable[[int, int], Tensor]

    def codes(self, start: int, stop: int) -> Tensor:
        """The codes [B, K, stop - start] of complete frames, copied. On a GPU this waits for the steps launched."""
        return self._codes(start, min(stop, self.frames))


class Decoder:
    """Decodes with `lm`, audiocraft's LMModel, whose weights must stay as and where they are from now on.

    mode: auto is fast where the layout is known. int8 rounds the weights (CPU only), so it is never chosen unasked.
    running: the loop in use, reference or fast or int8. reason: why it is not the one asked for, or "".
    packings: how many matrices are held in which way.
    """

    def __init__(self, lm: Any, mode: Mode = "auto") -> None:
        if mode not in MODES:
            raise InvalidRequest(f"There is no decoder {mode!r}.", hint=f"Choose one of {', '.join(MODES)}.")
        self.lm = lm
        self.running: Mode = "fast" if mode == "auto" else mode
        self.reason = ""
        self.packings: dict[str, int] = {}
        device = next(lm.parameters()).device.type
        if mode != "reference":
            unknown = unknown_layout(lm)
            if unknown:
                self.running, self.reason = "reference", f"audiocraft's own loop decodes this model: {unknown}"
            elif mode == "int8" and device != "cpu":
                self.running, self.reason = "fast", "int8 is for CPUs"
        self._weights: Weights | None = None
        if self.running != "reference":
            self._weights = Weights(lm, "int8" if self.running == "int8" else None)
            self.packings = self._weights.packings

    def generate(
        self,
        prompt: Tensor | None = None,
        conditions: Sequence[Any] = (),
        num_samples: int | None = None,
        *,
        max_gen_len: int = 256,
        use_sampling: bool = True,
        temp: float = 1.0,
        top_k: int = 250,
        top_p: float = 0.0,
        cfg_coef: float | None = None,
        two_step_cfg: bool | None = None,
        remove_prompts: bool = False,
        callback: Callable[[int, int], None] | None = None,
        generators: Generators = None,
        on_step: Callable[[StepView], None] | None = None,
    ) -> Tensor:
        """Codes [B, K, max_gen_len], as `LMModel.generate` gives them, with its parameters.

        prompt: codes [B, K, T] to go on from. conditions: audiocraft's ConditioningAttributes, one per row.
        max_gen_len: frames, the prompt's included. callback(done, total) and on_step are called after each step, in
        inference mode; what they raise ends the generation and is passed on. Raises InvalidRequest for parameters out of
        range. In audiocraft's own loop, per-row generators become one stream seeded by the first, and on_step sees no codes.
        """
        sampling = Sampling(use_sampling, temp, top_k, top_p)
        sampling.check(self.lm.card)
        known = prompt.shape[-1] if prompt is not None else 0
        if known >= max_gen_len:
            raise InvalidRequest(f"A prompt of {known} frames leaves nothing to do in {max_gen_len}.")
        if self._weights is None or not conditions:
            codes = self._reference(
                prompt, conditions, num_samples, max_gen_len, sampling, cfg_coef, two_step_cfg, callback, generators, on_step
            )
        else:
            two_step = self.lm.two_step_cfg if two_step_cfg is None else two_step_cfg
            # audiocraft's two-step guidance reads the model's own coefficient, whatever it is given; tokens must agree.
            coef = self.lm.cfg_coef if two_step or cfg_coef is None else cfg_coef
            with torch.inference_mode():
                codes = self._fast(
                    self._weights, prompt, conditions, max_gen_len, sampling, coef, two_step, callback, generators, on_step
                )
            codes = codes.clone()  # out here it is an ordinary tensor, that may be written to
        return codes[..., known:] if remove_prompts else codes

    def _fast(  # noqa: PLR0917 - handed on from `generate`
        self,
        weights: Weights,
        prompt: Tensor | None,
        conditions: Sequence[Any],
        frames: int,
        sampling: Sampling,
        coef: float,
        two_step: bool,
        callback: Callable[[int, int], None] | None,
        generators: Generators,
        on_step: Callable[[StepView], None] | None,
    ) -> Tensor:
        device = weights.embeddings.device
        pattern = _Pattern(self.lm.pattern_provider.get_pattern(frames), frames, self.lm.n_q, device)
        known, first = pattern.known_steps(len(conditions), prompt, self.lm.special_token_id)
        sources = self._conditions(conditions, two_step)  # with audiocraft's autocast, where there is one
        with torch.autocast(device.type, enabled=False):
            passes = [Pass(weights, text, before, rows, pattern.steps) for text, before, rows in sources]
            table = self._positions(max(part.positions for part in passes))
            sequencer = Sequencer(passes, known, table, coef, sampling, generators)
            sequencer.prefill(first)
            total = pattern.steps - first

            def codes(start: int, stop: int) -> Tensor:
                return pattern.codes(sequencer.sequence, start, stop)

            for step in _run(sequencer, first, pattern.steps):
                done = step - first + 1
                if callback is not None:
                    callback(done, total)
                if on_step is not None:
                    on_step(StepView(done, total, pattern.complete[step], codes))
            return codes(0, frames)

    def _conditions(self, conditions: Sequence[Any], two_step: bool) -> list[tuple[Tensor | None, Tensor | None, int]]:
        """(text [R, L, d], what stands before the first step [R, P, d], R) for each pass: fused as ConditionFuser does."""
        lm = self.lm
        load_audiocraft()
        from audiocraft.modules.conditioners import ClassifierFreeGuidanceDropout  # noqa: PLC0415

        given = list(conditions)
        null = ClassifierFreeGuidanceDropout(p=1.0)(given)
        sources = []
        for batch in [given, null] if two_step else [given + null]:
            with torch.autocast(lm.emb[0].weight.device.type, torch.float16, enabled=lm.emb[0].weight.is_cuda):
                tensors = lm.condition_provider(lm.condition_provider.tokenize(batch))
            crossed, prepended = [], []
            for name, (tensor, _) in tensors.items():
                tensor = tensor.to(lm.emb[0].weight.dtype)  # noqa: PLW2901
                if lm.fuser.cond2fuse[name] == "cross":
                    crossed.append(tensor)
                else:
                    prepended.insert(0, tensor)
            text = torch.cat(crossed, 1) if crossed else None
            sources.append((text, torch.cat(prepended, 1) if prepended else None, len(batch)))
        return sources

    def _positions(self, positions: int) -> Tensor:
        """[positions, d], computed by audiocraft, in the precision in which it computes them."""
        from audiocraft.modules.transformer import create_sin_embedding  # noqa: PLC0415

        transformer, weight = self.lm.transformer, self.lm.emb[0].weight
        numbers = torch.arange(positions, device=weight.device).view(1, -1, 1)
        with torch.autocast(weight.device.type, torch.float16, enabled=weight.is_cuda):
            table = create_sin_embedding(numbers, self.lm.dim, max_period=transformer.max_period, dtype=weight.dtype)
        return (transformer.positional_scale * table[0]).to(weight.dtype)

    def _reference(  # noqa: PLR0917 - handed on from `generate`
        self,
        prompt: Tensor | None,
        conditions: Sequence[Any],
        num_samples: int | None,
        frames: int,
        sampling: Sampling,
        cfg_coef: float | None,
        two_step_cfg: bool | None,
        callback: Callable[[int, int], None] | None,
        generators: Generators,
        on_step: Callable[[StepView], None] | None,
    ) -> Tensor:
        def no_codes(start: int, stop: int) -> Tensor:
            raise NotImplementedError(f"audiocraft's loop keeps the codes of {start} to {stop} to itself")

        def progress(done: int, total: int) -> None:
            if callback is not None:
                callback(done, total)
            if on_step is not None:
                on_step(StepView(done, total, 0, no_codes))

        first = generators[0] if isinstance(generators, Sequence) else generators
        device = self.lm.emb[0].weight.device
        with torch.random.fork_rng([device] if device.type == "cuda" else [], enabled=first is not None):
            if first is not None:
                torch.manual_seed(first.initial_seed())
            codes: Tensor = self.lm.generate(
                prompt,
                list(conditions),
                num_samples,
                frames,
                sampling.use_sampling,
                sampling.temp,
                sampling.top_k,
                sampling.top_p,
                cfg_coef=cfg_coef,
                two_step_cfg=two_step_cfg,
                callback=progress,
            )
        return codes


class _Pattern:
    """Where audiocraft's pattern puts frame t of codebook k: `at[k, t]` is the step. `complete[s]`: frames done after s."""

    def __init__(self, pattern: Any, frames: int, codebooks: int, device: torch.device) -> None:
        at = [[-1] * frames for _ in range(codebooks)]
        self._first_step: dict[int, int] = {}
        for step, places in enumerate(pattern.layout):
            for t, k in places:
                if t < frames:
                    at[k][t] = step
                    self._first_step.setdefault(t, step)
        self.steps = len(pattern.layout)
        self.complete = _complete([max(column) for column in zip(*at, strict=True)], self.steps)
        self._at = torch.tensor(at, device=device)  # [K, T]
        self._codebooks = torch.arange(codebooks, device=device)[:, None]  # [K, 1]

    def known_steps(self, rows: int, prompt: Tensor | None, special: int) -> tuple[Tensor, int]:
        """[S, B, K], -1 where a token is to be chosen, and the first step that has such a place."""
        codebooks = len(self._codebooks)
        known = self._at.new_full((self.steps, rows, codebooks), special)
        start = prompt.shape[-1] if prompt is not None else 0
        known[self._at[:, start:], :, self._codebooks] = -1
        if prompt is not None:
            known[self._at[:, :start], :, self._codebooks] = prompt.permute(1, 2, 0)
        return known, self._first_step[start]

    def codes(self, sequence: Tensor, start: int, stop: int) -> Tensor:
        """sequence: [S, B, K] → [B, K, stop - start], copied."""
        return sequence[self._at[:, start:stop], :, self._codebooks].permute(2, 0, 1).contiguous()


def _complete(last_step: list[int], steps: int) -> list[int]:
    """last_step: of each frame. Returns for each step how many frames from the first on are complete after it."""
    done, counts = 0, []
    for step in range(steps):
        while done < len(last_step) and last_step[done] <= step:
            done += 1
        counts.append(done)
    return counts


def _run(sequencer: Sequencer, first: int, steps: int) -> Iterable[int]:
    """The steps, each yielded after it was taken."""
    if sequencer.known.is_cuda:
        yield from replayed_steps(sequencer, first, steps)
        return
    for step in range(first, steps):
        sequencer.advance(step)
        yield step
