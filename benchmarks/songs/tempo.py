"""The tempo of audio: onsets by band, their periodicities, and which of the related pulses is the beat.

Owns the meter. It knows nothing of a song but its samples; its only prior is the one that listeners have.

Sources. Onsets: spectral flux of compressed magnitudes with a maximum filter, S. Böck and G. Widmer, "Maximum filter
vibrato suppression for onset detection", DAFx (2013). Prior: pulses near 120 a minute are the most salient, D. Moelants,
"Preferred tempo reconsidered", ICMPC (2002); R. Parncutt, Music Perception 11/4 (1994).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["GRID", "estimate_tempo"]

Array = NDArray[np.float64]

SLOWEST, FASTEST = 40.0, 220.0
"""Beats a minute, of the answers."""

GRID = 0.002
"""Relative distance of two tempos that are tried."""

_RATE = 100
"""Onset frames a second."""

_BANDS = 36
_LOW_HZ, _HIGH_HZ = 40.0, 11_000.0
