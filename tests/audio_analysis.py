"""Analysis of audio for tests: tempo, key, loudness, peak and silence, by tools that are independent of the package."""

import numpy as np
import pyloudnorm
from scipy.signal import resample_poly

from harmonia_lab.audio_engines.listening import key
from harmonia_lab.audio_engines.listening.tempo import estimate_tempo

RATE = 24_000


def mono(audio, sample_rate=48_000):
    """Return audio, [channels, samples] at 48 kHz, as [samples] at 24 kHz."""
    assert sample_rate == 48_000
    return resample_poly(audio.mean(axis=0), 1, 2)


def tempo_error(sound, expected):
    """Return the relative error of the tempo that is heard, in quarter notes a minute; half and double are wrong."""
    return abs(estimate_tempo(sound, RATE) / expected - 1)


def estimate_key(sound):
    """Return (tonic as pitch class, "major" | "minor")."""
    return key.estimate_key(sound, RATE)


def relative_keys(tonic, mode):
    """Return the key and its relative key."""
    other = ((tonic + 9) % 12, "minor") if mode == "major" else ((tonic + 3) % 12, "major")
    return {(tonic, mode), other}


def loudness(audio, sample_rate):
    """Return LUFS after ITU-R BS.1770-4."""
    return pyloudnorm.Meter(sample_rate).integrated_loudness(audio.T.astype(float))


def true_peak(audio):
    """Return dBTP, four times oversampled."""
    return 20 * np.log10(np.abs(resample_poly(audio, 4, 1, axis=1)).max())


def silent_share(audio, sample_rate):
    """Return the share of windows of 100 ms whose level is below −60 dBFS."""
    window = sample_rate // 10
    whole = audio[:, : audio.shape[1] // window * window].reshape(len(audio), -1, window)
    return float(np.mean(np.sqrt((whole**2).mean(axis=(0, 2))) < 1e-3))
