"""The decode step on a GPU: kernels in a chain over fixed buffers, recorded once into a CUDA graph and replayed.

Owns the buffers, which stay from window to window and from song to song, the order of the kernels, the recording, and
how far the CPU may run ahead. One recording serves every position, since the step's number and the length of the text
are read on the device. Sampling is inside the graph, so nothing is read back between steps.

The kernels are `triton_kernels.py`'s, or torch's operations (`plain_kernels.py`) where Triton's don't run: no Triton,
no C compiler, an old GPU, ROCm. `decoding.py` has the same step without buffers, for CPUs, and for a GPU where
recording fails.

torch's rules for graphs, and how they are kept. What a graph reads and writes stays where it is: the buffers are
allocated before. No shape and no host value changes between replays. Random generators other than the device's own are
made known to the graph; ours take over the state of the caller's. The first calls of libraries, which set themselves
up, and Triton's compiler run before, on the stream that is recorded.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harmonia_lab.audio_engines.musicgen import plain_kernels
from harmonia_lab.audio_engines.musicgen.decoding import Sequencer, layer_caches
from harmonia_lab.audio_engines.musicgen.kernel_plans import Partial
from harmonia_lab.audio_engines.musicgen.kv_cache import KVCache
from harmonia_lab.audio_engines.musicgen.lm_weights import Layer, Weights
from harmonia_lab.audio_engines.musicgen.sampling import Generators, Noise, Sampling, choose

__all__ = ["GpuStep", "StepShape", "kernels_for", "room"]

AHEAD_S = 0.006
MOST_AHEAD = 16
"""Steps that may be launched and not done yet, as seconds of the GPU's work and in number: little enough to stop soon,
enough to keep the GPU busy while Python does something else."""

STEPS_ROOM = 256
TEXT_ROOM = 32
"""Buffers are as long as a multiple of these, so that a song that is a little longer needs no other recording."""


def room(length: int, unit: int = STEPS_ROOM) -> int:
    return -(-length // unit) * unit


_RECORDING = threading.Lock()
"""torch records one graph at a time in a process."""


class StepShape(NamedTuple):
    """What a recording is made for. passes: rows of each. steps, positions, text: there is room for so many.

    positions: the steps', and what stands before the first. text: tokens that are attended to; 0 where there are none.
    generators: how many of the caller's own; 0 for torch's global one.
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
        """Whether a recording of this shape can run what needs `wanted`."""
        rooms = [(wanted.steps, self.steps), (wanted.positions, self.positions), (wanted.text, self.text)]
        alike = wanted._replace(steps=self.steps, positions=self.positions, text=self.text) == self
        return alike and all(needed <= there for needed, there in rooms) and (wanted.text > 0) == (self.text > 0)


class GpuStep:
    """One step's buffers, and its graph once it was recorded. table: float32 [shape.positions, d]."""

    def __init__(self, weights: Weights, shape: StepShape, table: Tensor, kernels: ModuleType | None = None) -> None:
        """kernels: `triton_kernels` or `plain_kernels`; by default what is best on this device."""
        device, dtype, dim = table.device, weights.dtype, weights.dim
        heads, width = weights.n_heads, weights.dim // weights.n_heads
        self.weights, self.shape, self.table = weights, shape, table
        self._kernels = kernels or kernels_for(device)
        prompts, rows = shape.prompts, sum(shape.passes)

        def tokens() -> Tensor:
            return torch.zeros(shape.steps, prompts, weights.codebooks, dtype=torch.long, device=device)

        self.sequence, self.known = tokens(), tokens()  # [S, B, K]
        self.step = torch.ones(1, dtype=torch.long, device=device)
        self._x = torch.zeros(rows, dim, device=device)
        self._query, self._attended = (torch.zeros(rows, dim, dtype=dtype, device=device) for _ in range(2))
        hidden = len(weights.layers[0].dense_up)
        self._hidden = torch.zeros(rows, hidden, dtype=dtype, device=device)
        self._logits = torch.zeros(prompts, weights.codebooks, weights.card, device=device)
        self.passes: list[_Rows] = []
        start = 0
        for number in shape.passes:
            caches = layer_caches(weights, number, shape.positions)
            text = [
                torch.zeros(number, 2, heads, shape.text, width, dtype=dtype, device=device) if shape.text else None
                for _ in weights.layers
            ]
            part = slice(start, start + number)
            lead, text_length, nothing = (torch.zeros(1, dtype=torch.long, device=device) for _ in range(3))
            partial = Partial.allocate(number, heads, _splits(number * heads, device), width, device)
            text_partial = Partial.allocate(number, heads, 1, width, device)
            buffers = self._x[part], self._query[part], self._attended[part], self._hidden[part], caches, text
            counters = lead, text_length, nothing
            self.passes.append(_Rows(*buffers, *counters, partial, text_partial, self._kernels))
            start += number
        self._generators = [torch.Generator(device) for _ in range(shape.generators)]
        self._noise = None
        if not shape.sampling.greedy:
            # Rows with a generator each, or one for all of them, as torch's global one.
            own: Generators = self._generators if shape.generators == prompts else None
            if shape.generators == 1 and prompts > 1:
                own = self._generators[0]
            self._noise = Noise(own, (prompts, weights.codebooks, weights.card), self._logits)
        self._graph: torch.cuda.CUDAGraph | None = None

    @property
    def recorded(self) -> bool:
        return self._graph is not None

    def use_torch(self) -> bool:
        """Compute with torch's operations from now on; False where that is so already."""
        if self._kernels is plain_kernels:
            return False
        self._kernels = plain_kernels
        self.passes = [rows._replace(kernels=plain_kernels) for rows in self.passes]
        return True

    def caches(self) -> list[list[KVCache]]:
        """Those of each pass, for the prefill to fill."""
        return [part.caches for part in self.passes]

    def take(self, sequencer: Sequencer, first: int) -> None:
        """Go on with a sequence that was prefilled into `caches()`; the next step writes `first`."""
        steps = len(sequencer.known)
        self.known[:steps].copy_(sequencer.known)
        self.sequence[:steps].copy_(sequencer.sequence)
        sequencer.sequence = self.sequence[:steps]
        self.step.fill_(first)
        for rows, part in zip(self.passes, sequencer.passes, strict=True):
            rows.lead.fill_(part.lead)
            for buffer, text in zip(rows.text, part.text, strict=True):
                if buffer is not None and text is not None:
                    rows.text_length.fill_(text[0].shape[2])
                    buffer[:, :, :, : text[0].shape[2]].copy_(torch.stack(text, 1))

    def advance(self) -> None:
        """Launch one step: read the tokens of step - 1, write those of `step`, and count it up."""
        weights, kernels = self.weights, self._kernels
        if self._noise is not None and self.shape.sampling.top_p == 0:
            self._noise.draw()
        for rows in self.passes:
            kernels.embed(
                self.sequence, self.step, weights.embeddings, weights.codebook_offsets, self.table, rows.lead, rows.x
            )
            for number, layer in enumerate(weights.layers):
                rows.run(number, layer, self.step)
        logits = self._logits.view(self.shape.prompts, -1)
        kernels.guided_logits(self._x, weights.norm, weights.dense_heads, self.shape.coef, logits)
        self._choose()
        self.step.add_(1)

    def prepare(self) -> None:
        """Record the graph, unless it is there. Changes nothing that the steps read."""
        if self._graph is None:
            with torch.cuda.device(self.table.device):
                self._graph = self._record()

    def replay(self, first: int, steps: int, generators: Generators) -> Generator[int]:
        """Run the steps from `first` to `steps` - 1; yield each as it was launched (not necessarily done).

        After `prepare`.
        """
        device = self.table.device
        with torch.cuda.device(device), self._drawing_from(generators):  # streams, events and graphs are the device's
            assert self._graph is not None
            queue = _Queue()
            try:
                for number in range(first, steps):
                    self._graph.replay()
                    queue.launched()
                    yield number
            finally:
                queue.drain()  # the buffers are another song's afterwards

    def bytes(self) -> int:
        """What the caches hold, by far the most of the buffers."""
        return sum(cache.both.nbytes for part in self.passes for cache in part.caches)

    def _record(self) -> torch.cuda.CUDAGraph:
        """A graph of one step. What the warm-up wrote, the first replay writes again.

        What doesn't compile fails in the warm-up, outside of a recording.
        """
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        now = torch.cuda.current_stream()
        # A recording that fails leaves its own stream the current one; from here on, whatever happens, it is `now`.
        with _RECORDING, torch.cuda.stream(now), self._nothing_drawn():
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
            # thread_local: what another thread does with the GPU meanwhile (a cell of the notebook) is no error.
            with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
                self.advance()
        return graph

    @contextmanager
    def _nothing_drawn(self) -> Iterator[None]:
        """Afterwards, the random streams are where they were."""
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
        """Inside, the graph's generators go on from the state of the caller's, which afterwards go on from theirs."""
        given: list[Any] = [] if generators is None else [generators]
        if isinstance(generators, (list, tuple)):
            given = list(generators)
        for ours, theirs in zip(self._generators, given, strict=True):
            ours.set_state(theirs.get_state())
        try:
            yield
        finally:
            for ours, theirs in zip(self._generators, given, strict=True):
                theirs.set_state(ours.get_state())

    def _choose(self) -> None:
        sampling = self.shape.sampling
        if sampling.greedy or sampling.top_p == 0:
            noise = self._noise.last if self._noise is not None else None
            self._kernels.sample(
                self._logits, noise, self.known, self.sequence, self.step, sampling.temp, sampling.top_k
            )
            return
        chosen = choose(self._logits, self._noise, sampling)
        fixed = self.known.index_select(0, self.step)[0]
        self.sequence.index_copy_(0, self.step, torch.where(fixed < 0, chosen, fixed)[None])


class _Rows(NamedTuple):
    """The rows of one pass: views of the step's buffers, and what only this pass has.

    x: float32 [R, d]. query, attended: [R, d]. hidden: [R, 4 d]. text: [R, 2, H, room, D] a layer; None where there is
    none.
    lead, text_length, nothing: int64 [1]: positions before the first step, tokens of text, and 0.
    """

    x: Tensor
    query: Tensor
    attended: Tensor
    hidden: Tensor
    caches: list[KVCache]
    text: list[Tensor | None]
    lead: Tensor
    text_length: Tensor
    nothing: Tensor
    partial: Partial
    text_partial: Partial
    kernels: ModuleType

    def run(self, number: int, layer: Layer, step: Tensor) -> None:
        """Take the position that `step` - 1 stands at through layer `number`."""
        kernels, x = self.kernels, self.x
        cache, text, own, cross = self.caches[number].both, self.text[number], layer.own, layer.cross
        kernels.norm_project_cache(x, own.norm, own.dense_into, self.query, cache, step, self.lead)
        kernels.attend(self.query, cache, step, self.lead, self.attended, self.partial, grows=True)
        kernels.project(self.attended, own.dense_out, x)
        if cross is not None and text is not None:
            kernels.norm_project(x, cross.norm, cross.dense_into, self.query)
            kernels.attend(
                self.query, text, self.text_length, self.nothing, self.attended, self.text_partial, grows=False
            )
            kernels.project(self.attended, cross.dense_out, x)
        kernels.norm_project(x, layer.norm, layer.dense_up, self.hidden, gelu=True)
        kernels.project(self.hidden, layer.dense_down, x)


class _Queue:
    """The steps that are launched and not done yet, and how many that may be: as many as take AHEAD_S seconds."""

    def __init__(self) -> None:
        self._events: deque[torch.cuda.Event] = deque()
        self._most, self._done_at = 2, 0.0

    def launched(self) -> None:
        """Note a step; wait while there are too many."""
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._events.append(event)
        while len(self._events) > self._most:
            oldest = self._events.popleft()
            waiting = not oldest.query()  # type: ignore[no-untyped-call]
            oldest.synchronize()
            now = time.perf_counter()
            if waiting:  # so the time since the one before is the GPU's, not Python's
                self._most = max(2, min(MOST_AHEAD, round(AHEAD_S / (now - self._done_at))))
            self._done_at = now

    def drain(self) -> None:
        if self._events:
            self._events[-1].synchronize()


@cache
def kernels_for(device: torch.device) -> ModuleType:
    """Triton's kernels where they run (an NVIDIA GPU from compute capability 8.0 on), else torch's operations."""
    if device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0):
        try:
            from harmonia_lab.audio_engines.musicgen import triton_kernels  # noqa: PLC0415
        except Exception:  # noqa: BLE001 - a Triton that is there and broken raises what it likes
            return plain_kernels
        return triton_kernels
    return plain_kernels


def _splits(pairs: int, device: torch.device) -> int:
    """Into how many parts attention is split at most: rows × heads × parts are up to four programs a multiprocessor."""
    if device.type != "cuda":
        return 2
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    splits = 1
    while splits < 16 and pairs * splits * 2 <= 4 * processors:
        splits *= 2
    return splits
