"""Pieces longer than the model's window (30 s): windows that overlap, each going on from the end of the one before.

Owns the windows' plan, progress over all of them, and their joining. audiocraft does the same inside
`MusicGen._generate_tokens`, where progress passes its total.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harmonia_lab.audio_engines.musicgen.decoder import Decoder, StepView
from harmonia_lab.errors import InvalidRequest

__all__ = ["Window", "generate_windows", "plan_windows"]


@dataclass(frozen=True)
class Window:
    """Frames. start: in the piece. length: of the window, known frames included. known: at its start."""

    start: int
    length: int
    known: int


def plan_windows(frames: int, *, window: int, stride: int, prompt: int = 0) -> list[Window]:
    """frames: of the whole piece, the prompt's included. stride: how far each window is from the next.

    As audiocraft plans them. Of a prompt as long as a window or longer, which it refuses, the last window - stride
    frames are used.
    """
    if not 0 < stride < window:
        raise InvalidRequest(f"A stride of {stride} frames does not fit a window of {window}.")
    if prompt >= frames:
        raise InvalidRequest(f"A prompt of {prompt} frames leaves nothing to do in {frames}.")
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
    on_step: Callable[[StepView], None] | None = None,
    **parameters: Any,
) -> Tensor:
    """Codes [B, K, frames]. parameters: those of `Decoder.generate`.

    conditions_at(start): the conditions for the window that starts at that frame (a text is always the same, a melody
    goes on). on_step sees steps, frames and codes of the whole piece.
    """
    piece = prompt
    windows = plan_windows(frames, window=window, stride=stride, prompt=prompt.shape[-1] if prompt is not None else 0)
    steps = [decoder.steps(part.length, part.known) for part in windows]
    for number, part in enumerate(windows):
        relay = _relay(on_step, piece, part, sum(steps[:number]), sum(steps)) if on_step is not None else None
        known = piece[..., part.start :] if piece is not None else None
        codes = decoder.generate(known, conditions_at(part.start), max_gen_len=part.length, on_step=relay, **parameters)
        piece = codes if piece is None else torch.cat((piece, codes[..., part.known :]), -1)
    assert piece is not None
    return piece


def _relay(
    on_step: Callable[[StepView], None], piece: Tensor | None, part: Window, before: int, total: int
) -> Callable[[StepView], None]:
    """From the window's steps to the piece's."""

    def relay(view: StepView) -> None:
        def codes(start: int, stop: int) -> Tensor:
            inside = view.codes(max(0, start - part.start), stop - part.start)
            if start >= part.start or piece is None:
                return inside
            return torch.cat((piece[..., start : min(stop, part.start)], inside), -1)

        on_step(StepView(before + view.done, total, part.start + view.frames, codes))

    return relay
