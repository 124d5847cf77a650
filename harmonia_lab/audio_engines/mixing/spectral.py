"""Filtering long signals in the frequency domain, frame by frame (overlap-save), and the filters' responses.

Owns frames and analogue filter shapes. It uses numpy alone: `import scipy.signal` takes 0.7 s of CPU, more than mixing
a song of 30 s does.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Framing", "bell", "frame_frequencies", "high_pass", "keep_freed_memory", "low_pass"]

_HISTORY, _HOP, _LOOKAHEAD = (4, 45, 1)
"""In 1/25 s: 0.16 s before, 1.8 s kept, 0.04 s after; a frame lasts 2 s at every rate, so that bin k is k/2 Hz at every
rate. The history holds the tail of a 28 Hz high-pass to −170 dB, the lookahead what a resampler's edge rings."""


class Framing(NamedTuple):
    """Samples of one overlap-save frame: `hop` of them are good after a circular convolution, the rest is context."""

    history: int
    hop: int
    lookahead: int

    @classmethod
    def at(cls, sample_rate: int) -> Framing:
        """Frames of 2 s. sample_rate: Hz, a multiple of 25 (every rate in use is one)."""
        if sample_rate <= 0 or sample_rate % 25:
            raise ValueError(f"{sample_rate} Hz is no multiple of 25 Hz")
        unit = sample_rate // 25
        return cls(_HISTORY * unit, _HOP * unit, _LOOKAHEAD * unit)

    @property
    def size(self) -> int:
        return self.history + self.hop + self.lookahead

    def count(self, samples: int) -> int:
        """How many frames cover `samples`."""
        return -(-samples // self.hop)

    def cut(self, audio: NDArray[np.float32], index: int, out: NDArray[np.float32]) -> None:
        """Frame `index` of audio [channels, samples] into out [channels, size]; zeros where there is no audio."""
        start = index * self.hop - self.history
        first, last = max(0, start), min(audio.shape[1], start + self.size)
        out[:] = 0
        if last > first:
            out[:, first - start : last - start] = audio[:, first:last]

    @property
    def kept(self) -> slice:
        """The good samples of a filtered frame."""
        return slice(self.history, self.history + self.hop)


def frame_frequencies(sample_rate: int) -> NDArray[np.float64]:
    """Hz of each bin of a 2 s frame, 0 … sample_rate/2."""
    return np.arange(Framing.at(sample_rate).size // 2 + 1) / 2


def high_pass(frequencies: NDArray[np.float64], cutoff: float) -> NDArray[np.complex128]:
    """Butterworth of second order: −3 dB at `cutoff` Hz, 12 dB an octave below."""
    s = 1j * frequencies / cutoff
    return np.asarray(s * s / (s * s + math.sqrt(2) * s + 1))


def low_pass(frequencies: NDArray[np.float64], cutoff: float) -> NDArray[np.complex128]:
    """Butterworth of second order: −3 dB at `cutoff` Hz, 12 dB an octave above."""
    s = 1j * frequencies / cutoff
    return np.asarray(1 / (s * s + math.sqrt(2) * s + 1))


def bell(frequencies: NDArray[np.float64], centre: float, gain_db: float, q: float) -> NDArray[np.complex128]:
    """A peak (or dip) of `gain_db` at `centre` Hz; the analogue prototype of R. Bristow-Johnson's Audio EQ Cookbook."""
    s = 1j * frequencies / centre
    a = 10 ** (gain_db / 40)
    return np.asarray((s * s + s * a / q + 1) / (s * s + s / (a * q) + 1))


def keep_freed_memory() -> None:
    """Spare the page faults of every middle-sized array: on glibc they cost twice what the transforms do.

    glibc maps a block above its threshold (128 KiB at first) afresh at each allocation, and every fresh page faults.
    Freeing one mapped block raises the threshold to that block's size (mallopt(3), M_MMAP_THRESHOLD); this one is never
    written to, so it costs nothing. Other allocators ignore it.
    """
    np.empty(24 * 2**20, np.uint8)
