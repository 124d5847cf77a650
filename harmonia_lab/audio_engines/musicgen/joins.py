"""Where two sections of a piece meet: on a measured beat, in a crossfade of equal power. And how the piece ends.

Owns the choice of the beat, the crossfade and the fade-out, on samples alone. `section_windows.py` makes the tokens of
both sections, `seams.py` their sound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.audio_engines.listening import measure_beats
from harmonia_lab.engines.base import CancelToken

__all__ = ["SectionJoin", "crossfade", "ends_by_itself", "fade_out", "find_join"]

OVERLAP_S = 1.0
"""Length of the crossfade where no beat is clear."""

END_S, QUIET_DB = 0.25, -30.0
"""A piece ends by itself if its last quarter of a second is so far below the RMS of the whole."""


@dataclass(frozen=True)
class SectionJoin:
    """All in seconds of the piece. planned: the border in the plan. at: from where on the later section is alone.

    overlap: length of the crossfade, which ends at `at`. bpm: as measured in the sound before; None if no beat was
    clear there, or none was near the border: then `at` is `planned`, and `overlap` OVERLAP_S.
    """

    planned: float
    at: float
    overlap: float
    bpm: float | None

    def to_json(self) -> dict[str, Any]:
        return {
            "plannedSeconds": round(self.planned, 3),
            "seconds": round(self.at, 3),
            "overlapSeconds": round(self.overlap, 3),
            "measuredBpm": self.bpm,
            "on": "a measured beat" if self.bpm is not None else "the planned border: no beat is clear here",
        }


def find_join(
    sound: NDArray[np.float32],
    sample_rate: int,
    *,
    begins: float,
    border: float,
    reach: float,
    longest: float,
    cancel: CancelToken | None = None,
) -> SectionJoin:
    """Return where the section before gives way: at the measured beat that is nearest to the border.

    sound: [channels, samples], of the section before and a little of what it would go on with. begins: second of the
    piece at which it begins. border: as planned. reach: seconds that the beat may be away from it. longest: seconds of
    a crossfade; else it lasts from the beat before to that beat. Raises Cancelled.
    """
    bpm, beats = measure_beats(sound, sample_rate, cancel)
    beats = beats + begins
    near = beats[np.abs(beats - border) <= reach]
    if bpm is None or not len(near):
        return SectionJoin(border, border, min(OVERLAP_S, longest), None)
    at = float(near[np.argmin(np.abs(near - border))])
    period = 60 / bpm
    earlier = beats[(beats <= at - 0.7 * period) & (beats >= at - 1.4 * period)]
    overlap = at - float(earlier[-1]) if len(earlier) else period
    return SectionJoin(border, at, min(overlap, longest), bpm)


def crossfade(old: NDArray[np.float32], new: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `old` [channels, samples] giving way to `new`, of the same shape, at the same power all along.

    The gains are cos and sin. Two sounds that are alike, as continuations of one past are at first, would add up to
    more: their sum has the power cos² + sin² + 2 · r · cos · sin, r their correlation, which the result is divided by.
    """
    phase = np.linspace(0, np.pi / 2, old.shape[-1])
    out, into = np.cos(phase), np.sin(phase)
    power = float(np.sqrt(np.sum(old**2, dtype=np.float64) * np.sum(new**2, dtype=np.float64)))
    alike = max(0.0, float(np.sum(old * new, dtype=np.float64)) / power) if power else 0.0
    return np.asarray((old * out + new * into) / np.sqrt(1 + 2 * alike * out * into), np.float32)


def ends_by_itself(audio: NDArray[np.float32], sample_rate: int) -> bool:
    """Return whether a piece, [channels, samples], is quiet at its end; see QUIET_DB."""
    end = audio[:, -max(1, round(END_S * sample_rate)) :]
    whole, last = (float(np.mean(each**2, dtype=np.float64)) for each in (audio, end))
    return last <= whole * 10 ** (QUIET_DB / 10)


def fade_out(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `audio` [channels, samples] faded to silence over its length, by half a cosine."""
    gain = 0.5 * (1 + np.cos(np.linspace(0, np.pi, audio.shape[-1])))
    return np.asarray(audio * gain, np.float32)
