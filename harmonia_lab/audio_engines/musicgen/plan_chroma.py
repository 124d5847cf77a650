"""The chroma of a plan: the leading pitch class at each moment, as MusicGen's melody models are conditioned on it.

Owns the step from notes to chroma: of the whole plan for a mix, of one part for its stem. The models' conditioner
computes chroma from a recording, after a source separator removed drums and bass (Copet et al., "Simple and
Controllable Music Generation", 2023, section 2.3). Here it is computed from the plan's notes, with the conditioner's
window. `melody_guidance.py` gives it to a model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.music.plan import Part, Plan
from harmonia_lab.protocol.vocabulary import Role

__all__ = ["plan_chroma"]

_ROLE_POWER: dict[Role, float] = {"lead": 1.0, "mix": 0.5, "chords": 0.2, "pad": 0.2, "bass": 0.0, "drums": 0.0}
"""Power of each role relative to the lead's: the melody dominates, and the chords count where it rests."""

_CHORD_POWER = 1e-3
"""Power of the plan's chords themselves, so low that they count only where no part plays. The root counts twice."""

_FINE = 16
"""Steps per hop, since notes begin between frames."""


def plan_chroma(
    plan: Plan, frames: int, *, hop_s: float, window_s: float, argmax: bool = True, part: Part | None = None
) -> NDArray[np.float32]:
    """Return float32 [frames, 12], C first. Frame t is centred on t · hop_s, with a Hann window of window_s seconds.

    part: the part whose notes alone count, as they do for its stem; the chord, where it rests. None: all parts, by
    their roles.

    argmax: 1 for the strongest pitch class and 0 for the others, as the released models were trained; otherwise each
    frame is scaled to a maximum of 1. The last chord lasts beyond the plan's end, since a model's window may be longer.
    """
    step_s = hop_s / _FINE
    reach = max(1, round(window_s / step_s / 2))
    power = np.zeros((frames * _FINE + 2 * reach, 12))  # from `reach` steps before the first frame on

    def add(start_s: float, end_s: float, pitch_classes: list[int], weight: float) -> None:
        begin, end = (min(len(power), max(0, round(s / step_s) + reach)) for s in (start_s, end_s))
        for pitch_class in pitch_classes:
            power[begin : max(end, begin + 1), pitch_class] += weight

    beat = plan.seconds_per_beat
    for chord in plan.chords:
        end_s = np.inf if chord is plan.chords[-1] else (chord.start + chord.duration) * beat
        last = min(end_s, len(power) * step_s)
        add(chord.start * beat, last, [*chord.pitch_classes, chord.pitch_classes[0]], _CHORD_POWER)
    weights = [(part, 1.0)] if part else [(each, _ROLE_POWER[each.instrument.role]) for each in plan.parts]
    for each, weight in weights:
        for note in each.notes if weight else ():
            start_s = note.start * beat
            add(start_s, start_s + note.duration * beat, [note.pitch % 12], weight * (note.velocity / 127) ** 2)
    window = (
        np.hanning(2 * reach + 1) ** 2
    )  # squared: a spectrogram's window applies to amplitudes, and these are powers
    chroma: NDArray[np.float64] = np.stack(
        [np.convolve(row, window, "valid")[: frames * _FINE : _FINE] for row in power.T], axis=1
    )
    strongest = chroma.max(axis=1, keepdims=True)
    scaled = np.arange(12) == chroma.argmax(axis=1)[:, None] if argmax else chroma / np.maximum(strongest, 1e-12)
    return np.asarray(scaled, np.float32)
