"""The key of audio: a chroma of spectral peaks, compared with key profiles that the composer doesn't use.

Owns the meter. It knows nothing of a song but its samples.

Sources. Chroma: the harmonic pitch class profile of E. Gómez, "Tonal description of polyphonic audio for music content
processing", INFORMS Journal on Computing 18/3 (2006): spectral peaks, tuning, frames of equal weight. Its sum over the
notes of which a peak may be a harmonic is left out: it moves chords with sevenths towards the key a fifth below.
Profiles: D. Temperley, "Music and
Probability" (2007), table 6.1, from the Kostka-Payne corpus; J. Albrecht and D. Shanahan, "The use of large corpora to
train a new type of key-finding algorithm", Music Perception 31/1 (2013). The composer's own test of a clear key uses
Krumhansl's probe-tone ratings (1990).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["PROFILES", "chroma", "estimate_key", "key_of"]

Array = NDArray[np.float64]

PROFILES = {
    "Temperley 2007": (
        (0.748, 0.060, 0.488, 0.082, 0.670, 0.460, 0.096, 0.715, 0.104, 0.366, 0.057, 0.400),
        (0.712, 0.084, 0.474, 0.618, 0.049, 0.460, 0.105, 0.747, 0.404, 0.067, 0.133, 0.330),
    ),
    "Albrecht & Shanahan 2013": (
        (0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081),
        (0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052),
    ),
}
"""Name → (major, minor), each from the tonic upwards in semitones."""

_WINDOW_S, _HOP_S = 0.34, 0.085
_LOWEST, _HIGHEST = 100.0, 5000.0
"""Hz, of the peaks. Below, a semitone is narrower than the window's resolution."""

_FLOOR = 1e-3
"""Peaks below this ratio of the frame's highest are left out: −60 dB."""


def estimate_key(sound: Array, sample_rate: int) -> tuple[int, str]:
    """Return the key of mono audio, −1…1: (tonic as pitch class 0…11, "major" | "minor")."""
    return key_of(chroma(sound, sample_rate))


def key_of(profile: Array) -> tuple[int, str]:
    """Return the key whose profile, averaged over `PROFILES`, has the highest correlation with a chroma [12]."""
    fits = {
        (tonic, mode): sum(np.corrcoef(profile, np.roll(pair[index], tonic))[0, 1] for pair in PROFILES.values())
        for tonic in range(12)
        for index, mode in enumerate(("major", "minor"))
    }
    return max(fits, key=lambda key: fits[key])


def chroma(sound: Array, sample_rate: int) -> Array:
    """Return the mean strength of each pitch class [12], C first; zeros for silence. Tuning is found from the sound."""
    frames, frequencies, strengths = _peaks(sound, sample_rate)
    if not len(frequencies):
        return np.zeros(12)
    pitches = 69 + 12 * np.log2(frequencies / 440)
    tuning = np.angle(np.sum(strengths * np.exp(2j * np.pi * pitches))) / (2 * np.pi)  # semitones, −½…½
    total = np.zeros((frames.max() + 1, 12))
    nearest = np.round(pitches - tuning)
    # A peak between two semitones counts for neither: cos² over 2/3 of a semitone to each side.
    weight = np.cos(np.pi / 2 * np.minimum(np.abs(pitches - tuning - nearest) / (2 / 3), 1)) ** 2
    np.add.at(total, (frames, nearest.astype(int) % 12), strengths * weight)
    loudest = total.max(axis=1, keepdims=True)
    return np.asarray((total / np.where(loudest > 0, loudest, 1)).mean(axis=0))


def _peaks(sound: Array, sample_rate: int) -> tuple[NDArray[np.int64], Array, Array]:
    """Return frame number, frequency (Hz) and amplitude of each spectral peak, by parabolic interpolation in dB."""
    size = 2 ** round(np.log2(_WINDOW_S * sample_rate))
    hop = round(_HOP_S * sample_rate)
    padded = np.pad(np.asarray(sound, float), (size // 2, size))
    starts = np.arange(0, len(sound), hop)
    window = np.hanning(size)
    low, high = round(_LOWEST * size / sample_rate), round(_HIGHEST * size / sample_rate)
    found = []
    for number, start in enumerate(starts):
        level = np.log(np.abs(np.fft.rfft(padded[start : start + size] * window))[: high + 2] + 1e-12)
        before, here, after = level[:-2], level[1:-1], level[2:]
        at = np.flatnonzero((here > before) & (here >= after) & (here > level.max() + np.log(_FLOOR)))
        at = at[at + 1 >= low]
        a, b, c = before[at], here[at], after[at]
        shift = 0.5 * (a - c) / np.minimum(a - 2 * b + c, -1e-9)
        found.append(
            (np.full(len(at), number), (at + 1 + shift) * sample_rate / size, np.exp(b - 0.25 * (a - c) * shift))
        )
    frames, frequencies, strengths = map(np.concatenate, zip(*found, strict=True))
    audible = strengths > 1e-3 * size / 100  # silence has no key
    return frames[audible], frequencies[audible], strengths[audible]
