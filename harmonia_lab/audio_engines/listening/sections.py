"""The sections of audio: where its sound changes, and stays changed.

Owns the search, after J. Foote, "Automatic audio segmentation using a measure of audio novelty", IEEE International
Conference on Multimedia and Expo (2000): a kernel like a chessboard is moved along the diagonal of the matrix of all
moments' similarities, and is highest where what comes resembles itself and not what was. It names no sections, since
no meter here hears which one is a chorus. It hears what plays and how loud, and not the harmony: a border at which the
same instruments go on as before is missed, and with chroma beside the bands more borders were wrong.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.audio_engines.listening.onsets import FRAME_RATE, Array

__all__ = ["find_sections"]

_STEP = FRAME_RATE // 2
"""Frames of a moment: half a second."""

_REACH = 12
"""Moments before and after a border that are compared (6 s); the kernel is tapered by a Gaussian, as Foote's."""

_SHORTEST = 8
_LEAST = 0.12
"""Least length of a section in moments (4 s), and least novelty of a border, on the scale of `_novelty`. Chosen with
the kernel on 45 songs, of 3.8 sections in 30 s, other ones than those that `benchmarks/songs/meter.py` makes."""

_STILL, _EVEN = 0.2, 4.0
"""Standard deviation of a band, in the natural logarithm, at which it counts half; root mean square of a moment's bands
below which the sound is even. Less of both finds more borders (F 0.71 instead of 0.68), also in noise and in clicks."""


def find_sections(levels: NDArray[np.float32]) -> list[float]:
    """Return the seconds at which sections begin, 0 first. levels: `Onsets.levels`."""
    count = len(levels) // _STEP
    found = [0]
    if count >= 2 * _SHORTEST:
        novelty = _novelty(_features(levels, count))
        free = np.zeros(count, bool)
        free[_SHORTEST : count - _SHORTEST + 1] = True
        for at in np.argsort(-novelty, kind="stable").tolist():
            if novelty[at] < _LEAST:
                break
            if free[at]:
                found.append(at)
                free[max(0, at - _SHORTEST + 1) : at + _SHORTEST] = False
    return [at * _STEP / FRAME_RATE for at in sorted(found)]


def _features(levels: NDArray[np.float32], count: int) -> Array:
    """Return each moment's bands [count, bands], alike in spread, so that the mean square of a moment is at most 1."""
    means = levels[: count * _STEP].reshape(count, _STEP, -1).mean(axis=1, dtype=np.float64)
    even = (means - means.mean(axis=0)) / (means.std(axis=0) + _STILL)
    size = np.sqrt((even**2).sum(axis=1).mean())
    return np.asarray(even / max(float(size), _EVEN))


def _novelty(features: Array) -> Array:
    """Return for each moment how much a section seems to begin there: 1 where two kinds of moments meet, else less.

    With weights that are a product of two vectors, the sum of the kernel over similarities is the squared distance of
    the weighted means before and after.
    """
    count = len(features)
    weights = np.exp(-0.5 * (2 * (np.arange(_REACH) + 0.5) / _REACH) ** 2)
    novelty = np.zeros(count)
    for at in range(1, count):
        before, after = features[max(0, at - _REACH) : at][::-1], features[at : at + _REACH]
        first, second = (weights[: len(part)] @ part / weights[: len(part)].sum() for part in (before, after))
        novelty[at] = ((first - second) ** 2).sum() / 4
    return novelty
