"""Pieces longer than the model's window (30 s): overlapping windows, each of which continues the one before.

Owns the plan of the windows, the progress over all of them, and their joining. audiocraft does the same inside
`MusicGen._generate_tokens`, whose progress runs beyond its total. Windows that follow a plan's sections are made by
`section_windows.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harmonia_lab.audio_engines.musicgen.decoder import Decoder, StepView
from harmonia_lab.errors import InvalidRequest

__all__ = ["Window", "generate_windows", "plan_windows", "relay_steps"]


@dataclass(frozen=True)
class Window:
    """All in frames. start: in the piece. length: of the window. known: those at its start that exist already."""

    start: int
    length: int
    known: int


def plan_windows(frames: int, *, window: int, stride: int, prompt: int = 0) -> list[Window]:
    """Return the windows of a piece, as audiocraft plans them. Raise InvalidRequest if stride or prompt don't fit.

    frames: of the piece, the prompt's included. stride: the distance between the starts of two windows. If a prompt is
    as long as a window or longer, which audiocraft refuses, the first window begins with its last window - stride
    frames.
    """
    if not 0 < stride < window:
        raise InvalidRequest(f"A stride of {stride} frames does not fit a window of {window}.")
    if prompt >= frames:
        raise InvalidRequest(f"The prompt has {prompt} frames, but the piece is to have only {frames}.")
    start = 0 if prompt < window else prompt - (window - stride)
    windows = []
    known = prompt - start
    while True:
        length = min(frames - start, window)
        windows.append(Window(start, length, known))
        if start + length >= frames:
            return windows
        start, known = start + stride, length - stride


def generate_windows(
    decoder: Decoder,
    conditions_at: Callable[[int], Sequence[Any]],
    *,
    frames: int,
    window: int,
    stride: int,
    prompt: Tensor | None = None,
    on_step: Callable[[StepView], None] = lambda _: None,
    **parameters: Any,
) -> Tensor:
    """Return codes [B, K, frames]. parameters: those of `Decoder.generate`.

    conditions_at(start) returns the conditions of the window that starts at that frame: the text is always the same,
    but a melody goes on. on_step gets the steps, frames and codes of the whole piece.
    """
    piece = prompt
    windows = plan_windows(frames, window=window, stride=stride, prompt=prompt.shape[-1] if prompt is not None else 0)
    steps = [decoder.steps(part.length, part.known) for part in windows]
    for number, part in enumerate(windows):
        relay = relay_steps(on_step, piece, part, sum(steps[:number]), steps[number], sum(steps))
        known = piece[..., part.start :] if piece is not None else None
        codes = decoder.generate(known, conditions_at(part.start), max_gen_len=part.length, on_step=relay, **parameters)
        piece = codes if piece is None else torch.cat((piece, codes[..., part.known :]), -1)
    assert piece is not None
    return piece


def relay_steps(
    on_step: Callable[[StepView], None], piece: Tensor | None, part: Window, before: int, share: int, total: int
) -> Callable[[StepView], None]:
    """Return a callback that turns a step of the window into a step of the piece.

    piece: the codes so far. before: the steps of earlier windows. share: those of this one, as they were planned.
    total: the steps of all windows.
    """

    def relay(view: StepView) -> None:
        def codes(start: int, stop: int) -> Tensor:
            if piece is not None and stop <= part.start:
                return piece[..., start:stop]
            inside = view.codes(max(0, start - part.start), stop - part.start)
            if start >= part.start or piece is None:
                return inside
            return torch.cat((piece[..., start : min(stop, part.start)], inside), -1)

        done = before + view.done * share // view.total
        on_step(StepView(done, total, part.start + view.frames, codes))

    return relay
