"""A piece made section by section: the text changes where a section begins, the tokens go on.

Owns the plan of these windows and the loop over them. As in `windows.py`, each window continues the end of what exists,
so no token has a seam. What differs: a window's new part ends where its section ends, and a little of the section's
own continuation is made beyond, so that a beat near the border can be measured (`seams.py`) from which the next section
goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from harmonia_lab.audio_engines.musicgen.decoder import Decoder, StepView
from harmonia_lab.audio_engines.musicgen.windows import Window, relay_steps

__all__ = ["JoinsSections", "Margins", "SectionWindow", "generate_sections", "margins_of", "plan_section_windows"]

LOOK_S = 1.5
"""Seconds that a section is continued beyond its end: a beat is measured in them, and heard in the crossfade."""


@dataclass(frozen=True)
class Margins:
    """Of a border between sections, in frames.

    look: how far the section before is continued. reach: how far the beat may be away, on either side. overlap: the
    longest crossfade.
    """

    look: int
    reach: int
    overlap: int


@dataclass(frozen=True)
class SectionWindow:
    """section: its number. end: the frame at which the window's new part is to end. border: at which the section does,
    and another one begins; None for the last section."""

    section: int
    end: int
    border: int | None

    @property
    def joins(self) -> bool:
        return self.end == self.border


class JoinsSections(Protocol):
    """What decides where sections meet: `Seams`."""

    margins: Margins

    def begin(self, window: SectionWindow) -> None:
        """A window is made now."""

    def join(self, made: Tensor, border: int) -> int:
        """Return the frame from which on the next section is made.

        made: codes [1, K, T] so far, `margins.look` frames beyond the border.
        """
        ...


def margins_of(window: int, frame_rate: float) -> Margins:
    """Return the margins for a model's window of so many frames, for a usual one 1.5 s, 0.6 s, and 1.12 s.

    So the nearest beat is found from 50 a minute on, and a crossfade lasts a whole beat from 54 on.
    """
    look = min(round(LOOK_S * frame_rate), window // 5)
    return Margins(look, look * 2 // 5, look * 3 // 4)


def plan_section_windows(
    ends: Sequence[int], *, window: int, stride: int, margins: Margins, prompt: int = 0
) -> list[SectionWindow]:
    """Return the windows of a piece whose sections end at these frames; the last end is the piece's.

    A section is made in parts of equal length, none longer than `stride`; the piece's first part may fill the window. A
    section that a prompt of so many frames leaves too little of is left out: the next one begins there.
    """
    room = window - margins.look - margins.reach - margins.overlap - 1
    least = margins.look + margins.reach + margins.overlap
    windows: list[SectionWindow] = []
    at = prompt
    for section, end in enumerate(ends):
        border = end if section < len(ends) - 1 else None
        if end - at <= (least if border is not None else 0):
            continue
        parts = math.ceil((end - at) / min(stride, room)) if at or end > room else 1
        inner = [at + round((end - at) * part / parts) for part in range(1, parts)]
        windows += [SectionWindow(section, each, border) for each in [*inner, end]]
        at = end
    return windows


def generate_sections(
    decoder: Decoder,
    ends: Sequence[int],
    conditions_at: Callable[[int, int], Sequence[Any]],
    seams: JoinsSections,
    *,
    window: int,
    stride: int,
    prompt: Tensor | None = None,
    on_step: Callable[[StepView], None] = lambda _: None,
    **parameters: Any,
) -> Tensor:
    """Return codes [1, K, frames]. parameters: those of `Decoder.generate`.

    ends: the frames at which the sections end, the piece's own at last. conditions_at(start, section) returns the
    conditions of a window that starts at that frame. on_step gets the steps, frames and codes of the whole piece; the
    number of steps is the planned one, since a join moves by some frames.
    """
    margins = seams.margins
    known = prompt.shape[-1] if prompt is not None else 0
    windows = plan_section_windows(ends, window=window, stride=stride, margins=margins, prompt=known)
    piece = prompt
    at, steps = known, []
    for part in windows:
        shape = _shape(part, at, window, stride, margins)
        steps.append(decoder.steps(shape.length, shape.known))
        at = part.end
    for number, part in enumerate(windows):
        seams.begin(part)
        shape = _shape(part, piece.shape[-1] if piece is not None else 0, window, stride, margins)
        relay = relay_steps(on_step, piece, shape, sum(steps[:number]), steps[number], sum(steps))
        codes = decoder.generate(
            piece[..., shape.start :] if piece is not None else None,
            conditions_at(shape.start, part.section),
            max_gen_len=shape.length,
            on_step=relay,
            **parameters,
        )
        made = codes if piece is None else torch.cat((piece, codes[..., shape.known :]), -1)
        piece = made[..., : seams.join(made, part.end)] if part.joins else made
    assert piece is not None
    return piece


def _shape(part: SectionWindow, at: int, window: int, stride: int, margins: Margins) -> Window:
    """Return the window that goes on from frame `at`: of what exists, it knows as much as audiocraft's would."""
    end = part.end + (margins.look if part.joins else 0)
    start = max(0, at - (window - stride), end - window)
    return Window(start, end - start, at - start)
