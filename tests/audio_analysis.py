"""Analysis of audio for tests: tempo, key, loudness, peak and silence, by tools that are independent of the package."""

import librosa
import numpy as np
import pyloudnorm
from scipy.signal import resample_poly

RATE = 22_050

# Krumhansl, Cognitive Foundations of Musical Pitch (1990), p. 30: probe-tone ratings.
MAJOR = [6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88]
MINOR = [6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17]


def mono(audio, sample_rate=48_000):
    """Return audio, [channels, samples] at 48 kHz, as [samples] at 22,050 Hz."""
    assert sample_rate == 48_000
    return resample_poly(audio.mean(axis=0), 147, 320)


def estimate_tempo(sound):
    """Return quarter notes a minute, by beat tracking."""
    return float(np.atleast_1d(librosa.beat.beat_track(y=sound, sr=RATE)[0])[0])


def tempo_error(estimated, expected):
    """Return the relative error; half and double tempo count as correct."""
    return min(abs(estimated * factor / expected - 1) for factor in (0.5, 1, 2))


def estimate_key(sound):
    """Return (tonic as pitch class, "major" | "minor"): the key profile with the highest correlation to the chroma."""
    chroma = librosa.feature.chroma_cqt(y=sound, sr=RATE).mean(axis=1)
    fits = {
        (tonic, mode): np.corrcoef(chroma, np.roll(profile, tonic))[0, 1]
        for tonic in range(12)
        for mode, profile in (("major", MAJOR), ("minor", MINOR))
    }
    return max(fits, key=fits.get)


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
