import numpy as np

from harmonia_lab.audio_engines.mixing.limiter import apply_gains, limiting_gains
from harmonia_lab.audio_engines.mixing.loudness import CELL, cell_peaks
from harmonia_lab.engines.base import CancelToken

RATE = 48_000


def limited(audio, ceiling, gain=1.0):
    gains = limiting_gains(cell_peaks(audio, 0.0, CancelToken()) * np.float32(gain), ceiling, RATE)
    out = np.empty_like(audio)
    apply_gains(audio, gain, gains, out, CancelToken())
    return out, gains


def spiky(seed):
    rng = np.random.default_rng(seed)
    audio = rng.standard_normal((2, 50_003)) * 0.05
    audio[:, rng.integers(0, 50_003, 40)] += rng.uniform(-4, 4, 40)
    return audio.astype(np.float32)


def test_no_sample_gets_over_the_ceiling_wherever_the_peaks_are():
    for seed in range(20):
        out, _ = limited(spiky(seed), 0.5)
        assert np.abs(out).max() <= 0.5 * (1 + 1e-5)


def test_what_is_under_the_ceiling_is_only_scaled():
    audio = spiky(1) * np.float32(0.01)
    out, gains = limited(audio, 0.5, gain=2.0)
    assert (gains == 1).all()
    assert np.array_equal(out, audio * np.float32(2))


def test_the_gain_falls_before_a_peak_and_returns_after_it():
    audio = np.full((2, RATE), 0.1, np.float32)
    audio[:, RATE // 2] = 2.0
    _, gains = limited(audio, 0.5)
    peak = RATE // 2 // CELL
    assert gains[: peak - round(0.006 * RATE / CELL)].min() == 1
    assert gains[peak] <= 0.25
    assert gains[-1] > 0.99
    assert np.abs(np.diff(20 * np.log10(gains))).max() < 2.5  # dB a third of a millisecond: no click


def test_the_end_of_the_audio_is_limited_too():
    audio = np.zeros((2, 1003), np.float32)
    audio[0, -1] = audio[1, 0] = 4.0
    out, _ = limited(audio, 0.5)
    assert np.abs(out).max() <= 0.5 * (1 + 1e-5)
