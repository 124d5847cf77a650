"""The decoder of one language model: `decoder = auto | reference | fast | int8`.

Owns the choice of the decode loop, the fallback to audiocraft's own, the conditions of a window, and progress. The
forward pass is in `forward_pass.py`, its recorded form for GPUs in `cuda_graph_step.py`, the interleaving of codebooks
in `codebook_pattern.py`; songs beyond the model's window are made by `windows.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from harmonia_lab.audio_engines.musicgen.codebook_pattern import CodebookPattern
from harmonia_lab.audio_engines.musicgen.conditions import (
    Conditions,
    autocast,
    embed_conditions,
    nulled_in_audiocraft,
)
from harmonia_lab.audio_engines.musicgen.cuda_graph_step import TEXT_MULTIPLE, CudaGraphStep, StepShape, round_up
from harmonia_lab.audio_engines.musicgen.finite import require_finite, require_finite_weights
from harmonia_lab.audio_engines.musicgen.forward_pass import ForwardPass, Sequencer
from harmonia_lab.audio_engines.musicgen.lm_weights import Weights, compute_dtype, unknown_layout
from harmonia_lab.audio_engines.musicgen.memory import is_out_of_memory
from harmonia_lab.audio_engines.musicgen.packed_weights import Packing
from harmonia_lab.audio_engines.musicgen.sampling import Generators, Sampling, generator_list
from harmonia_lab.audio_engines.musicgen.settings import DECODERS
from harmonia_lab.audio_engines.musicgen.step_cache import StepCache
from harmonia_lab.errors import InvalidRequest

__all__ = ["Decoder", "StepView"]

CHECK_STEPS = 50
"""Steps after which the logits are checked, if nobody has read codes meanwhile, which checks them too: 1 s of audio."""

MAX_FAILURES = 3
"""Failed attempts to record a step after which recording is given up: with Triton's kernels and with torch's
operations for one song, and with either of them for a later song."""


@dataclass(frozen=True)
class StepView:
    """The state after a step. done of total: steps. frames: how many have all their codebooks, prompt included."""

    done: int
    total: int
    frames: int
    _codes: Callable[[int, int], Tensor]

    def codes(self, start: int, stop: int) -> Tensor:
        """Return a copy of the codes [B, K, stop - start] of complete frames. Call it in the callback only.

        On a GPU this waits for the launched steps.
        """
        return self._codes(start, min(stop, self.frames))


class Decoder:
    """Decodes with `lm`, audiocraft's LMModel, whose weights must not be changed or moved afterwards.

    mode: auto is fast if the model's layout is known. int8 rounds the weights (CPU only), so auto never chooses it.
    running: the loop in use: reference, fast or int8. reason: why it is not the one asked for, or "".
    packings: the number of matrices by the way they are packed. graphs: whether steps on a GPU are replayed from CUDA
    graphs. precision: float32, float16, bfloat16 or int8.
    """

    def __init__(
        self,
        lm: Any,
        mode: str = "auto",
        *,
        packing: Packing | None = None,
        graphs: bool = True,
        attend_padding: bool = False,
    ) -> None:
        """packing: None is the fastest exact packing for each matrix (`packed_weights.py`).

        attend_padding: give the tokens of audiocraft's own batches, in which a shorter prompt attends to the zeros that
        pad it to the longest. By default each row has the tokens that audiocraft gives for its prompt alone.

        Raise InvalidRequest for an unknown mode, AudioError for weights that are infinite or not a number.
        """
        if mode not in DECODERS:
            raise InvalidRequest(f"There is no decoder {mode!r}.", hint=f"Choose one of {', '.join(DECODERS)}.")
        dtype = str(compute_dtype(lm)).removeprefix("torch.")
        require_finite_weights(lm, "the language model's", dtype)
        self.lm = lm
        self.graphs = graphs
        self.attend_padding = attend_padding
        self.running = "fast" if mode == "auto" else mode
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
        self._step_cache: StepCache | None = None
        self._failures = 0
        self.precision = "int8" if self.running == "int8" else dtype
        if self.running != "reference":
            self._weights = Weights(lm, "int8" if self.running == "int8" else packing)
            self.packings = self._weights.packings
            self._step_cache = StepCache(self._weights, self._positions)
            if device != "cpu" and graphs and not self._weights.gelu:
                self.graphs, self.reason = False, "steps are run one by one: the model is not activated by GELU"

    @property
    def weights(self) -> Weights | None:
        """The weights that its steps read; None where audiocraft's own loop runs."""
        return self._weights

    @property
    def cached_bytes(self) -> int:
        """Bytes on the GPU that are kept from one song to the next. A song of another shape replaces them."""
        return self._step_cache.bytes if self._step_cache is not None else 0

    def release(self) -> None:
        """Free what is kept on the GPU from one song to the next."""
        if self._step_cache is not None:
            self._step_cache.release()

    def steps(self, frames: int, prompt_frames: int = 0) -> int:
        """Return the number of steps that `generate` takes for `frames` frames, those of the prompt included."""
        pattern = self._pattern(frames)
        return pattern.steps - pattern.first_step[prompt_frames]

    def generate(
        self,
        prompt: Tensor | None,
        conditions: Sequence[Any],
        *,
        max_gen_len: int = 256,
        use_sampling: bool = True,
        temp: float = 1.0,
        top_k: int = 250,
        top_p: float = 0.0,
        cfg_coef: float | None = None,
        two_step_cfg: bool | None = None,
        generators: Generators = None,
        on_step: Callable[[StepView], None] = lambda _: None,
    ) -> Tensor:
        """Return codes [B, K, max_gen_len], those of `LMModel.generate` with the same parameters.

        Each row's are those of its prompt alone, unless `attend_padding` was chosen, or audiocraft's own loop runs.
        prompt: codes [B, K, T] to continue. conditions: audiocraft's ConditioningAttributes, one per row.
        max_gen_len: frames, the prompt's included. on_step is called after each step, in inference mode; an exception
        from it ends the generation and is passed on. In audiocraft's own loop the first generator serves all rows, and
        on_step sees no codes. Raise InvalidRequest if a parameter is out of range, and AudioError (MUSICGEN_ERROR) if
        logits are infinite or not a number, before their tokens are handed out, and at most CHECK_STEPS steps later.
        """
        sampling = Sampling(use_sampling, temp, top_k, top_p)
        sampling.check(self.lm.card)
        if prompt is not None and prompt.shape[-1] >= max_gen_len:
            raise InvalidRequest(
                f"The prompt has {prompt.shape[-1]} frames, but only {max_gen_len} are to be generated in all.",
                hint="Ask for more frames than the prompt has.",
            )
        task = _Task(prompt, list(conditions), max_gen_len, sampling, cfg_coef, two_step_cfg, generators)
        if self._weights is None:
            return self._reference(task, on_step)
        with torch.inference_mode():
            codes = self._fast(self._weights, task, on_step)
        return codes.clone()  # outside inference mode a clone is an ordinary tensor, which the caller can write to

    def teacher_forced_logits(self, codes: Tensor, conditions: Sequence[Any]) -> Tensor:
        """Return the guided logits of each step for a given sequence, float32 [S - 1, B, K, card]. codes: [B, K, T].

        Measures what a precision costs. Not for the reference loop, whose logits are those of `lm.forward`.
        """
        assert self._weights is not None
        task = _Task(codes, list(conditions), codes.shape[-1], Sampling(use_sampling=False))
        with torch.inference_mode(), torch.autocast(codes.device.type, enabled=False):
            sequencer = self._sequencer(self._weights, task, self._pattern(task.frames), self._conditions(task))
            sequencer.prefill(1)
            return torch.stack([sequencer.logits(step) for step in range(1, len(sequencer.known))])

    def _fast(self, weights: Weights, task: _Task, on_step: Callable[[StepView], None]) -> Tensor:
        with torch.autocast(weights.embeddings.device.type, enabled=False):  # the weights' precision is set already
            pattern = self._pattern(task.frames)
            first = pattern.first_step[task.prompt.shape[-1] if task.prompt is not None else 0]
            conditions = self._conditions(task)
            with self._graph_step(weights, self._shape(task, pattern, conditions)) as graph_step:
                sequencer = self._sequencer(weights, task, pattern, conditions, graph_step)
                sequencer.prefill(first)

                step = first - 1

                def check() -> None:
                    require_finite(sequencer.total, step=step, precision=self.precision)

                def codes(start: int, stop: int) -> Tensor:
                    check()
                    return pattern.codes(sequencer.sequence, start, stop)

                # Closed here even if on_step raises: the step's buffers are free for the next song only afterwards.
                with closing(self._run(sequencer, graph_step, first, pattern.steps, task.generators)) as steps:
                    for step in steps:
                        if step % CHECK_STEPS == 0:
                            check()
                        on_step(StepView(step - first + 1, pattern.steps - first, pattern.complete[step], codes))
                return codes(0, task.frames)

    def _graph_step(self, weights: Weights, shape: StepShape) -> AbstractContextManager[CudaGraphStep | None]:
        """Return a context with a step that is replayed from a graph; with None where steps run one by one."""
        if self._step_cache is None or not self.graphs or not weights.embeddings.is_cuda:
            return nullcontext()
        return self._step_cache.lease(shape)

    def _run(
        self, sequencer: Sequencer, graph_step: CudaGraphStep | None, first: int, steps: int, generators: Generators
    ) -> Generator[int]:
        """Run the steps and yield each after it. If none can be recorded, they run one by one."""
        if graph_step is not None:
            graph_step.load(sequencer, first)
            if self._prepare(graph_step):
                yield from graph_step.replay(first, steps, generators)
                return
        for step in range(first, steps):
            sequencer.advance(step)
            yield step

    def _prepare(self, graph_step: CudaGraphStep) -> bool:
        """Record the step, with torch's operations if Triton's kernels fail. Return whether it is recorded.

        `reason` says what failed. After failures in two songs, recording is not tried again. An out-of-memory error is
        raised, since it may not recur.
        """
        try:
            graph_step.prepare()
        except Exception as error:
            if is_out_of_memory(error):
                raise
            message = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            self._failures += 1
            if graph_step.use_torch():
                self.reason = f"steps are replayed from torch's operations, not from Triton's kernels: {message}"
                return self._prepare(graph_step)
            self.graphs = self._failures < MAX_FAILURES
            self.reason = f"steps are not replayed from a CUDA graph: {message}"
            return False
        return True

    def _shape(self, task: _Task, pattern: CodebookPattern, conditions: Sequence[Conditions]) -> StepShape:
        """Return the shape that a recorded step must serve."""
        return StepShape(
            prompts=len(task.conditions),
            passes=tuple(part.rows for part in conditions),
            steps=round_up(pattern.steps),
            positions=round_up(max(part.prefix_length for part in conditions) + pattern.steps),
            text=round_up(max(part.text_length for part in conditions), TEXT_MULTIPLE),
            coef=self._coef(task),
            sampling=task.sampling,
            generators=len(generator_list(task.generators)),
        )

    def _sequencer(
        self,
        weights: Weights,
        task: _Task,
        pattern: CodebookPattern,
        conditions: Sequence[Conditions],
        graph_step: CudaGraphStep | None = None,
    ) -> Sequencer:
        known = pattern.known_steps(len(task.conditions), task.prompt, self.lm.special_token_id)
        caches: Sequence[Any] = graph_step.caches() if graph_step is not None else [None] * len(conditions)
        passes = [
            ForwardPass(weights, part, pattern.steps, cache) for part, cache in zip(conditions, caches, strict=True)
        ]
        table = graph_step.table if graph_step is not None else self._positions(max(p.positions for p in passes))
        return Sequencer(
            passes, known, table, coef=self._coef(task), sampling=task.sampling, generators=task.generators
        )

    def _two_step(self, task: _Task) -> bool:
        return bool(self.lm.two_step_cfg if task.two_step_cfg is None else task.two_step_cfg)

    def _coef(self, task: _Task) -> float:
        # audiocraft's two-step guidance ignores the argument and reads the model's coefficient. The tokens must agree.
        return float(self.lm.cfg_coef if self._two_step(task) or task.cfg_coef is None else task.cfg_coef)

    def _pattern(self, frames: int) -> CodebookPattern:
        device = self.lm.emb[0].weight.device
        return CodebookPattern(self.lm.pattern_provider.get_pattern(frames), frames, self.lm.n_q, device)

    def _conditions(self, task: _Task) -> list[Conditions]:
        return embed_conditions(
            self.lm, task.conditions, two_step=self._two_step(task), attend_padding=self.attend_padding
        )

    def _positions(self, positions: int) -> Tensor:
        """Return the embeddings of `positions` positions, [positions, d], as audiocraft computes and rounds them."""
        from audiocraft.modules.transformer import create_sin_embedding  # noqa: PLC0415

        transformer, weight = self.lm.transformer, self.lm.emb[0].weight
        numbers = torch.arange(positions, device=weight.device).view(1, -1, 1)
        with autocast(self.lm):
            table = create_sin_embedding(numbers, self.lm.dim, max_period=transformer.max_period, dtype=weight.dtype)
        scaled: Tensor = transformer.positional_scale * table[0]
        return scaled.to(weight.dtype)

    def _reference(self, task: _Task, on_step: Callable[[StepView], None]) -> Tensor:
        total = torch.zeros(1, device=self.lm.emb[0].weight.device)
        step = 0

        def add(_module: Any, _given: Any, logits: Tensor) -> None:
            total.add_(logits[:, :, -1].sum(dtype=torch.float32))

        def check() -> None:
            require_finite(total, step=step, precision=self.precision)

        def no_codes(start: int, stop: int) -> Tensor:
            raise NotImplementedError(f"audiocraft's loop doesn't expose the codes of {start} to {stop} before its end")

        def callback(done: int, of: int) -> None:
            nonlocal step
            step = done
            if step % CHECK_STEPS == 0:
                check()
            on_step(StepView(done, of, 0, no_codes))

        hook = self.lm.register_forward_hook(add)
        try:
            generator = next(iter(generator_list(task.generators)), None)
            with _as_global_generator(generator), nulled_in_audiocraft(task.conditions):
                codes: Tensor = self.lm.generate(
                    task.prompt,
                    task.conditions,
                    max_gen_len=task.frames,
                    **asdict(task.sampling),
                    cfg_coef=task.cfg_coef,
                    two_step_cfg=task.two_step_cfg,
                    callback=callback,
                )
        except RuntimeError:
            check()  # torch refuses to draw from NaN with an error that names neither cause nor remedy
            raise
        finally:
            hook.remove()
        check()
        return codes


@dataclass(frozen=True)
class _Task:
    """The arguments of `generate`. frames: the prompt's included."""

    prompt: Tensor | None
    conditions: list[Any]
    frames: int
    sampling: Sampling
    cfg_coef: float | None = None
    two_step_cfg: bool | None = False
    generators: Generators = None


@contextmanager
def _as_global_generator(generator: torch.Generator | None) -> Iterator[None]:
    """Make torch's global random stream continue that of `generator`, and `generator` continue it afterwards."""
    if generator is None:
        yield
        return
    device = generator.device
    stream: Any = {"cuda": torch.cuda, "mps": torch.mps}.get(device.type, torch)
    which = (device,) if device.type == "cuda" else ()
    with torch.random.fork_rng(which):
        stream.set_rng_state(generator.get_state(), *which)
        try:
            yield
        finally:
            generator.set_state(stream.get_rng_state(*which))
