"""One language model and the loop that decodes it: `decoder = auto | reference | fast | int8`.

Owns the choice of the loop, the fall back to audiocraft's own, and the window's frame: conditions, the codebooks'
interleaving, progress. The loop itself is in `decoding.py`; windows beyond the model's length are in `windows.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from harmonia_lab.audio_engines.musicgen.audiocraft_standins import load_audiocraft
from harmonia_lab.audio_engines.musicgen.decoding import Pass, Sequencer
from harmonia_lab.audio_engines.musicgen.gpu_step import TEXT_ROOM, GpuStep, StepShape, room
from harmonia_lab.audio_engines.musicgen.lm_weights import Weights, compute_dtype, unknown_layout
from harmonia_lab.audio_engines.musicgen.memory import is_out_of_memory
from harmonia_lab.audio_engines.musicgen.packed_weights import Packing
from harmonia_lab.audio_engines.musicgen.sampling import Generators, Sampling
from harmonia_lab.audio_engines.musicgen.step_keeper import StepKeeper
from harmonia_lab.errors import InvalidRequest

__all__ = ["MODES", "Decoder", "Mode", "StepView"]

MOST_FAILURES = 3
"""To record a step: Triton's kernels and torch's operations, and one of them again with the next song."""

Mode = Literal["auto", "reference", "fast", "int8"]
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True)
class StepView:
    """What a step hands out. done of total: steps. frames: how many have all their codebooks, prompt included."""

    done: int
    total: int
    frames: int
    _codes: Callable[[int, int], Tensor]

    def codes(self, start: int, stop: int) -> Tensor:
        """The codes [B, K, stop - start] of complete frames, copied; only inside the callback that got the view.

        On a GPU this waits for the steps that were launched.
        """
        return self._codes(start, min(stop, self.frames))


class Decoder:
    """Decodes with `lm`, audiocraft's LMModel, whose weights must stay as and where they are from now on.

    mode: auto is fast where the layout is known. int8 rounds the weights (CPU only), so it is never chosen unasked.
    running: the loop in use, reference or fast or int8. reason: why it is not the one asked for, or "".
    packings: how many matrices are held in which way. graphs: whether steps on a GPU are replayed from CUDA graphs.
    """

    def __init__(self, lm: Any, mode: Mode = "auto", *, packing: Packing | None = None, graphs: bool = True) -> None:
        """Without a packing, the fast loop holds the weights in the fastest exact way (`packed_weights.py`)."""
        if mode not in MODES:
            raise InvalidRequest(f"There is no decoder {mode!r}.", hint=f"Choose one of {', '.join(MODES)}.")
        self.lm = lm
        self.graphs = graphs
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
        self._keeper: StepKeeper | None = None
        self._failures = 0
        if self.running != "reference":
            self._weights = Weights(lm, "int8" if self.running == "int8" else packing)
            self.packings = self._weights.packings
            self._keeper = StepKeeper(self._weights, self._positions)
            if device != "cpu" and graphs and not self._weights.gelu:
                self.graphs, self.reason = False, "steps are run one by one: the model is not activated by GELU"

    @property
    def held_bytes(self) -> int:
        """What is kept on the GPU from one song to the next; a song of another shape takes its place."""
        return self._keeper.bytes if self._keeper is not None else 0

    def release(self) -> None:
        """Give back what is kept on the GPU from one song to the next."""
        if self._keeper is not None:
            self._keeper.release()

    def steps(self, frames: int, prompt_frames: int = 0) -> int:
        """How many steps `generate` takes for so many frames, of which so many are the prompt's."""
        pattern = self._pattern(frames)
        return pattern.steps - pattern.first_step[prompt_frames]

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
        inference mode; what they raise ends the generation and is passed on. In audiocraft's own loop the first
        generator serves all rows, and on_step sees no codes. Raises InvalidRequest for parameters out of range.
        """
        sampling = Sampling(use_sampling, temp, top_k, top_p)
        sampling.check(self.lm.card)
        known = prompt.shape[-1] if prompt is not None else 0
        if known >= max_gen_len:
            raise InvalidRequest(f"A prompt of {known} frames leaves nothing to do in {max_gen_len}.")

        def report(view: StepView) -> None:
            if callback is not None:
                callback(view.done, view.total)
            if on_step is not None:
                on_step(view)

        task = _Task(prompt, list(conditions), max_gen_len, sampling, cfg_coef, two_step_cfg, generators)
        if self._weights is None or not conditions:
            codes = self._reference(task, num_samples, report)
        else:
            with torch.inference_mode():
                codes = self._fast(self._weights, task, report)
            codes = codes.clone()  # out here it is an ordinary tensor, that may be written to
        return codes[..., known:] if remove_prompts else codes

    def teacher_forced_logits(self, codes: Tensor, conditions: Sequence[Any], cfg_coef: float | None = None) -> Tensor:
        """Float32 [S - 1, B, K, card]: the guided logits of each step where the sequence is given. codes: [B, K, T].

        Shows what a precision costs. Not for the reference loop, whose logits are those of `lm.forward`.
        """
        assert self._weights is not None
        task = _Task(codes, list(conditions), codes.shape[-1], Sampling(use_sampling=False), cfg_coef, False, None)
        with torch.inference_mode(), torch.autocast(codes.device.type, enabled=False):
            pattern = self._pattern(task.frames)
            sequencer = self._sequencer(self._weights, task, pattern, self._conditions(task))
            sequencer.prefill(1)
            return torch.stack([sequencer.logits(step) for step in range(1, len(sequencer.known))])

    def _fast(self, weights: Weights, task: _Task, report: Callable[[StepView], None]) -> Tensor:
        with torch.autocast(weights.embeddings.device.type, enabled=False):
            pattern = self._pattern(task.frames)
            first = pattern.first_step[task.prompt.shape[-1] if task.prompt is not None else 0]
            conditions = self._conditions(task)
            with self._recorded_step(weights, self._shape(task, pattern, conditions)) as held:
                sequencer = self._sequencer(weights, task, pattern, conditions, held)
                sequencer.prefill(first)

                def codes(start: int, stop: int) -> Tensor:
                    return pattern.codes(sequencer.sequence, start, stop)

                # Closed here, whatever a listener raises: the step goes back to be used again.
                with closing(self._run(sequencer, held, first, pattern.steps, task.generators)) as taken:
                    for step in taken:
                        report(StepView(step - first + 1, pattern.steps - first, pattern.complete[step], codes))
                return codes(0, task.frames)

    def _recorded_step(self, weights: Weights, shape: StepShape) -> AbstractContextManager[GpuStep | None]:
        """Inside, a step that is replayed from a graph; None where steps run one by one."""
        if self._keeper is None or not self.graphs or not weights.embeddings.is_cuda:
            return nullcontext()
        return self._keeper.borrowed(shape)

    def _run(
        self, sequencer: Sequencer, held: GpuStep | None, first: int, steps: int, generators: Generators
    ) -> Generator[int]:
        """The steps, each yielded after it was taken. Where none can be recorded, they run one by one."""
        if held is not None:
            held.take(sequencer, first)
            if self._prepare(held):
                yield from held.replay(first, steps, generators)
                return
        for step in range(first, steps):
            sequencer.advance(step)
            yield step

    def _prepare(self, held: GpuStep) -> bool:
        """Record the step with Triton's kernels, or else (no C compiler, say) torch's operations; say whether it is.

        What can't be had is noted in `reason`; after two songs it is not tried again. A lack of memory is raised.
        """
        try:
            held.prepare()
        except Exception as error:
            if is_out_of_memory(error):
                raise
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            self._failures += 1
            if held.use_torch():
                self.reason = f"steps are replayed from torch's operations, not from Triton's kernels: {said}"
                return self._prepare(held)
            self.graphs = self._failures < MOST_FAILURES
            self.reason = f"steps are not replayed from a CUDA graph: {said}"
            return False
        return True

    def _shape(self, task: _Task, pattern: _Pattern, conditions: Sequence[_Conditions]) -> StepShape:
        """What a recorded step must serve."""
        return StepShape(
            prompts=len(task.conditions),
            passes=tuple(part.rows for part in conditions),
            steps=room(pattern.steps),
            positions=room(max(part.lead for part in conditions) + pattern.steps),
            text=room(max(part.text.shape[1] if part.text is not None else 0 for part in conditions), TEXT_ROOM),
            coef=self._coef(task),
            sampling=task.sampling,
            generators=_count(task.generators),
        )

    def _sequencer(
        self,
        weights: Weights,
        task: _Task,
        pattern: _Pattern,
        conditions: Sequence[_Conditions],
        held: GpuStep | None = None,
    ) -> Sequencer:
        known = pattern.known_steps(len(task.conditions), task.prompt, self.lm.special_token_id)
        caches: Sequence[Any] = held.caches() if held is not None else [None] * len(conditions)
        passes = [
            Pass(weights, part.text, part.before, part.rows, pattern.steps, kept)
            for part, kept in zip(conditions, caches, strict=True)
        ]
        table = held.table if held is not None else self._positions(max(part.positions for part in passes))
        return Sequencer(
            passes, known, table, coef=self._coef(task), sampling=task.sampling, generators=task.generators
        )

    def _two_step(self, task: _Task) -> bool:
        return bool(self.lm.two_step_cfg if task.two_step_cfg is None else task.two_step_cfg)

    def _coef(self, task: _Task) -> float:
        # audiocraft's two-step guidance reads the model's own coefficient, whatever it is given; tokens must agree.
        return float(self.lm.cfg_coef if self._two_step(task) or task.cfg_coef is None else task.cfg_coef)

    def _pattern(self, frames: int) -> _Pattern:
        device = self.lm.emb[0].weight.device
        return _Pattern(self.lm.pattern_provider.get_pattern(frames), frames, self.lm.n_q, device)

    def _conditions(self, task: _Task) -> list[_Conditions]:
        """For each pass, as ConditionFuser does it."""
        lm = self.lm
        load_audiocraft()
        from audiocraft.modules.conditioners import ClassifierFreeGuidanceDropout  # noqa: PLC0415

        given = task.conditions
        null = ClassifierFreeGuidanceDropout(p=1.0)(given)
        sources = []
        for batch in [given, null] if self._two_step(task) else [given + null]:
            with _autocast(lm):
                tensors = lm.condition_provider(lm.condition_provider.tokenize(batch))
            crossed: list[Tensor] = []
            prepended: list[Tensor] = []
            for name, (tensor, _) in tensors.items():
                tensor = tensor.to(compute_dtype(lm))  # noqa: PLW2901
                if lm.fuser.cond2fuse[name] == "cross":
                    crossed.append(tensor)
                else:
                    prepended.insert(0, tensor)
            text = torch.cat(crossed, 1) if crossed else None
            sources.append(_Conditions(text, torch.cat(prepended, 1) if prepended else None, len(batch)))
        return sources

    def _positions(self, positions: int) -> Tensor:
        """[positions, d], computed by audiocraft, in the precision in which it computes them."""
        from audiocraft.modules.transformer import create_sin_embedding  # noqa: PLC0415

        transformer, weight = self.lm.transformer, self.lm.emb[0].weight
        numbers = torch.arange(positions, device=weight.device).view(1, -1, 1)
        with _autocast(self.lm):
            table = create_sin_embedding(numbers, self.lm.dim, max_period=transformer.max_period, dtype=weight.dtype)
        scaled: Tensor = transformer.positional_scale * table[0]
        return scaled.to(weight.dtype)

    def _reference(self, task: _Task, num_samples: int | None, report: Callable[[StepView], None]) -> Tensor:
        def no_codes(start: int, stop: int) -> Tensor:
            raise NotImplementedError(f"audiocraft's loop keeps the codes of {start} to {stop} to itself")

        def progress(done: int, total: int) -> None:
            report(StepView(done, total, 0, no_codes))

        generator = task.generators[0] if isinstance(task.generators, Sequence) else task.generators
        with _as_global_generator(generator):
            codes: Tensor = self.lm.generate(
                task.prompt,
                task.conditions,
                num_samples,
                task.frames,
                task.sampling.use_sampling,
                task.sampling.temp,
                task.sampling.top_k,
                task.sampling.top_p,
                cfg_coef=task.cfg_coef,
                two_step_cfg=task.two_step_cfg,
                callback=progress,
            )
        return codes


@dataclass(frozen=True)
class _Task:
    """What `generate` was asked for. frames: the prompt's included."""

    prompt: Tensor | None
    conditions: list[Any]
    frames: int
    sampling: Sampling
    cfg_coef: float | None
    two_step_cfg: bool | None
    generators: Generators


class _Conditions(NamedTuple):
    """What one pass is told. text: [R, L, d], or None. before: [R, P, d], ahead of the first step, or None. rows: R."""

    text: Tensor | None
    before: Tensor | None
    rows: int

    @property
    def lead(self) -> int:
        return self.before.shape[1] if self.before is not None else 0


def _count(generators: Generators) -> int:
    if generators is None:
        return 0
    return len(generators) if isinstance(generators, Sequence) else 1


def _autocast(lm: Any) -> torch.autocast:
    """What audiocraft computes conditions and positions under: on a GPU the precision of the weights."""
    dtype = compute_dtype(lm)
    enabled = lm.emb[0].weight.is_cuda and dtype != torch.float32
    return torch.autocast(lm.emb[0].weight.device.type, dtype if enabled else None, enabled=enabled)


@contextmanager
def _as_global_generator(generator: torch.Generator | None) -> Iterator[None]:
    """Inside, torch's global random stream is this one, which goes on from where it was left."""
    if generator is None:
        yield
        return
    device = generator.device
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng([device] if on_gpu else []):
        if on_gpu:
            torch.cuda.set_rng_state(generator.get_state(), device)
        else:
            torch.set_rng_state(generator.get_state())
        try:
            yield
        finally:
            generator.set_state(torch.cuda.get_rng_state(device) if on_gpu else torch.get_rng_state())


class _Pattern:
    """Where audiocraft's pattern puts frame t of codebook k.

    first_step[t]: the first step with a code of frame t. complete[s]: how many frames are complete after step s.
    """

    def __init__(self, pattern: Any, frames: int, codebooks: int, device: torch.device) -> None:
        at = [[-1] * frames for _ in range(codebooks)]
        self.first_step: dict[int, int] = {}
        for step, places in enumerate(pattern.layout):
            for t, k in places:
                if t < frames:
                    at[k][t] = step
                    self.first_step.setdefault(t, step)
        self.steps = len(pattern.layout)
        self.complete = _complete([max(column) for column in zip(*at, strict=True)], self.steps)
        self._at = torch.tensor(at, device=device)  # [K, T]
        self._codebooks = torch.arange(codebooks, device=device)[:, None]  # [K, 1]

    def known_steps(self, rows: int, prompt: Tensor | None, special: int) -> Tensor:
        """[S, B, K], -1 where a token is to be chosen."""
        codebooks = len(self._codebooks)
        known = self._at.new_full((self.steps, rows, codebooks), special)
        start = prompt.shape[-1] if prompt is not None else 0
        known[self._at[:, start:], :, self._codebooks] = -1
        if prompt is not None:
            known[self._at[:, :start], :, self._codebooks] = prompt.permute(1, 2, 0)
        return known

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
