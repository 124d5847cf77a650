"""Decode steps on a GPU, recorded once per length and replayed: one launch a step in place of some three hundred.

Owns recording, replaying and how far the CPU may run ahead. Sampling is inside the graph, so nothing is read back
between steps. Written for, and not yet measured on, an NVIDIA GPU.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

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
    step = torch.tensor([first], device=device)
    ahead = torch.arange(positions, device=device)
    graphs: dict[int, torch.cuda.CUDAGraph] = {}
    launched: deque[torch.cuda.Event] = deque()
    for number in range(first, steps):
        seen = min(-(-(lead + number) // BUCKET) * BUCKET, positions)
        if seen not in graphs:
            pool = next(iter(graphs.values())).pool() if graphs else None
            graphs[seen] = _record(sequencer, step, seen, ahead[:seen], pool)
        graphs[seen].replay()
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        launched.append(event)
        if len(launched) > AHEAD:
            launched.popleft().synchronize()
        yield number


def _record(sequencer: Sequencer, step: Tensor, seen: int, ahead: Tensor, pool: object) -> torch.cuda.CUDAGraph:
    """A graph of one step, which counts `step` up at its end. The first replay writes what the warm-up wrote."""
    device = step.device
    generators = sequencer.noise.generators if sequencer.noise is not None else []
    states = [generator.get_state() for generator in generators]
    default_state = torch.cuda.get_rng_state(device)
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(2):  # libraries set themselves up in their first calls, which must not be recorded
            sequencer.advance_masked(step, seen, ahead)
    torch.cuda.current_stream(device).wait_stream(side)
    torch.cuda.synchronize(device)
    torch.cuda.set_rng_state(default_state, device)
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state)

    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph, pool=pool):  # type: ignore[arg-type]
        sequencer.advance_masked(step, seen, ahead)
        step.add_(1)
    return graph
