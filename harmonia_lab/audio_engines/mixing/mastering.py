"""From a mix of any level to a master: −14 LUFS, no true peak above −1 dBTP.

Owns the target and the search for the gain that reaches it through the limiter. Measuring is `loudness.py`, the
limiter's curve `limiter.py`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.audio_engines.mixing.limiter import apply_gains, limiting_gains
from harmonia_lab.audio_engines.mixing.loudness import (
    CELL,
    cell_peaks,
    integrated_loudness,
    segment_powers,
    true_peak,
)
from harmonia_lab.engines.base import CancelToken

__all__ = ["TARGET_LUFS", "TRUE_PEAK_DBTP", "Master", "decibels", "master", "ratio"]

TARGET_LUFS = -14.0
"""What streaming services play at."""

TRUE_PEAK_DBTP = -1.0
"""Room for what a lossy codec adds."""

_MARGIN_DB = 0.2  # between meters: near 20 kHz they interpolate differently
_TOLERANCE_LU = 0.2
_MOST_LIMITING_DB = 15.0
"""Beyond that (a lone click), the loudness gives way: the limiter would be all that is heard."""

_MAKE_UP_DB = 1.5  # what limiting usually costs in loudness
_ATTEMPTS, _STEPS = 4, 40


class Master(NamedTuple):
    """audio: float32 [2, samples]. loudness: LUFS; true_peak: dBTP, both measured on `audio` and −∞ for silence.
    gain: dB that the mix got. limiting: the deepest reduction after that, dB."""

    audio: NDArray[np.float32]
    loudness: float
    true_peak: float
    gain: float
    limiting: float


def master(mix: NDArray[np.float32], sample_rate: int, cancel: CancelToken) -> Master:
    """Bring mix [2, samples] to the target loudness under the target peak, by one gain and the limiter.

    The gain is found on an estimate, which is quick; then the result is measured, and what the estimate got wrong is
    corrected. What stays under −70 LUFS throughout is silence to the standard, and is left alone. Raises Cancelled.
    """
    powers = segment_powers(mix, sample_rate, cancel)
    loudness = integrated_loudness(powers)
    if not math.isfinite(loudness):
        return Master(mix, loudness, decibels(true_peak(mix, cancel)), 0.0, 0.0)
    aim, ceiling, gain = TARGET_LUFS, TRUE_PEAK_DBTP - _MARGIN_DB, TARGET_LUFS - loudness
    # Between the samples, only what may get over the ceiling is looked at; further gain makes that more.
    highest = gain + _MAKE_UP_DB
    peaks = cell_peaks(mix, ratio(ceiling - highest), cancel)
    most = ceiling - decibels(float(peaks.max())) + _MOST_LIMITING_DB
    estimate = _Estimate(powers, peaks, sample_rate)
    out = np.empty_like(mix)
    for _ in range(_ATTEMPTS):
        gain, gains = estimate.solve(min(gain, most), most, aim, ceiling, cancel)
        if gain > highest:
            highest = gain + _MAKE_UP_DB
            estimate = _Estimate(powers, cell_peaks(mix, ratio(ceiling - highest), cancel), sample_rate)
            gain, gains = estimate.solve(gain, most, aim, ceiling, cancel)
        apply_gains(mix, ratio(gain), gains, out, cancel)
        reached = integrated_loudness(segment_powers(out, sample_rate, cancel))
        peak = decibels(true_peak(out, cancel))
        if peak <= TRUE_PEAK_DBTP and (abs(TARGET_LUFS - reached) <= _TOLERANCE_LU or gain >= most):
            break
        aim += TARGET_LUFS - reached
        ceiling -= max(0.0, peak - TRUE_PEAK_DBTP)
    else:
        lower = min(0.0, TRUE_PEAK_DBTP - peak)  # the peak is a promise, the loudness an aim
        out *= np.float32(ratio(lower))
        peak, reached = peak + lower, reached + lower
    return Master(out, reached, peak, gain, abs(decibels(float(gains.min()))))


class _Estimate:
    """How loud a mix gets behind the limiter, without touching its audio.

    powers: of its 100 ms segments. peaks: of its cells; what the limiter takes from a segment's power is estimated from
    the squared peaks of its cells.
    """

    def __init__(self, powers: NDArray[np.float64], peaks: NDArray[np.float32], sample_rate: int) -> None:
        self._powers, self._peaks, self._sample_rate = powers, peaks, sample_rate
        self._squares = peaks.astype(np.float64) ** 2 + 1e-30
        self._borders = np.minimum(np.arange(len(powers)) * sample_rate // 10 // CELL, len(peaks) - 1)
        self._whole = np.add.reduceat(self._squares, self._borders)

    def solve(
        self, gain: float, most: float, aim: float, ceiling: float, cancel: CancelToken
    ) -> tuple[float, NDArray[np.float32]]:
        """The gain (dB, at most `most`) that brings the limited mix to `aim` LUFS, and the limiter's gains then."""
        for _ in range(_STEPS):
            cancel.raise_if_cancelled()
            gains = limiting_gains(self._peaks * np.float32(ratio(gain)), ratio(ceiling), self._sample_rate)
            kept = np.add.reduceat(self._squares * gains[:-1].astype(np.float64) ** 2, self._borders) / self._whole
            lacking = aim - integrated_loudness(self._powers * kept * ratio(gain) ** 2)
            if abs(lacking) < 0.01 or (lacking > 0 and gain >= most):
                break
            gain = min(gain + lacking, most)
        return gain, gains


def ratio(decibels: float) -> float:
    """Of amplitudes."""
    return float(10 ** (decibels / 20))


def decibels(ratio: float) -> float:
    """Of an amplitude against full scale; −∞ for 0."""
    return 20 * math.log10(ratio) if ratio > 0 else -math.inf
