import numpy as np
import pyloudnorm
import pytest
from scipy.signal import resample_poly

from harmonia_lab.audio_engines.mixing.mastering import master
from harmonia_lab.engines.base import CancelToken

RATE = 48_000


def drums(seconds=10, decay=12.0):
    """Hits that decay, far apart: a crest of some 20 dB, as a drum kit alone has."""
    rng = np.random.default_rng(8)
    audio = np.zeros((2, seconds * RATE))
    hit = rng.standard_normal((2, RATE // 2)) * np.exp(-decay * np.arange(RATE // 2) / RATE)
    for start in range(0, audio.shape[1] - RATE // 2, RATE // 2):
        audio[:, start : start + RATE // 2] += hit * rng.uniform(0.4, 1)
    return (audio / np.abs(audio).max()).astype(np.float32)


def chord(seconds=10):
    t = np.arange(seconds * RATE) / RATE
    return np.stack([sum(np.sin(2 * np.pi * f * t + p) for f in (220, 277, 330)) for p in (0, 1)]).astype(np.float32)


@pytest.mark.parametrize("audio", [drums(), chord(), drums() + chord()], ids=["drums", "chord", "both"])
@pytest.mark.parametrize("level", [0.01, 0.1, 30.0])
def test_any_level_comes_out_at_the_target_as_other_meters_read_it(audio, level):
    result = master(audio * np.float32(level), RATE, CancelToken())
    out = result.audio.astype(np.float64)
    assert pyloudnorm.Meter(RATE).integrated_loudness(out.T) == pytest.approx(-14, abs=0.3)
    assert result.loudness == pytest.approx(-14, abs=0.2)
    peak = max(np.abs(resample_poly(out, 4, 1, axis=1)).max(), np.abs(out).max())
    assert 20 * np.log10(peak) <= -1
    assert result.true_peak == pytest.approx(20 * np.log10(peak), abs=0.15)


def test_a_lone_click_stays_a_click_and_the_loudness_gives_way():
    audio = np.zeros((2, 5 * RATE), np.float32)
    audio[:, 100_000] = 0.1
    result = master(audio, RATE, CancelToken())
    assert result.limiting <= 15.1
    assert result.true_peak <= -1
    assert result.loudness < -30


def test_silence_stays_silence():
    result = master(np.zeros((2, RATE), np.float32), RATE, CancelToken())
    assert not result.audio.any()
    assert result.loudness == result.true_peak == -np.inf
    assert result.gain == 0


def test_signals_that_meters_dislike_keep_the_promise_of_the_peak():
    t = np.arange(3 * RATE) / RATE
    square = np.sign(np.sin(2 * np.pi * 50 * t))
    near_a_quarter = np.sign(np.sin(2 * np.pi * 11_999.9 * t + np.pi / 4))
    noise = np.random.default_rng(4).standard_normal(len(t)) ** 5
    for wave in (square, near_a_quarter, noise):
        out = master(np.stack([wave, wave]).astype(np.float32), RATE, CancelToken()).audio.astype(np.float64)
        assert 20 * np.log10(np.abs(resample_poly(out, 4, 1, axis=1)).max()) <= -1
