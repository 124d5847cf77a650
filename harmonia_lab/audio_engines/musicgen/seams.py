"""The seams between the sections of one piece, while it is made: where they are, and how they sound.

Owns how far a piece is settled, the search for a beat near each border, and what the record says of the joins. The
tokens come from `section_windows.py`, the beat and the crossfade are `joins.py`'s, the sound is a `StemSound`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from harmonia_lab.audio_engines.musicgen.joins import SectionJoin, find_join
from harmonia_lab.audio_engines.musicgen.stem_sound import PIECE, StemSound
from harmonia_lab.engines.base import CancelToken

if TYPE_CHECKING:
    from torch import Tensor

    from harmonia_lab.audio_engines.musicgen.section_windows import Margins, SectionWindow

__all__ = ["Seams"]

LISTEN_S = 24.0
"""Seconds before a border in which its beat is measured: enough for a clear tempo, and little of an earlier one."""

_LOOK_AHEAD = 4
"""Frames that EnCodec's decoder looks ahead; what is decoded last lacks them."""


class Seams:
    """settled: frames of the piece that no join can change any more. joins: those that were made, in order.

    listened_s: seconds of computing that they took, for decoding and measuring.
    """

    def __init__(self, sound: StemSound, margins: Margins, frame_rate: float, frames: int, cancel: CancelToken) -> None:
        self._sound, self.margins, self._frame_rate, self._cancel = sound, margins, frame_rate, cancel
        self._frames = self.settled = frames
        self.joins: list[SectionJoin] = []
        self.listened_s = 0.0

    def begin(self, window: SectionWindow) -> None:
        """Settle as much as the end of this window's section leaves to itself."""
        before = self.margins.reach + self.margins.overlap
        self.settled = window.border - before if window.border is not None else self._frames

    def join(self, made: Tensor, border: int) -> int:
        """Return the frame from which on the next section is made, and begin the crossfade there.

        made: codes [1, K, T] of the piece so far, with the section's own continuation beyond the border.
        """
        began = time.perf_counter()
        sound, rate, margins = self._sound, self._frame_rate, self.margins
        ahead = sound.preview_of(made[..., sound.frames :], self._cancel.raise_if_cancelled)
        begins, before = sound.recent(LISTEN_S)
        found = find_join(
            np.concatenate([before, ahead], axis=1),
            sound.sample_rate,
            begins=begins,
            border=border / rate,
            reach=margins.reach / rate,
            longest=margins.overlap / rate,
            cancel=self._cancel,
        )
        until = round(found.at * rate)
        begin = max(sound.frames, until - max(1, round(found.overlap * rate)))
        self._push(made[..., :begin])
        old = sound.preview_of(made[..., begin : until + _LOOK_AHEAD], self._cancel.raise_if_cancelled)
        sound.begin_crossfade(old, until)
        self.joins.append(found)
        self.listened_s += time.perf_counter() - began
        return begin

    def _push(self, codes: Tensor) -> None:
        while self._sound.frames < codes.shape[-1]:
            self._cancel.raise_if_cancelled()
            self._sound.push(codes[..., self._sound.frames : self._sound.frames + PIECE], last=False)
