"""The decode step on a GPU: a chain of kernels over fixed buffers, recorded once into a CUDA graph and replayed.

Owns the buffers (which stay allocated from window to window and from song to song), the order of the kernels, the
recording, and how far the CPU may run ahead of the GPU. One recording serves every position, because the kernels read
the step's number and the length of the text on the device. Sampling is part of the graph, so the CPU reads nothing back
between steps.

The kernels are those of `triton_kernels.py`, or of `torch_kernels.py` where Triton's don't run: no Triton, no C
compiler, an old GPU, ROCm. `forward_pass.py` has the same step without buffers, for CPUs, and for a GPU on which the
recording fails.

How torch's rules for CUDA graphs are kept. A graph reads and writes fixed addresses: the buffers are allocated before
the recording. No shape and no value of the host changes between replays. Random generators other than the device's
default one are registered with the graph; ours take over the state of the caller's. The libraries' first calls, which
initialise them, and Triton's compiler run in a warm-up step on the stream that is recorded.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from harmonia_lab.audio_engines.musicgen import torch_kernels
from harmonia_lab.audio_engines.musicgen.forward_pass import Sequencer, layer_caches
from harmonia_lab.audio_engines.musicgen.kernel_plans import Partial
from harmonia_lab.audio_engines.musicgen.kv_cache import KVCache
from harmonia_lab.audio_engines.musicgen.lm_weights import Layer, Weights
from harmonia_lab.audio_engines.musicgen.sampling import Generators, Noise, Sampling, generator_list

__all__ = ["CudaGraphStep", "StepShape", "best_kernels", "round_up"]

AHEAD_S = 0.006
MAX_AHEAD = 16
"""Limits of the steps that are launched and not done, in seconds of the GPU's work and in number: few enough that a
cancel stops the GPU soon, enough to keep it busy while Python does something else."""

STEPS_MULTIPLE = 256
TEXT_MULTIPLE = 32
"""Buffers are as long as a multiple of these, so that a song that is a little longer needs no new recording."""


def round_up(length: int, multiple: int = STEPS_MULTIPLE) -> int:
    """Return the smallest multiple that is not less than `length`."""
    return -(-length // multiple) * multiple


_RECORDING = threading.Lock()
"""torch records one graph at a time in a process."""


class StepShape(NamedTuple):
    """What a recording is made for. passes: rows of each. steps, positions, text: how many the buffers hold.

    positions: the prefix's and the steps'. text: tokens of text; 0 without cross attention. generators: how many the
    caller has; 0 for torch's global one.
    """

    prompts: int
    passes: tuple[int, ...]
    steps: int
    positions: int
    text: int
    coef: float
    sampling: Sampling
    generators: int

    def serves(self, wanted: StepShape) -> bool:
        """Return whether a recording of this shape can run a generation that needs `wanted`."""
        lengths = [(wanted.steps, self.steps), (wanted.positions, self.positions), (wanted.text, self.text)]
        same = wanted._replace(steps=self.steps, positions=self.positions, text=self.text) == self
        return same and all(needed <= held for needed, held in lengths) and (wanted.text > 0) == (self.text > 0)


class CudaGraphStep:
    """The buffers of one step, and its graph once it is recorded. table: float32 [shape.positions, d]."""

    def __init__(self, weights: Weights, shape: StepShape, table: Tensor) -> None:
        device, prompts = table.device, shape.prompts
        self.weights, self.shape, self.table = weights, shape, table
        self._kernels = best_kernels(device)

        def tokens() -> Tensor:
            return torch.zeros(shape.steps, prompts, weights.codebooks, dtype=torch.long, device=device)

        self.sequence, self.known = tokens(), tokens()  # [S, B, K]
        self.step = torch.ones(1, dtype=torch.long, device=device)
        self.total = torch.zeros(1, device=device)  # the sum of all logits of a song
        self._x = torch.zeros(sum(shape.passes), weights.dim, device=device)
        self._logits = torch.zeros(prompts, weights.codebooks, weights.card, device=device)
        # The passes' rows are consecutive rows of x, since guidance reads all of them at once.
        self.passes = [_PassBuffers.allocate(weights, shape, x) for x in self._x.split_with_sizes(shape.passes)]
        self._generators = [torch.Generator(device) for _ in range(shape.generators)]
        self._noise = None
        if not shape.sampling.greedy:
            # A generator per row, or one for all rows, or torch's global one.
            own: Generators = self._generators if shape.generators == prompts else None
            if shape.generators == 1 and prompts > 1:
                own = self._generators[0]
            self._noise = Noise(own, (prompts, weights.codebooks, weights.card), self._logits)
        self._graph: torch.cuda.CUDAGraph | None = None

    @property
    def recorded(self) -> bool:
        return self._graph is not None

    @property
    def cache_bytes(self) -> int:
        """Bytes of the KV caches, by far the largest of the buffers."""
        return sum(cache.both.nbytes for caches in self.caches() for cache in caches)

    def use_torch(self) -> bool:
        """Compute with torch's operations from now on. Return False if the step already does."""
        changed = self._kernels is not torch_kernels
        self._kernels = torch_kernels
        return changed

    def caches(self) -> list[list[KVCache]]:
        """Return the caches of each pass, for the prefill to fill."""
        return [part.caches for part in self.passes]

    def load(self, sequencer: Sequencer, first: int) -> None:
        """Copy in the state of a sequencer that was prefilled into `caches()`. The next step writes `first`.

        From here on `sequencer.sequence` and `sequencer.total` are this step's buffers.
        """
        steps = len(sequencer.known)
        self.known[:steps].copy_(sequencer.known)
        self.sequence[:steps].copy_(sequencer.sequence)
        sequencer.sequence = self.sequence[:steps]
        self.step.fill_(first)
        self.total.zero_()
        sequencer.total = self.total
        for buffers, part in zip(self.passes, sequencer.passes, strict=True):
            buffers.prefix_length.fill_(part.prefix_length)
            buffers.begins.copy_(part.begins)
            buffers.text_begins.copy_(part.text_begins)
            for buffer, text in zip(buffers.text, part.text, strict=True):
                if buffer is not None and text is not None:
                    buffers.text_length.fill_(text[0].shape[2])
                    buffer[:, :, :, : text[0].shape[2]].copy_(torch.stack(text, 1))

    def advance(self) -> None:
        """Launch one step: read the tokens of step - 1, write those of `step`, and increment `step`."""
        weights, kernels, sampling = self.weights, self._kernels, self.shape.sampling
        noise = self._noise.draw() if self._noise is not None else None
        for part in self.passes:
            kernels.embed(
                self.sequence, self.step, weights.embeddings, weights.codebook_offsets, self.table, part.prefix_length,
                part.begins, part.x,
            )  # fmt: skip
            for number, layer in enumerate(weights.layers):
                part.run_layer(kernels, number, layer, self.step)
        logits = self._logits.view(self.shape.prompts, -1)
        kernels.guided_logits(self._x, weights.norm, weights.dense_heads, self.shape.coef, logits)
        # Triton's kernel has no top-p.
        sampler = torch_kernels if sampling.top_p > 0 else kernels
        sampler.sample(self._logits, noise, self.known, self.sequence, self.step, self.total, sampling)
        self.step.add_(1)

    def prepare(self) -> None:
        """Record the graph, unless that is done. Leaves what the steps read unchanged."""
        if self._graph is None:
            with torch.cuda.device(self.table.device):
                self._graph = self._record()

    def replay(self, first: int, steps: int, generators: Generators) -> Generator[int]:
        """Run the steps from `first` to `steps` - 1. Yield each when it is launched, which is before it is done.

        Call `prepare` first.
        """
        device = self.table.device
        with torch.cuda.device(device), self._drawing_from(generators):  # streams, events and graphs are the device's
            assert self._graph is not None
            queue = _LaunchQueue()
            try:
                for number in range(first, steps):
                    self._graph.replay()
                    queue.launched()
                    yield number
            finally:
                queue.drain()  # the buffers are another song's afterwards

    def _record(self) -> torch.cuda.CUDAGraph:
        """Return a graph of one step. The first replay writes again what the warm-up wrote.

        A kernel that doesn't compile raises in the warm-up, outside of a recording.
        """
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        now = torch.cuda.current_stream()
        # A recording that fails leaves its own stream the current one. This block restores `now` in any case.
        with _RECORDING, torch.cuda.stream(now), self._preserving_rng():
            side.wait_stream(now)
            step = self.step.clone()
            try:
                with torch.cuda.stream(side):
                    self.advance()
                    self.step.copy_(step)
            finally:
                now.wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            for generator in self._generators:
                graph.register_generator_state(generator)
            # thread_local: another thread may use the GPU meanwhile (a cell of the notebook) without an error.
            with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
                self.advance()
        return graph

    @contextmanager
    def _preserving_rng(self) -> Iterator[None]:
        """Restore the state of the random generators afterwards."""
        states = [generator.get_state() for generator in self._generators]
        default_state = torch.cuda.get_rng_state()
        try:
            yield
        finally:
            torch.cuda.set_rng_state(default_state)
            for generator, state in zip(self._generators, states, strict=True):
                generator.set_state(state)

    @contextmanager
    def _drawing_from(self, generators: Generators) -> Iterator[None]:
        """Continue the caller's random streams in the graph's generators, and afterwards in the caller's again."""
        given = generator_list(generators)
        for ours, theirs in zip(self._generators, given, strict=True):
            ours.set_state(theirs.get_state())
        try:
            yield
        finally:
            for ours, theirs in zip(self._generators, given, strict=True):
                theirs.set_state(ours.get_state())


class _PassBuffers(NamedTuple):
    """The buffers of one pass.

    x: float32 [R, d], a view of the step's. query, attended: [R, d]. hidden: [R, 4 d]. text: for each layer
    [R, 2, H, shape.text, D], or None without cross attention. prefix_length, text_length, zero: int64 [1]. begins,
    text_begins: int64 [R], where a row's prefix and text begin.
    """

    x: Tensor
    query: Tensor
    attended: Tensor
    hidden: Tensor
    caches: list[KVCache]
    text: list[Tensor | None]
    prefix_length: Tensor
    text_length: Tensor
    zero: Tensor
    begins: Tensor
    text_begins: Tensor
    partial: Partial
    text_partial: Partial

    @classmethod
    def allocate(cls, weights: Weights, shape: StepShape, x: Tensor) -> _PassBuffers:
        """Return zeroed buffers for the rows of x."""
        rows, device, heads, width = len(x), x.device, weights.n_heads, weights.dim // weights.n_heads

        def zeros(*size: int) -> Tensor:
            return torch.zeros(size, dtype=weights.dtype, device=device)

        prefix_length, text_length, zero = (torch.zeros(1, dtype=torch.long, device=device) for _ in range(3))
        begins, text_begins = (torch.zeros(rows, dtype=torch.long, device=device) for _ in range(2))
        return cls(
            x=x,
            query=zeros(rows, weights.dim),
            attended=zeros(rows, weights.dim),
            hidden=zeros(rows, len(weights.layers[0].dense_up)),
            caches=layer_caches(weights, rows, shape.positions),
            text=[zeros(rows, 2, heads, shape.text, width) if shape.text else None for _ in weights.layers],
            prefix_length=prefix_length,
            text_length=text_length,
            zero=zero,
            begins=begins,
            text_begins=text_begins,
            partial=Partial.allocate(rows, heads, _splits(rows * heads, device), width, device),
            text_partial=Partial.allocate(rows, heads, 1, width, device),
        )

    def run_layer(self, kernels: ModuleType, number: int, layer: Layer, step: Tensor) -> None:
        """Run layer `number` for the position of `step` - 1."""
        x, cache, text, own, cross = self.x, self.caches[number].both, self.text[number], layer.own, layer.cross
        kernels.norm_project_cache(x, own.norm, own.dense_into, self.query, cache, step, self.prefix_length)
        # The position of step - 1 is the last one: prefix_length + step positions are attended to.
        kernels.attend(
            self.query, cache, self.begins, step, self.prefix_length, self.attended, self.partial, grows=True
        )
        kernels.project(self.attended, own.dense_out, x)
        if cross is not None and text is not None:
            kernels.norm_project(x, cross.norm, cross.dense_into, self.query)
            kernels.attend(
                self.query, text, self.text_begins, self.text_length, self.zero, self.attended, self.text_partial,
                grows=False,
            )  # fmt: skip
            kernels.project(self.attended, cross.dense_out, x)
        kernels.norm_project(x, layer.norm, layer.dense_up, self.hidden, gelu=True)
        kernels.project(self.hidden, layer.dense_down, x)


class _LaunchQueue:
    """The steps that are launched and not done, and the limit of their number: as many as take AHEAD_S seconds."""

    def __init__(self) -> None:
        self._events: deque[torch.cuda.Event] = deque()
        self._limit, self._done_at = 2, 0.0

    def launched(self) -> None:
        """Add a step. Wait until the number is within the limit."""
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._events.append(event)
        while len(self._events) > self._limit:
            oldest = self._events.popleft()
            waiting = not oldest.query()  # type: ignore[no-untyped-call]
            oldest.synchronize()
            now = time.perf_counter()
            if waiting:  # then the time since the step before is the GPU's, not Python's
                self._limit = max(2, min(MAX_AHEAD, round(AHEAD_S / (now - self._done_at))))
            self._done_at = now

    def drain(self) -> None:
        """Wait for all steps."""
        if self._events:
            self._events[-1].synchronize()


@cache
def best_kernels(device: torch.device) -> ModuleType:
    """Return `triton_kernels` if it runs (an NVIDIA GPU from compute capability 8.0 on), else `torch_kernels`."""
    if device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0):
        try:
            from harmonia_lab.audio_engines.musicgen import triton_kernels  # noqa: PLC0415
        except Exception:  # noqa: BLE001 - a broken Triton installation raises anything
            return torch_kernels
        return triton_kernels
    return torch_kernels


def _splits(pairs: int, device: torch.device) -> int:
    """Return the number of parts that attention over a cache is split into, for `pairs` = rows × heads.

    The largest power of two up to 16 with which pairs × parts are at most four programs for each multiprocessor.
    """
    if device.type != "cuda":
        return 2
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    splits = 1
    while splits < 16 and pairs * splits * 2 <= 4 * processors:
        splits *= 2
    return splits
