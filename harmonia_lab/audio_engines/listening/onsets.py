"""Onsets: how strongly something begins at each moment of a sound.

Owns the spectrogram in bands of equal width on a logarithmic scale, and the spectral flux of its compressed magnitudes
with a maximum filter (S. Böck and G. Widmer, "Maximum filter vibrato suppression for onset detection", DAFx 2013).
`tempo.py` and `beats.py` find periods in them, `sections.py` uses the bands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["FRAME_RATE", "Array", "Onsets", "find_onsets"]

Array: TypeAlias = NDArray[np.float64]

FRAME_RATE = 100
"""Frames a second. Frame t is centred on second t / FRAME_RATE."""

_WINDOW_S = 0.043
_BANDS, _LOWEST, _HIGHEST = 40, 40.0, 11_000.0  # Hz
_COMPRESSION = 1000.0
_LOCAL = 100
"""Frames over which the mean onset is taken, and subtracted."""

_STILL = 0.4
"""Standard deviation of the bands' flux up to which nothing begins: a held chord has 0.16, songs 2.8 to 6.4."""

_BLOCK = 256  # frames; their spectra fit into the cache


class Onsets(NamedTuple):
    """strength: [frames], of onsets over the local mean, in standard deviations; zeros where nothing begins.

    levels: float32 [frames, bands], ln(1 + 1000 · magnitude): the spectrogram that the onsets are in.
    """

    strength: Array
    levels: NDArray[np.float32]


def find_onsets(sound: NDArray[np.floating], sample_rate: int, poll: Callable[[], None] = lambda: None) -> Onsets:
    """Return the onsets of mono audio, −1…1. sample_rate: Hz. poll: called some times a second of sound; may raise."""
    size = 2 ** round(np.log2(_WINDOW_S * sample_rate))
    padded = np.pad(np.asarray(sound, np.float32), (size // 2, size))
    window = np.hanning(size).astype(np.float32)
    count = len(sound) * FRAME_RATE // sample_rate
    starts = np.round(np.arange(count) * sample_rate / FRAME_RATE).astype(int)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)
    filters = _filters(size, sample_rate)
    levels = np.empty((count, _BANDS), np.float32)
    for first in range(0, count, _BLOCK):
        poll()
        spectra = np.abs(np.fft.rfft(frames[starts[first : first + _BLOCK]] * window))
        levels[first : first + _BLOCK] = np.log1p(spectra @ filters * np.float32(_COMPRESSION / size))
    return Onsets(_strength(levels), levels)


def _strength(levels: NDArray[np.float32]) -> Array:
    """Return by how much the bands rise above what they and their neighbours were two frames before."""
    if len(levels) < 3:
        return np.zeros(len(levels))
    widened = np.maximum(levels, np.maximum(np.roll(levels, 1, axis=1), np.roll(levels, -1, axis=1)))
    flux = np.pad(np.maximum(0, levels[2:] - widened[:-2]).sum(axis=1, dtype=np.float64), 1)
    local = np.convolve(flux, np.ones(_LOCAL) / _LOCAL, "full")[(_LOCAL - 1) // 2 :][: len(flux)]
    flux = np.maximum(0, flux - local)
    spread = float(flux.std())
    return np.asarray(flux / spread if spread > _STILL else np.zeros_like(flux))


def _filters(size: int, sample_rate: int) -> NDArray[np.float32]:
    """Return triangular filters [bins, bands], equally wide on a logarithmic scale, each with the sum 1."""
    edges = np.geomspace(_LOWEST, min(_HIGHEST, sample_rate / 2), _BANDS + 2)
    frequencies = np.fft.rfftfreq(size, 1 / sample_rate)[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    filters = np.clip(np.minimum((frequencies - low) / (middle - low), (high - frequencies) / (high - middle)), 0, None)
    for band in np.flatnonzero(filters.sum(axis=0) == 0):  # narrower than a bin
        filters[np.argmin(np.abs(frequencies[:, 0] - middle[band])), band] = 1
    return np.asarray(filters / filters.sum(axis=0), np.float32)
