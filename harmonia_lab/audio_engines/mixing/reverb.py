"""The reverb that all instruments share: a synthetic impulse response, and its convolution with a long signal.

Owns the impulse response (not the level at which each instrument is sent to it, which is in `mixdown.py`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.audio_engines.mixing.spectral import Framing, bell, high_pass, low_pass
from harmonia_lab.engines.base import CancelToken

__all__ = ["add_reverb", "impulse_response"]

_SEED = 1961  # after M. R. Schroeder, "Natural sounding artificial reverberation" (1961): reverb is decaying noise
_PREDELAY_S = 0.018
_LENGTH_S = 1.6
_DECAY_S = {250: 1.7, 1000: 1.5, 2500: 1.2, 6000: 0.8}
"""Reverberation time (to −60 dB, seconds) in the band around each of these Hz: air and fabrics absorb high ones."""

_REFLECTIONS = ((0.007, 0.5, 0.2), (0.013, 0.2, 0.45), (0.023, 0.35, 0.15), (0.029, 0.1, 0.35), (0.041, 0.2, 0.25))
"""Early reflections: seconds after the predelay, level left, level right (relative to the start of the noise)."""


def impulse_response(sample_rate: int) -> NDArray[np.float32]:
    """Return [2, samples], 1.6 s, always the same, left and right independent; mean level 0 dB from 250 Hz to 4 kHz."""
    samples = round(_LENGTH_S * sample_rate)
    time = np.arange(samples) / sample_rate
    noise = np.random.default_rng(_SEED).standard_normal((2, samples))
    spectrum = np.fft.rfft(noise)
    frequencies = np.arange(samples // 2 + 1) * sample_rate / samples
    octave = np.log2(np.maximum(frequencies, 1.0))
    tail = np.zeros_like(noise)
    centres = np.log2(list(_DECAY_S))
    for band, decay in enumerate(_DECAY_S.values()):
        # Triangles over log frequency that add up to one, so that neighbouring bands cross-fade.
        share = np.interp(octave, centres, np.eye(len(centres))[band])
        tail += np.fft.irfft(spectrum * share, samples) * 10 ** (-3 * time / decay)
    tail *= 1 - np.exp(-time / 0.012)  # reverb builds up before it decays
    for delay, left, right in _REFLECTIONS:
        tail[:, round(delay * sample_rate)] += 6 * np.array([left, right])
    shape = high_pass(frequencies, 220) * low_pass(frequencies, 6500) * bell(frequencies, 2800, -2, 0.8)
    response = np.fft.irfft(np.fft.rfft(tail) * shape, samples)
    response = np.roll(response, round(_PREDELAY_S * sample_rate), axis=1)
    response[:, : round(_PREDELAY_S * sample_rate)] = 0
    response *= np.minimum(1, (time[-1] - time) / 0.05)
    body = (frequencies > 250) & (frequencies < 4000)
    response /= np.sqrt(np.mean(np.abs(np.fft.rfft(response)[:, body]) ** 2, axis=1, keepdims=True))
    return np.asarray(response, np.float32)


def add_reverb(send: NDArray[np.float32], out: NDArray[np.float32], sample_rate: int, cancel: CancelToken) -> None:
    """Add the reverb of `send` [samples] to `out` [2, samples]; its tail is cut at the end. Raises Cancelled."""
    response = impulse_response(sample_rate)
    # A frame of 5 s: its size has small prime factors, which makes its FFT quick.
    framing = Framing(history=response.shape[1], hop=17 * sample_rate // 5, lookahead=0)
    spectrum = np.fft.rfft(response, framing.size)
    for start, frame in framing.frames(send[None], cancel):
        if frame.any():
            wet = np.fft.irfft(np.fft.rfft(frame) * spectrum, framing.size)[:, framing.kept]
            out[:, start : start + framing.hop] += wet[:, : len(send) - start]
