"""The key of audio: a chroma of spectral peaks, compared with key profiles that the composer doesn't use.

Owns the meter. It knows nothing of a song but its samples.

Sources. Chroma: the harmonic pitch class profile of E. Gómez, "Tonal description of polyphonic audio for music content
processing", INFORMS Journal on Computing 18/3 (2006): spectral peaks, tuning, frames of equal weight. Its sum over the
notes of which a peak may be a harmonic is left out: it moves chords with sevenths towards the key a fifth below.
Profiles: D. Temperley, "Music and Probability" (2007), table 6.1, from the Kostka-Payne corpus; J. Albrecht and
D. Shanahan, "The use of large corpora to train a new type of key-finding algorithm", Music Perception 31/1 (2013). The
composer's own test of a clear key uses Krumhansl's probe-tone ratings (1990).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.audio_engines.listening.onsets import Array

__all__ = ["PROFILES", "Chroma", "MeasuredKey", "chroma", "estimate_key", "find_chroma", "key_of"]

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

_HOP_S = 0.085
"""Seconds between two frames of chroma."""

_WINDOW_S = 0.34
_LOWEST, _HIGHEST = 100.0, 5000.0
"""Hz, of the peaks. Below, a semitone is narrower than the window's resolution."""

_FLOOR = 1e-3
"""Peaks below this ratio of the frame's highest are left out: −60 dB."""

_DOUBTFUL_FIT, _FIT_WIDTH, _CLEAR_LEAD, _CLEAR_CONTRAST = 0.71, 0.03, 0.1, 0.35
"""The correlation at which its part of the confidence is ½, and its logistic's width; the least lead over the next key,
and the least standard deviation of the mean chroma over its mean, that are no reason for doubt. Noise, random notes and
syllables correlate by up to 0.70, songs by 0.78 and more (`benchmarks/songs/meter.py`)."""

_BLOCK = 32  # frames; their spectra fit into the cache


class Chroma(NamedTuple):
    """frames: [frames, 12], strength of each pitch class, C first; a frame's highest is 1, a silent frame is 0.

    tuning: of the sound against A = 440 Hz, in semitones, −½…½.
    """

    frames: Array
    tuning: float

    @property
    def mean(self) -> Array:
        """[12]; zeros for silence."""
        return np.asarray(self.frames.mean(axis=0) if len(self.frames) else np.zeros(12))


class MeasuredKey(NamedTuple):
    """tonic: pitch class 0…11. mode: "major" or "minor". confidence: 0…1, that there is this key."""

    tonic: int
    mode: str
    confidence: float


def estimate_key(sound: NDArray[np.floating], sample_rate: int) -> tuple[int, str]:
    """Return the key of mono audio, −1…1: (tonic as pitch class 0…11, "major" | "minor")."""
    return key_of(chroma(sound, sample_rate))[:2]


def chroma(sound: NDArray[np.floating], sample_rate: int) -> Array:
    """Return the mean strength of each pitch class [12], C first; zeros for silence. Tuning is found from the sound."""
    return find_chroma(sound, sample_rate).mean


def key_of(profile: Array) -> MeasuredKey:
    """Return the key whose profile, averaged over `PROFILES`, has the highest correlation with a chroma [12].

    Confidence: the product of three parts, each 1 where it is high enough: the correlation, how far it lies above the
    next key's, and how much the pitch classes differ in strength at all.
    """
    spread = profile.std()
    if not spread:
        return MeasuredKey(0, "major", 0.0)
    plain = (profile - profile.mean()) / spread
    fits = (_TEMPLATES @ plain) / 12  # [24], means of two correlations
    first, second = np.argsort(-fits, kind="stable")[:2]
    mode, tonic = divmod(int(first), 12)
    fit = 1 / (1 + np.exp((_DOUBTFUL_FIT - fits[first]) / _FIT_WIDTH))
    lead = (1 + min(1.0, (fits[first] - fits[second]) / _CLEAR_LEAD)) / 2
    contrast = min(1.0, spread / profile.mean() / _CLEAR_CONTRAST)
    return MeasuredKey(tonic, ("major", "minor")[mode], float(fit * lead * contrast))


def _templates() -> Array:
    """Return each key's standardised profile, averaged over `PROFILES`: [24, 12], major first."""
    rows = []
    for mode in (0, 1):
        for tonic in range(12):
            pairs = [np.roll(pair[mode], tonic) for pair in PROFILES.values()]
            rows.append(np.mean([(pair - pair.mean()) / pair.std() for pair in pairs], axis=0))
    return np.array(rows)


_TEMPLATES = _templates()


def find_chroma(sound: NDArray[np.floating], sample_rate: int, poll: Callable[[], None] = lambda: None) -> Chroma:
    """Return the chroma of mono audio, −1…1, frame by frame. poll: called some times a second of sound; may raise."""
    count = len(range(0, len(sound), round(_HOP_S * sample_rate)))
    frames, frequencies, strengths = _peaks(sound, sample_rate, poll)
    if not len(frequencies):
        return Chroma(np.zeros((count, 12)), 0.0)
    pitches = 69 + 12 * np.log2(frequencies / 440)
    tuning = float(np.angle(np.sum(strengths * np.exp(2j * np.pi * pitches))) / (2 * np.pi))
    nearest = np.round(pitches - tuning)
    # A peak between two semitones counts for neither: cos² over 2/3 of a semitone to each side.
    weight = np.cos(np.pi / 2 * np.minimum(np.abs(pitches - tuning - nearest) / (2 / 3), 1)) ** 2
    places = frames * 12 + nearest.astype(int) % 12
    total = np.bincount(places, strengths * weight, minlength=count * 12).reshape(count, 12)
    loudest = total.max(axis=1, keepdims=True)
    return Chroma(np.asarray(total / np.where(loudest > 0, loudest, 1)), tuning)


def _peaks(
    sound: NDArray[np.floating], sample_rate: int, poll: Callable[[], None]
) -> tuple[NDArray[np.int64], Array, Array]:
    """Return frame number, frequency (Hz) and amplitude of each spectral peak, by parabolic interpolation in dB."""
    size = 2 ** round(np.log2(_WINDOW_S * sample_rate))
    hop = round(_HOP_S * sample_rate)
    padded = np.pad(np.asarray(sound, np.float32), (size // 2, size))
    starts = np.arange(0, len(sound), hop)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)
    window = np.hanning(size).astype(np.float32)
    low, high = round(_LOWEST * size / sample_rate), round(_HIGHEST * size / sample_rate)
    found = [(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))]
    for first in range(0, len(starts), _BLOCK):
        poll()
        spectra = np.abs(np.fft.rfft(frames[starts[first : first + _BLOCK]] * window))[:, : high + 2]
        floor = spectra.max(axis=1, keepdims=True) * np.float32(_FLOOR)
        before, here, after = spectra[:, low - 1 : -2], spectra[:, low:-1], spectra[:, low + 1 :]
        at = np.nonzero((here > before) & (here >= after) & (here > floor))
        a, b, c = (np.log(each[at].astype(np.float64) + 1e-12) for each in (before, here, after))
        shift = 0.5 * (a - c) / np.minimum(a - 2 * b + c, -1e-9)
        found.append((first + at[0], (at[1] + low + shift) * sample_rate / size, np.exp(b - 0.25 * (a - c) * shift)))
    numbers, frequencies, strengths = map(np.concatenate, zip(*found, strict=True))
    audible = strengths > 1e-3 * size / 100  # silence has no key
    return numbers[audible], frequencies[audible], strengths[audible]
