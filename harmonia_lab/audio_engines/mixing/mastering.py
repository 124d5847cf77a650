"""Mastering: bring a mix of any level to −14 LUFS, with no true peak above −1 dBTP.

Owns the target and the search for the gain that reaches it through the limiter (not the measurements, which are in
`loudness.py`, nor the limiter's curve, which is in `limiter.py`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.audio_engines.mixing.limiter import apply_gains, limiting_gains
from harmonia_lab.audio_engines.mixing.loudness import CELL, cell_peaks, integrated_loudness, segment_powers, true_peak
from harmonia_lab.engines.base import CancelToken

__all__ = ["Master", "master", "ratio"]

_TARGET_LUFS = -14.0
"""The loudness to which streaming services normalise."""

_TRUE_PEAK_DBTP = -1.0
"""Headroom for the overshoot of lossy codecs."""

_MARGIN_DB = 0.2  # meters differ, because they interpolate differently near 20 kHz
_TOLERANCE_LU = 0.2
_MAX_LIMITING_DB = 15.0
"""A mix that would need more (a lone click) stays below the target, since such a limiter would be audible."""

_MAKE_UP_DB = 1.5  # the loudness that limiting usually takes
_DENSE_CREST_DB, _UNSEEN_LOSS_LU = 10.0, 0.2
"""A limiter that brings the crest below this works all the time, and takes that much more than is estimated."""

_ATTEMPTS, _STEPS = 4, 40


class Master(NamedTuple):
    """audio: float32 [2, samples]. loudness: LUFS, and true_peak: dBTP, both measured on `audio`; −∞ for silence.

    gain: dB, applied before the limiter. limiting: the limiter's deepest reduction, dB.
    """

    audio: NDArray[np.float32]
    loudness: float
    true_peak: float
    gain: float
    limiting: float


def master(
    mix: NDArray[np.float32],
    sample_rate: int,
    cancel: CancelToken,
    *,
    crest: float = math.inf,
    powers: NDArray[np.float64] | None = None,
) -> Master:
    """Bring mix [2, samples] to the target loudness and peak, by one gain and the limiter.

    crest: dB, the most by which the true peak should exceed the target loudness; from 13 on, −1 dBTP is the ceiling.
    powers: of `segment_powers` of the mix, if the caller has them, or nearly these.

    The gain is found on a quick estimate; the result is measured, and the estimate's target corrected by the error. A
    mix that never exceeds −70 LUFS is silence by the standard, and is returned unchanged. Raises Cancelled.
    """
    powers = segment_powers(mix, sample_rate, cancel) if powers is None else powers
    loudness = integrated_loudness(powers)
    if not math.isfinite(loudness):
        return Master(mix, loudness, _decibels(true_peak(mix, cancel)), 0.0, 0.0)
    gain = _TARGET_LUFS - loudness
    aim = _TARGET_LUFS + (_UNSEEN_LOSS_LU if crest < _DENSE_CREST_DB else 0.0)
    ceiling = min(_TRUE_PEAK_DBTP, _TARGET_LUFS + crest) - _MARGIN_DB
    # Intersample peaks are only measured where a gain of up to `highest` may lift them over the ceiling.
    make_up = _MAKE_UP_DB + max(0.0, _DENSE_CREST_DB - crest) / 2
    highest = gain + make_up
    peaks = cell_peaks(mix, ratio(ceiling - highest), cancel)
    most = ceiling - _decibels(float(peaks.max())) + _MAX_LIMITING_DB
    estimate = _Estimate(powers, peaks, sample_rate)
    out = np.empty_like(mix)
    for _ in range(_ATTEMPTS):
        gain, gains = estimate.solve(min(gain, most), most, aim, ceiling, cancel)
        if gain > highest:
            highest = gain + make_up
            estimate = _Estimate(powers, cell_peaks(mix, ratio(ceiling - highest), cancel), sample_rate)
            gain, gains = estimate.solve(gain, most, aim, ceiling, cancel)
        apply_gains(mix, ratio(gain), gains, out, cancel)
        reached = integrated_loudness(segment_powers(out, sample_rate, cancel))
        peak = _decibels(true_peak(out, cancel))
        if peak <= _TRUE_PEAK_DBTP and (abs(_TARGET_LUFS - reached) <= _TOLERANCE_LU or gain >= most):
            break
        aim += _TARGET_LUFS - reached
        ceiling -= max(0.0, peak - _TRUE_PEAK_DBTP)
    else:
        lower = min(0.0, _TRUE_PEAK_DBTP - peak)  # the peak must be kept, the loudness may be missed
        out *= np.float32(ratio(lower))
        peak, reached = peak + lower, reached + lower
    return Master(out, reached, peak, gain, abs(_decibels(float(gains.min()))))


class _Estimate:
    """An estimate of a mix's loudness after the limiter, without processing its audio.

    powers: of `segment_powers`. peaks: of `cell_peaks`. The power that the limiter takes from a segment is estimated
    from the squared peaks of its cells.
    """

    def __init__(self, powers: NDArray[np.float64], peaks: NDArray[np.float32], sample_rate: int) -> None:
        self._powers, self._peaks, self._sample_rate = powers, peaks, sample_rate
        self._squares = peaks.astype(np.float64) ** 2 + 1e-30
        self._borders = np.minimum(np.arange(len(powers)) * sample_rate // 10 // CELL, len(peaks) - 1)
        self._whole = np.add.reduceat(self._squares, self._borders)

    def solve(
        self, gain: float, most: float, aim: float, ceiling: float, cancel: CancelToken
    ) -> tuple[float, NDArray[np.float32]]:
        """Return the gain (dB, at most `most`) that brings the limited mix to `aim` LUFS, and the limiter's gains."""
        for _ in range(_STEPS):
            cancel.raise_if_cancelled()
            gains = limiting_gains(self._peaks * np.float32(ratio(gain)), ratio(ceiling), self._sample_rate)
            kept = np.add.reduceat(self._squares * gains[:-1].astype(np.float64) ** 2, self._borders) / self._whole
            missing = aim - integrated_loudness(self._powers * kept * ratio(gain) ** 2)
            if abs(missing) < 0.01 or (missing > 0 and gain >= most):
                break
            gain = min(gain + missing, most)
        return gain, gains


def ratio(decibels: float) -> float:
    """Return decibels as a ratio of amplitudes."""
    return float(10 ** (decibels / 20))


def _decibels(ratio: float) -> float:
    """Return a ratio of amplitudes as decibels; −∞ for 0."""
    return 20 * math.log10(ratio) if ratio > 0 else -math.inf
