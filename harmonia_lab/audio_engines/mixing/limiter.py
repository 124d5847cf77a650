"""The look-ahead limiter: a gain that keeps every peak under a ceiling and changes too slowly to be heard.

Owns the gain's curve, and the application of a gain that changes, the compressor's too (not the peaks, which
`loudness.cell_peaks` measures, nor the loudness of the result, which is in `mastering.py`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.audio_engines.mixing.loudness import BLOCK, CELL
from harmonia_lab.engines.base import CancelToken

__all__ = ["apply_gains", "limiting_gains"]

_ATTACK_S = 0.004
"""The gain starts to fall this long before a peak: long enough to avoid a click, short enough to be masked by it."""

_RELEASES = ((1.0, 120.0), (0.5, 30.0))
"""How the gain recovers: (share of the reduction, dB a second). The whole of it recovers quickly, so that a drum hit
doesn't lower the band after it; half of it recovers slowly, so that low notes aren't distorted within their period."""


def limiting_gains(peaks: NDArray[np.float32], ceiling: float, sample_rate: int) -> NDArray[np.float32]:
    """Return gains (0…1) at the cells' borders, [cells + 1], that keep `peaks` [cells] at or under `ceiling`.

    Between two borders the gain is linear. Both borders of a cell are low enough for its peak, and so is the line.
    """
    if float(peaks.max()) <= ceiling:
        return np.ones(len(peaks) + 1, np.float32)
    reduction = 20 * np.log10(np.maximum(peaks.astype(np.float64) / ceiling, 1.0))  # dB, [cells]
    # With the slope `rate · time` added, a linear decay is constant, and the decaying maximum a running maximum.
    time = np.arange(len(reduction)) * (CELL / sample_rate)
    reduction = np.maximum.reduce(
        [np.maximum.accumulate(share * reduction + rate * time) - rate * time for share, rate in _RELEASES]
    )
    reach = max(1, round(_ATTACK_S * sample_rate / CELL / 2))
    # The maximum is held for the length of the smoothing kernel, and one cell more because of the linear gain, so that
    # the smoothed reduction is nowhere less than the peaks there need.
    padded = np.pad(reduction, 2 * reach + 1, mode="edge")
    held = _running_maximum(padded, 2 * reach + 2)  # [cells + 1 + 2 · reach]: border i is at i + reach
    kernel = np.hanning(2 * reach + 3)[1:-1]
    smooth = np.zeros(len(reduction) + 1)
    for tap, weight in enumerate(kernel / kernel.sum()):
        smooth += weight * held[tap : tap + len(smooth)]
    return np.asarray(10 ** (smooth / -20), np.float32)


def apply_gains(
    audio: NDArray[np.float32],
    gain: float,
    gains: NDArray[np.float32],
    out: NDArray[np.float32],
    cancel: CancelToken,
    cell: int = CELL,
) -> None:
    """Write audio · gain · `gains` (at the borders of cells of `cell` samples, interpolated) to `out`.

    audio and out: [channels, samples], and may be the same array.
    """
    ramp = np.arange(cell, dtype=np.float32) / cell
    for first in range(0, len(gains) - 1, BLOCK):
        cancel.raise_if_cancelled()
        ends = gains[first : first + BLOCK + 1] * np.float32(gain)
        line = (ends[:-1, None] + np.diff(ends)[:, None] * ramp).reshape(-1)
        where = slice(first * cell, min((first + BLOCK) * cell, audio.shape[1]))
        np.multiply(audio[:, where], line[: where.stop - where.start], out=out[:, where])


def _running_maximum(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return the maximum of each `window` neighbours, [len − window + 1], in log2(window) passes."""
    width = 1
    while width < window:
        step = min(width, window - width)
        values = np.maximum(values[:-step], values[step:])
        width += step
    return values
