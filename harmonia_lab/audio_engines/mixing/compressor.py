"""The bus compressor: lowers the loud moments of a whole mix, with a soft knee, an attack and a release.

Owns the curve, its smoothing and its application (not the settings of each genre, which are in `presets.py`, nor the
limiter, which is in `limiter.py`).

After D. Giannoulis, M. Massberg and J. D. Reiss, "Digital dynamic range compressor design – a tutorial and analysis",
J. Audio Eng. Soc. 60 (6), 2012: feed-forward, in decibels, a level detector before the gain computer, and a branching
smoother after it (their section 2.3). Level and gain are those of blocks of a millisecond, which is short against every
attack, so that 30 s of song need 30,000 steps of the smoother and not 1.4 million.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.audio_engines.mixing.limiter import apply_gains
from harmonia_lab.audio_engines.mixing.loudness import CELL
from harmonia_lab.engines.base import CancelToken

__all__ = ["Compression", "compress", "reduce"]

_STEP = 3 * CELL
"""Samples in a block that has one level: a millisecond at 48 kHz."""

_GATE_DB = 20.0
"""Blocks that are softer than the mean by more than this don't count in the level that thresholds refer to."""


class Compression(NamedTuple):
    """threshold: dB above the mix's own mean level (RMS), so that it doesn't depend on how hot the mix is.

    ratio: dB in for 1 dB out above the threshold, at least 1. knee: dB, width of the bend around the threshold.
    attack, release: seconds in which 63 % of a rise or a fall of the reduction happen.
    """

    threshold: float
    ratio: float
    knee: float
    attack: float
    release: float


def compress(
    audio: NDArray[np.float32], settings: Compression, sample_rate: int, cancel: CancelToken
) -> NDArray[np.float64]:
    """Compress audio [channels, samples] in place. Return the reduction (dB, 0 or more) in each block of a millisecond.

    Silence stays silence. Raises Cancelled.
    """
    powers = _block_powers(audio, cancel)
    mean = float(powers.mean()) if len(powers) else 0.0
    if mean <= 0:
        return np.zeros(len(powers))
    loud = powers[powers > mean * 10 ** (-_GATE_DB / 10)]
    over = 10 * np.log10(powers / loud.mean() + 1e-12) - settings.threshold
    reduction = _smoothed(_curve(over, settings), settings, _STEP / sample_rate)
    reduce(audio, reduction, cancel)
    return reduction


def reduce(audio: NDArray[np.float32], reduction: NDArray[np.float64], cancel: CancelToken) -> None:
    """Lower audio [channels, samples] in place by what `compress` returned, for it or for a part of its sum."""
    gains = np.concatenate([np.ones(1), 10 ** (reduction / -20)]).astype(np.float32)
    apply_gains(audio, 1.0, gains, audio, cancel, cell=_STEP)


def _block_powers(audio: NDArray[np.float32], cancel: CancelToken) -> NDArray[np.float64]:
    """Return the mean square of each block of `_STEP` samples over all channels; the last one may be shorter."""
    channels, samples = audio.shape
    powers = np.zeros(-(-samples // _STEP))
    whole = samples // _STEP
    stride = 8192
    for first in range(0, whole, stride):
        cancel.raise_if_cancelled()
        last = min(first + stride, whole)
        block = audio[:, first * _STEP : last * _STEP].reshape(channels, last - first, _STEP)
        powers[first:last] = np.square(block).sum(axis=(0, 2))
    if whole < len(powers):
        powers[whole] = np.square(audio[:, whole * _STEP :]).sum() * (_STEP / (samples - whole * _STEP))
    powers /= channels * _STEP
    return powers


def _curve(over: NDArray[np.float64], settings: Compression) -> NDArray[np.float64]:
    """Return the reduction for levels `over` the threshold, dB (the paper's equation 4, as input minus output)."""
    slope = 1 - 1 / settings.ratio
    half = settings.knee / 2
    bend = np.square(np.clip(over + half, 0, settings.knee)) / max(2 * settings.knee, 1e-9)
    return np.asarray(slope * np.where(over > half, over, bend))


def _smoothed(reduction: NDArray[np.float64], settings: Compression, step_s: float) -> NDArray[np.float64]:
    """Return the reduction after attack and release: a one-pole filter whose time depends on the direction."""
    attack, release = (1 - math.exp(-step_s / seconds) for seconds in (settings.attack, settings.release))
    state = 0.0
    smooth = []
    for wanted in reduction.tolist():
        state += (attack if wanted > state else release) * (wanted - state)
        smooth.append(state)
    return np.array(smooth)
