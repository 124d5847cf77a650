"""Chroma (pitch-class energy) as MusicGen's melody conditioner computes it, without librosa and torchaudio.

Owns the two pieces that audiocraft takes from those packages: a filter bank and a power spectrogram. Not the chroma of
a plan (`plan_chroma.py`), nor how a chroma guides a model (`melody_guidance.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Spectrogram", "chroma_filters"]


def chroma_filters(*, sr: float, n_fft: int, tuning: float = 0.0, n_chroma: int = 12) -> NDArray[np.float32]:
    """Return weights [n_chroma, 1 + n_fft // 2] from FFT bins to pitch classes, C first: `librosa.filters.chroma`'s.

    sr: Hz. tuning: fractions of a chroma bin off A = 440 Hz. Each FFT bin's weights are Gaussian, in octaves, around
    every octave of a pitch class and as wide as the bin; they have unit length over the pitch classes, then fall off
    with the distance from the fifth octave (Gaussian, two octaves wide). After Ellis, "Chroma Feature Analysis and
    Synthesis", 2007.
    """
    lowest_a = 440.0 * 2.0 ** (tuning / n_chroma) / 16  # Hz
    position = n_chroma * np.log2(np.arange(1, n_fft) * sr / n_fft / lowest_a)  # in chroma bins
    # librosa's place for 0 Hz, which has no logarithm: 1.5 octaves below bin 1, and as wide.
    position = np.concatenate(([position[0] - 1.5 * n_chroma], position))
    width = np.concatenate((np.maximum(np.diff(position), 1.0), [1.0]))
    half = round(n_chroma / 2)
    distance = np.remainder(position - np.arange(n_chroma)[:, None] + half + 10 * n_chroma, n_chroma) - half
    weights = np.exp(-0.5 * (2 * distance / width) ** 2)
    weights /= np.maximum(np.linalg.norm(weights, axis=0), np.finfo(np.float64).tiny)
    weights *= np.exp(-0.5 * ((position / n_chroma - 5.0) / 2.0) ** 2)
    weights = np.roll(weights, -3 * (n_chroma // 12), axis=0)  # from A first to C first
    return np.ascontiguousarray(weights[:, : 1 + n_fft // 2], dtype=np.float32)


class Spectrogram(torch.nn.Module):
    """`torchaudio.transforms.Spectrogram` with the options that audiocraft gives it: normalised power, centred frames.

    [..., samples] → [..., 1 + n_fft // 2, frames]. `_options` is ignored: audiocraft's are constants.
    """

    window: torch.Tensor

    def __init__(self, n_fft: int, win_length: int, hop_length: int, **_options: Any) -> None:
        super().__init__()
        self.n_fft, self.win_length, self.hop_length = n_fft, win_length, hop_length
        self.register_buffer("window", torch.hann_window(win_length))

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        spectrum = torch.stft(
            samples.reshape(-1, samples.shape[-1]),
            self.n_fft,
            self.hop_length,
            self.win_length,
            self.window,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )
        spectrum = spectrum.reshape(*samples.shape[:-1], *spectrum.shape[-2:])
        return (spectrum / self.window.square().sum().sqrt()).abs().pow(2.0)
