"""The beats of audio: at which seconds a listener taps, given the tempo.

Owns the search, after D. P. W. Ellis, "Beat Tracking by Dynamic Programming", J. New Music Research 36/1 (2007): the
sequence of times whose onsets are strongest and whose distances are nearest to a beat of the tempo. It knows nothing
of a song but its onsets.
"""

from __future__ import annotations

import numpy as np

from harmonia_lab.audio_engines.listening.onsets import FRAME_RATE, Array

__all__ = ["find_beats"]

_TIGHTNESS = 100.0
"""Cost of a distance, times the square of the logarithm of its ratio to a beat: Ellis's α, with librosa's value."""

_SMOOTHING = 32
"""Onsets are smoothed by a Gaussian whose standard deviation is a beat over this number (as in librosa)."""

_SILENCE = 0.5
"""The first and the last beats are left out while their strength is below this share of the beats' RMS."""

_LATENCY_S = 0.01
"""By how much an onset lies after the frame that shows it, whose window reaches 21 ms ahead; measured on clicks."""


def find_beats(onsets: Array, bpm: float) -> Array:
    """Return the beats' seconds, in order. onsets: `Onsets.strength`. bpm: of the whole sound."""
    if bpm <= 0 or not onsets.any():
        return np.zeros(0)
    period = 60 * FRAME_RATE / bpm  # frames of a beat
    width = np.arange(-round(period), round(period) + 1)
    kernel = np.exp(-0.5 * (width * _SMOOTHING / period) ** 2)
    local = np.convolve(onsets, kernel, "full")[len(width) // 2 :][: len(onsets)]
    total, before = _best_paths(local, period)
    beats = _path(total, before, period)
    strong = local[beats] >= _SILENCE * np.sqrt(np.mean(local[beats] ** 2)) if len(beats) else np.zeros(0, bool)
    kept = np.flatnonzero(strong)
    if not len(kept):
        return np.zeros(0)
    return np.asarray(beats[kept[0] : kept[-1] + 1] / FRAME_RATE + _LATENCY_S)


def _best_paths(local: Array, period: float) -> tuple[Array, np.ndarray]:
    """Return for each frame the score of the best sequence that ends there, and the beat before it, −1 for none.

    A block of half a beat is computed at once, since no frame's predecessor lies in it.
    """
    nearest, farthest = max(1, round(period / 2)), max(2, round(2 * period))
    distances = np.arange(farthest, nearest - 1, -1)
    cost = -_TIGHTNESS * np.log(distances / period) ** 2
    count = len(local)
    total = np.concatenate([np.zeros(farthest), local])
    before = np.full(count, -1)
    for first in range(0, count, nearest):
        rows = min(nearest, count - first)
        # Row r has the totals of the frames `farthest` … `nearest` before frame first + r.
        window = np.lib.stride_tricks.sliding_window_view(
            total[first : first + rows + len(distances) - 1], len(distances)
        )
        scores = window + cost
        best = scores.argmax(axis=1)
        value = scores[np.arange(rows), best]
        frames = np.arange(first, first + rows)
        total[farthest + frames] += value
        before[frames] = frames - distances[best]
    return total[farthest:], before


def _path(total: Array, before: np.ndarray, period: float) -> np.ndarray:
    """Return the frames of the best sequence whose last beat lies in the sound's last beat and a half."""
    tail = max(0, len(total) - round(1.5 * period))
    at = tail + int(np.argmax(total[tail:]))
    found = []
    while at >= 0:
        found.append(at)
        at = int(before[at])
    return np.array(found[::-1])
