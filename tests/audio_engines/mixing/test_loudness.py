import math

import numpy as np
import pyloudnorm
import pytest
from scipy.signal import resample_poly

from harmonia_lab.audio_engines.mixing.loudness import (
    CELL,
    cell_peaks,
    integrated_loudness,
    segment_powers,
    true_peak,
)
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import Cancelled


def loudness(audio, rate=48_000):
    return integrated_loudness(segment_powers(np.asarray(audio, np.float32), rate, CancelToken()))


def tone(hertz, seconds=5.0, rate=48_000, level=1.0, phase=0.0):
    return level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate + phase)


def bursts(rate=48_000):
    """Loud and soft passages and silence, so that both gates have something to shut out."""
    noise = np.random.default_rng(3).standard_normal((2, 12 * rate)) * 0.1
    for second, level in enumerate([1, 0, 0.5, 0.002, 1, 1, 0, 0, 0.1, 1, 0.05, 0.3]):
        noise[:, second * rate : (second + 1) * rate] *= level
    return noise


def test_the_standards_own_example_reads_minus_three():
    # BS.1770-4: a full-scale sine of 997 Hz in one front channel reads −3.01 LUFS.
    assert loudness(np.stack([tone(997), 0 * tone(997)])) == pytest.approx(-3.01, abs=0.01)


@pytest.mark.parametrize("rate", [32_000, 44_100, 48_000])
def test_it_agrees_with_pyloudnorm_gates_and_all(rate):
    for audio in (bursts(rate), np.stack([tone(60, rate=rate, level=0.3), tone(3000, rate=rate, level=0.1)])):
        assert loudness(audio, rate) == pytest.approx(pyloudnorm.Meter(rate).integrated_loudness(audio.T), abs=0.1)


def test_a_constant_offset_is_not_loud():
    audio = np.stack([tone(1000, level=0.1)] * 2)
    steady = loudness(audio[:, 48_000:])
    assert loudness(audio + 0.5, 48_000) == pytest.approx(steady, abs=0.5)  # the offset's onset is all that is heard


def test_silence_has_no_loudness():
    assert loudness(np.zeros((2, 48_000))) == -math.inf
    assert loudness(np.full((2, 48_000), 1e-6)) == -math.inf


def test_a_sound_shorter_than_a_block_is_still_measured():
    assert loudness(np.stack([tone(1000, 0.15)] * 2)) > -20


def test_the_true_peak_lies_between_the_samples():
    # At a quarter of the rate and 45°, every sample is at 0.707 of the crest.
    audio = np.stack([tone(12_000, 1, phase=np.pi / 4)] * 2).astype(np.float32)
    audio *= np.hanning(audio.shape[1]).astype(np.float32)
    assert np.abs(audio).max() < 0.71
    assert true_peak(audio, CancelToken()) == pytest.approx(1.0, abs=0.03)


def test_the_true_peak_agrees_with_an_independent_oversampler_and_is_never_under_the_samples():
    rng = np.random.default_rng(5)
    for _ in range(5):
        hot = np.clip(np.cumsum(rng.standard_normal((2, 30_000)), axis=1) * 0.1, -0.9, 0.9).astype(np.float32)
        peak = true_peak(hot, CancelToken())
        assert peak >= np.abs(hot).max()
        other = max(np.abs(resample_poly(hot.astype(np.float64), 4, 1, axis=1)).max(), np.abs(hot).max())
        assert 20 * np.log10(peak / other) == pytest.approx(0, abs=0.1)


def test_cells_know_where_the_peaks_are():
    audio = np.zeros((2, 10_000), np.float32)
    audio[1, 5000] = -0.8
    peaks = cell_peaks(audio, 0.01, CancelToken())
    assert len(peaks) == 10_000 // CELL
    assert peaks.argmax() == 5000 // CELL
    assert peaks.max() == pytest.approx(0.8)
    assert not peaks[:300].any()


def test_peaks_of_a_signal_longer_than_a_block_do_not_depend_on_where_blocks_end():
    audio = np.random.default_rng(6).standard_normal((2, 8192 * CELL + 5003)).astype(np.float32)
    whole = cell_peaks(audio, 0.0, CancelToken())
    later = cell_peaks(audio[:, 100 * CELL :], 0.0, CancelToken())
    assert np.array_equal(whole[101:], later[1:])


def test_measuring_stops_when_cancelled():
    token = CancelToken()
    token.cancel()
    audio = np.zeros((2, 48_000), np.float32)
    with pytest.raises(Cancelled):
        segment_powers(audio, 48_000, token)
    with pytest.raises(Cancelled):
        true_peak(audio, token)
