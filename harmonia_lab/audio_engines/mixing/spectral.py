"""Filters for long signals in the frequency domain, by overlap-save frames.

Owns the frames and the filters' responses. It uses numpy alone, because `import scipy.signal` takes 0.7 s of CPU, more
than mixing a song of 30 s.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.engines.base import CancelToken

__all__ = ["Framing", "bell", "frame_frequencies", "high_pass", "keep_freed_memory", "low_pass", "low_shelf"]

_HISTORY, _HOP, _LOOKAHEAD = (4, 45, 1)
"""In 1/25 s: 0.16 s before, 1.8 s kept, 0.04 s after. A frame lasts 2 s at every sample rate, so that bin k is always
at k/2 Hz. A 28 Hz high-pass decays to −170 dB within the history; the lookahead covers the resampler's ringing."""


class Framing(NamedTuple):
    """Lengths, in samples, of an overlap-save frame: after a circular convolution only `hop` of them are valid."""

    history: int
    hop: int
    lookahead: int

    @classmethod
    def at(cls, sample_rate: int) -> Framing:
        """Return frames of 2 s. sample_rate: a multiple of 25 Hz, as all usual ones are."""
        unit = sample_rate // 25
        return cls(_HISTORY * unit, _HOP * unit, _LOOKAHEAD * unit)

    @property
    def size(self) -> int:
        return self.history + self.hop + self.lookahead

    def count(self, samples: int) -> int:
        """Return the number of frames that cover `samples`."""
        return -(-samples // self.hop)

    def cut(self, audio: NDArray[np.float32], index: int, out: NDArray[np.float32]) -> None:
        """Copy frame `index` of audio [channels, samples] to out [channels, size], zeros where there is no audio."""
        start = index * self.hop - self.history
        first, last = max(0, start), min(audio.shape[1], start + self.size)
        out[:] = 0
        if last > first:
            out[:, first - start : last - start] = audio[:, first:last]

    def frames(self, audio: NDArray[np.float32], cancel: CancelToken) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield each frame of audio [channels, samples], after the index in `audio` of its first kept sample.

        The next frame overwrites the one before. Raises Cancelled.
        """
        frame = np.empty((audio.shape[0], self.size), np.float32)
        for index in range(self.count(audio.shape[1])):
            cancel.raise_if_cancelled()
            self.cut(audio, index, frame)
            yield index * self.hop, frame

    @property
    def kept(self) -> slice:
        """The valid samples of a filtered frame."""
        return slice(self.history, self.history + self.hop)


def frame_frequencies(sample_rate: int) -> NDArray[np.float64]:
    """Return the frequency of each bin of a 2 s frame: 0 … sample_rate/2 Hz."""
    return np.arange(Framing.at(sample_rate).size // 2 + 1) / 2


def high_pass(frequencies: NDArray[np.float64], cutoff: float) -> NDArray[np.complex128]:
    """Return the response of a second-order Butterworth high-pass: −3 dB at `cutoff` Hz, 12 dB an octave below."""
    s = 1j * frequencies / cutoff
    return np.asarray(s * s / (s * s + math.sqrt(2) * s + 1))


def low_pass(frequencies: NDArray[np.float64], cutoff: float) -> NDArray[np.complex128]:
    """Return the response of a second-order Butterworth low-pass: −3 dB at `cutoff` Hz, 12 dB an octave above."""
    s = 1j * frequencies / cutoff
    return np.asarray(1 / (s * s + math.sqrt(2) * s + 1))


def bell(frequencies: NDArray[np.float64], centre: float, gain_db: float, q: float) -> NDArray[np.complex128]:
    """Return the response of a peaking filter, `gain_db` at `centre` Hz (R. Bristow-Johnson, Audio EQ Cookbook)."""
    s = 1j * frequencies / centre
    a = 10 ** (gain_db / 40)
    return np.asarray((s * s + s * a / q + 1) / (s * s + s / (a * q) + 1))


def low_shelf(frequencies: NDArray[np.float64], corner: float, gain_db: float) -> NDArray[np.complex128]:
    """Return the response of a shelf: `gain_db` well below `corner` Hz, half of it there (Audio EQ Cookbook, S = 1)."""
    s = 1j * frequencies / corner
    a = 10 ** (gain_db / 40)
    root = math.sqrt(2 * a)
    return np.asarray(a * (s * s + root * s + a) / (a * s * s + root * s + 1))


def keep_freed_memory() -> None:
    """Make glibc reuse the memory of freed arrays; otherwise page faults cost twice as much time as the FFTs.

    glibc maps each block above a threshold (128 KiB at first) anew, and every new page faults. Freeing a mapped block
    raises the threshold to that block's size (mallopt(3), M_MMAP_THRESHOLD). The block freed here is never written to
    and so costs nothing. On other allocators this has no effect.
    """
    np.empty(24 * 2**20, np.uint8)
