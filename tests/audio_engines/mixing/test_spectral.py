import numpy as np
import pytest

from harmonia_lab.audio_engines.mixing.spectral import Framing, bell, frame_frequencies, high_pass, low_pass
from harmonia_lab.engines.base import CancelToken


def decibels(response):
    return 20 * np.log10(np.abs(response))


@pytest.mark.parametrize("rate", [11_025, 16_000, 22_050, 32_000, 44_100, 48_000])
def test_the_kept_parts_of_all_frames_are_the_whole_signal(rate):
    audio = np.random.default_rng(1).standard_normal((2, 5 * rate + 7)).astype(np.float32)
    framing = Framing.at(rate)
    kept = [frame[:, framing.kept].copy() for _, frame in framing.frames(audio, CancelToken())]
    whole = np.concatenate(kept, axis=1)
    assert np.array_equal(whole[:, : audio.shape[1]], audio)
    assert not whole[:, audio.shape[1] :].any()


def test_frames_last_two_seconds_at_every_rate_so_that_bins_agree():
    assert Framing.at(32_000).size == 64_000
    assert np.array_equal(frame_frequencies(32_000), frame_frequencies(48_000)[: len(frame_frequencies(32_000))])


def test_filters_have_their_textbook_levels():
    frequencies = np.array([100.0, 1000.0, 10_000.0])
    assert decibels(high_pass(frequencies, 1000)) == pytest.approx([-40, -3.01, 0], abs=0.01)
    assert decibels(low_pass(frequencies, 1000)) == pytest.approx([0, -3.01, -40], abs=0.01)
    assert decibels(bell(frequencies, 1000, 6, 1)) == pytest.approx([0, 6, 0], abs=0.1)
