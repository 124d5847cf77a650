"""Levels of a finished song: loudness, true peak, crest, and how loud one instrument is beside the others.

Owns the meters. They read only audio, the song's and its stems', and so hold for any mixer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyloudnorm
from numpy.typing import NDArray
from scipy.signal import resample_poly

__all__ = ["balance", "loudness", "true_peak"]

Array = NDArray[np.float64]

_SIZE = 8192
"""Samples in a frame, 0.17 s: long beside a mixer's filters, short beside a note."""

_REGULARISATION = 1e-6


def loudness(audio: Array, sample_rate: int) -> float:
    """Return the loudness of audio [channels, samples] in LUFS, after ITU-R BS.1770-4 (by pyloudnorm)."""
    return float(pyloudnorm.Meter(sample_rate).integrated_loudness(audio.T.astype(float)))


def true_peak(audio: Array) -> float:
    """Return the true peak in dBTP, four times oversampled; −∞ for silence."""
    peak = float(np.abs(resample_poly(audio, 4, 1, axis=1)).max())
    return 20 * math.log10(peak) if peak > 0 else -math.inf


def balance(
    song: Array, stems: Mapping[str, Array], name: str, spans: Sequence[tuple[float, float]], sample_rate: int
) -> float | None:
    """Return how much louder one stem is in the song than all others together, in dB, K-weighted, inside `spans`.

    song: [2, samples]. stems: [channels, samples] by name, as rendered, before the mix. spans: (start, end) in seconds.
    None if there is no other stem, or one side is silent there.

    A mixer filters, pans and scales stems: each channel of the song is, in each bin of a short-time spectrum, a linear
    combination of the stems' spectra. Its coefficients are found by least squares over the spans, and a stem's
    contribution is its spectrum times its coefficient. What is no such combination (reverb, limiting) is in the
    residual, and counts for nobody.
    """
    others = [each for each in stems if each != name]
    if name not in stems or not others or not spans:
        return None
    frequencies = np.arange(_SIZE // 2 + 1) * sample_rate / _SIZE
    weights = np.abs(_k_weighting(frequencies.astype(np.float64))) ** 2
    powers = np.zeros(2)
    for channel in range(len(song)):
        starts = _frame_starts(spans, song.shape[1], sample_rate)
        if not len(starts):
            return None
        mixed = _spectra(song[channel], starts)
        tracks = [_channel(stems[each], channel, song.shape[1]) for each in (name, *others)]
        rows = np.stack([_spectra(track, starts) for track in tracks], axis=2)
        gram = np.einsum("tfi,tfj->fij", rows.conj(), rows)
        scale = np.trace(gram, axis1=1, axis2=2).real[:, None, None] * _REGULARISATION + 1e-12
        right = np.einsum("tfi,tf->fi", rows.conj(), mixed)
        gains = np.linalg.solve(gram + scale * np.eye(rows.shape[2]), right[:, :, None])[:, :, 0]
        parts = rows * gains
        powers[0] += np.sum(np.abs(parts[:, :, 0]) ** 2 * weights)
        powers[1] += np.sum(np.abs(parts[:, :, 1:].sum(axis=2)) ** 2 * weights)
    return float(10 * np.log10(powers[0] / powers[1])) if min(powers) > 0 else None


def _channel(stem: Array, channel: int, samples: int) -> Array:
    own = stem[min(channel, len(stem) - 1)]
    return np.pad(own[:samples], (0, max(0, samples - len(own))))


def _frame_starts(spans: Sequence[tuple[float, float]], samples: int, sample_rate: int) -> NDArray[np.int64]:
    """Return the first samples of the frames that lie inside the spans."""
    starts = np.arange(0, samples - _SIZE + 1, _SIZE)
    inside = [(start * sample_rate <= starts) & (starts + _SIZE <= end * sample_rate) for start, end in spans]
    return np.asarray(starts[np.any(inside, axis=0)])


def _spectra(signal: Array, starts: NDArray[np.int64]) -> NDArray[np.complex128]:
    """Return [frames, bins]."""
    frames = np.lib.stride_tricks.sliding_window_view(signal, _SIZE)[starts]
    return np.asarray(np.fft.rfft(frames * np.hanning(_SIZE)))


def _k_weighting(frequencies: Array) -> NDArray[np.complex128]:
    """Return the response of the K filter (BS.1770-4, tables 1 and 2, for 48 kHz) at frequencies in Hz."""
    z = np.exp(-2j * np.pi * np.minimum(frequencies, 24_000.0) / 48_000)
    shelf = np.polyval((1.19839281085285, -2.69169618940638, 1.53512485958697), z) / np.polyval(
        (0.73248077421585, -1.69065929318241, 1.0), z
    )
    high_pass = np.polyval((1.0, -2.0, 1.0), z) / np.polyval((0.99007225036621, -1.99004745483398, 1.0), z)
    return np.asarray(shelf * high_pass)
