"""A plan as clicks and chords: what a meter can hear of tempo and key where nothing else distracts it.

Owns the rendering: a click on every beat, and each chord's tones from its start to its end. A meter's result on it is
the ceiling for its results on songs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["click_and_chords"]

_CLICK_HZ, _CLICK_S = 1500.0, 0.02
_ROOT = 48  # MIDI, C3: roots lie in the octave from here, the other tones in the one above
_PARTIALS = 5
_ATTACK_S, _RELEASE_S = 0.02, 0.05


def click_and_chords(plan: Mapping[str, Any], sample_rate: int) -> NDArray[np.float64]:
    """Return mono audio of the plan's length, −1…1. plan: as `plan.json` has it."""
    audio = np.zeros(round(plan["seconds"] * sample_rate))
    beat_s = 60 / plan["bpm"]
    time = np.arange(round(_CLICK_S * sample_rate)) / sample_rate
    click = 0.5 * np.sin(2 * np.pi * _CLICK_HZ * time) * np.exp(-time / (_CLICK_S / 4))
    for beat in range(int(plan["seconds"] / beat_s) + 1):
        _add(audio, click, beat * beat_s, sample_rate)
    for chord in plan["chords"]:
        classes = chord["pitch_classes"]
        tone = _tones(
            [_ROOT + classes[0], *(_ROOT + 12 + each for each in classes)], chord["duration"] * beat_s, sample_rate
        )
        _add(audio, tone, chord["start"] * beat_s, sample_rate)
    return audio


def _tones(pitches: list[int], seconds: float, sample_rate: int) -> NDArray[np.float64]:
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    sound = np.zeros_like(time)
    for pitch in pitches:
        frequency = 440 * 2 ** ((pitch - 69) / 12)
        for partial in range(1, _PARTIALS + 1):
            sound += np.sin(2 * np.pi * frequency * partial * time) / partial**1.5
    envelope = np.minimum(1, np.minimum(time / _ATTACK_S, (seconds - time) / _RELEASE_S))
    return np.asarray(0.25 * sound * envelope / len(pitches))


def _add(audio: NDArray[np.float64], sound: NDArray[np.float64], start_s: float, sample_rate: int) -> None:
    start = round(start_s * sample_rate)
    part = sound[: max(0, len(audio) - start)]
    audio[start : start + len(part)] += part
