"""The tempo of audio: the periods of its onsets, and which of the related pulses is the beat.

Owns the meter. It knows nothing of a song but its samples.

Pulses are the peaks of the onsets' spectrum, summed over harmonics. A piece is read in frames of up to 40 s, in each of
which the tempo is taken as constant; their spectra are averaged. Of the pulses, which differ by factors of 2, 3 and
3/2, the one with the highest score is the beat:

- its onsets are all alike, and those of the pulse twice as fast strong and weak in turn, as on and off the beats;
- half of it (bars, or beats two and four) and its double (eighths) are periodic;
- its rate is one that listeners prefer: a normal distribution over the logarithm of the rate, as the resonance of
  R. Parncutt, Music Perception 11/4 (1994), and of L. van Noorden and D. Moelants, J. New Music Research 28/1 (1999).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.audio_engines.listening.onsets import FRAME_RATE, Array, find_onsets

__all__ = ["GRID", "Tempo", "estimate_tempo", "tempo_of"]

GRID = 0.002
"""Relative distance of two tempos that are tried."""

_SLOWEST, _FASTEST = 40.0, 220.0
"""Beats a minute, of the answers."""

_BINS = 1 << 17
"""Of the onsets' spectrum: 0.0008 Hz each."""

_FRAME_S = 40.0
_PULSES = 16
_WIDTH_S = 0.04
_CENTRE = 112.0
"""Longest piece that is read at once; pulses that are compared, by the height of their peaks; how far an onset may lie
from its pulse; the rate (a minute) from which octaves are counted."""

_FLOOR, _DOUBTFUL = 0.08, 2.8
"""Periodicity that is added to the median of all rates, for sounds of few onsets; the ratio of the highest peak to that
sum at which confidence is ½. Sounds without a beat have 1 to 2.3; songs 2.9 and more in 12 s, 7 and more in 30 s
(`benchmarks/songs/meter.py`). Songs of 5 s, of whose tempos half are wrong, have 1.2 to 5."""

_WEIGHTS = {"alike": 1.98, "double alike": -1.93, "double": 4.16, "half": 2.01, "distance": -4.58, "slower": 4.94}
"""Of the logarithms of the values in `_score`. Fitted on 58 songs of the version of 2026-11-27, made with other seeds
than the songs that are measured, and on 37 renderings of clicks and chords at 44 to 205 a minute. With weights fitted
on the other genres alone, each of the 58 is right too."""


class Tempo(NamedTuple):
    """bpm: beats a minute, 40…220; 0 for a sound without onsets. confidence: 0…1, that there is a beat at all.

    other: the next likely tempo, which is often half or double; None without one.
    """

    bpm: float
    confidence: float
    other: float | None


def estimate_tempo(sound: NDArray[np.floating], sample_rate: int) -> float:
    """Return the beats a minute, 40…220, of mono audio; 0 for a sound without onsets."""
    return tempo_of(find_onsets(sound, sample_rate).strength).bpm


def tempo_of(onsets: Array) -> Tempo:
    """Return the tempo of `Onsets.strength`."""
    if not onsets.any():
        return Tempo(0.0, 0.0, None)
    spectrum = _spectrum(onsets)
    pulses, confidence = _pulses(spectrum)
    ranked = sorted(pulses.tolist(), key=lambda pulse: _score(pulse, onsets, spectrum), reverse=True)
    if not ranked:
        return Tempo(0.0, 0.0, None)
    return Tempo(ranked[0], confidence, ranked[1] if len(ranked) > 1 else None)


def _spectrum(onsets: Array) -> Array:
    """Return the periodicity of the onsets at multiples of FRAME_RATE / _BINS Hz; see `_periodicity`."""
    count = max(1, round(len(onsets) / (_FRAME_S * FRAME_RATE)))
    parts = [part for part in np.array_split(onsets, count) if part.any()]
    total = np.zeros(_BINS // 2 + 1)
    for part in parts:
        window = np.hanning(len(part) + 2)[1:-1]
        total += np.abs(np.fft.rfft(part * window, _BINS)) / (part @ window)
    return np.asarray(total / len(parts))


def _pulses(spectrum: Array) -> tuple[Array, float]:
    """Return the rates (a minute) of the highest peaks of the spectrum summed over four harmonics, and confidence."""
    rates = np.exp(np.arange(np.log(_SLOWEST), np.log(_FASTEST) + GRID, GRID))
    comb = np.sum([_periodicity(spectrum, rates * harmonic) / np.sqrt(harmonic) for harmonic in (1, 2, 3, 4)], axis=0)
    before, here, after = comb[:-2], comb[1:-1], comb[2:]
    peaks = np.flatnonzero((here >= before) & (here > after)) + 1
    contrast = float(comb.max() / (np.median(comb) + _FLOOR))
    confidence = 1 / (1 + (_DOUBTFUL / contrast) ** 4) if contrast else 0.0
    return np.asarray(rates[peaks[np.argsort(-comb[peaks])][:_PULSES]]), confidence


def _periodicity(spectrum: Array, rates: Array | float) -> Array:
    """Return the onsets' periodicity at rates a minute: 1 where all onsets are at equal distances, 0 where none are."""
    places = np.asarray(rates) / 60 * _BINS / FRAME_RATE
    low = places.astype(int)
    part = places - low
    return np.asarray(spectrum[low] * (1 - part) + spectrum[low + 1] * part)


def _score(pulse: float, onsets: Array, spectrum: Array) -> float:
    octaves = np.log2(pulse / _CENTRE)
    half, double = (float(np.log(_periodicity(spectrum, pulse * factor) + 0.01)) for factor in (0.5, 2))
    values = {
        "alike": _alike(pulse, onsets),
        "double alike": _alike(2 * pulse, onsets),
        "double": double,
        "half": half,
        "distance": octaves**2,
        "slower": -octaves,
    }
    return float(sum(_WEIGHTS[name] * value for name, value in values.items()))


def _alike(pulse: float, onsets: Array) -> float:
    """Return the logarithm of the ratio of odd and even pulses' onsets: 0 if they are equally strong, else negative."""
    bins = max(12, round(60 / pulse * FRAME_RATE))  # of a pulse
    phases = np.arange(len(onsets)) / FRAME_RATE * pulse / 60 % 2
    places = np.minimum((phases * bins).astype(int), 2 * bins - 1)
    counts = np.bincount(places, minlength=2 * bins)
    profile = np.bincount(places, onsets, minlength=2 * bins) / np.maximum(counts, 1)
    reach = max(1, round(_WIDTH_S * bins * pulse / 60))
    kernel = np.hanning(2 * reach + 3)[1:-1]
    smooth = np.convolve(np.tile(profile, 3), kernel / kernel.sum(), "same")[2 * bins : 4 * bins]
    at = int(np.argmax(smooth[:bins] + smooth[bins:]))
    low, high = sorted((smooth[at], smooth[at + bins]))
    return float(np.log((low + 0.02 * high + 0.01) / (high + 0.01)))
