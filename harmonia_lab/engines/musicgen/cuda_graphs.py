"""Decode steps on a GPU, recorded once per length and replayed: one launch a step in place of some three hundred.

Owns recording, replaying and how far the CPU may run ahead. Sampling is inside the graph, so nothing is read back
between steps. Written for, and not yet measured on, an NVIDIA GPU.

torch's rules for graphs, and how they are kept. What a graph reads and writes stays where it is: sequence, caches and
noise are the sequencer's, allocated before; what a step allocates comes from the graphs' own pool, which they may share
because they run one after the other. No shape and no host value changes between replays: the step's number is a tensor,
and what lies ahead of it is masked. Random generators other than the device's own are made known to each graph. The
first calls of libraries, which set themselves up, happen before, on the stream that is recorded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from harmonia_lab.engines.musicgen.decoding import Sequencer

__all__ = ["BUCKET", "replayed_steps"]

BUCKET = 256
"""Positions that one recording more attends to. A window of 30 s has 1,504, so it takes 6 recordings."""

AHEAD = 16
"""Steps that may be launched and not done yet: few enough to stop soon, enough to keep the GPU busy."""


def replayed_steps(sequencer: Sequencer, first: int, steps: int) -> Iterator[int]:
    """Runs the steps from `first` to `steps` - 1, yielding each as it was launched (not necessarily done)."""
    device = sequencer.known.device
    positions = max(part.positions for part in sequencer.passes)
    lead = max(part.lead for part in sequencer.passes)
    with torch.cuda.device(device):  # streams, events and graphs belong to the current one
        step = torch.tensor([first], device=device)
        ahead = torch.arange(positions, device=device)
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        pool = torch.cuda.graph_pool_handle()
        graphs: dict[int, torch.cuda.CUDAGraph] = {}
        launched: deque[torch.cuda.Event] = deque()
        try:
            for number in range(first, steps):
                seen = min(-(-(lead + number) // BUCKET) * BUCKET, positions)
                if seen not in graphs:
                    graphs[seen] = _record(sequencer, step, ahead[:seen], side, pool)
                graphs[seen].replay()
                event = torch.cuda.Event()  # type: ignore[no-untyped-call]
                event.record()
                launched.append(event)
                if len(launched) > AHEAD:
                    launched.popleft().synchronize()
                yield number
        finally:
            if launched:
                launched[-1].synchronize()  # a graph that runs must not be destroyed


def _record(
    sequencer: Sequencer, step: Tensor, ahead: Tensor, side: torch.cuda.Stream, pool: Any
) -> torch.cuda.CUDAGraph:
    """A graph of one step, which counts `step` up at its end. The first replay writes what the warm-up wrote.

    step: [1]. ahead: [positions attended to], 0, 1, 2, … side, pool: the stream and the memory of all recordings.
    """
    generators = sequencer.noise.generators if sequencer.noise is not None else []
    states = [generator.get_state() for generator in generators]
    default_state = torch.cuda.get_rng_state()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            sequencer.advance_masked(step, len(ahead), ahead)
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.set_rng_state(default_state)
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state)

    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    # thread_local: what another thread does with the GPU meanwhile (a cell of the notebook) is no error.
    with torch.cuda.graph(graph, pool=pool, stream=side, capture_error_mode="thread_local"):
        sequencer.advance_masked(step, len(ahead), ahead)
        step.add_(1)
    return graph
