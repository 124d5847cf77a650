import numpy as np
import pytest
from scipy.signal import fftconvolve

from harmonia_lab.audio_engines.mixing.reverb import add_reverb, impulse_response
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import Cancelled


def test_the_impulse_response_is_the_same_at_every_call_and_differs_left_from_right():
    response = impulse_response(48_000)
    assert np.array_equal(response, impulse_response(48_000))
    assert abs(np.corrcoef(response)[0, 1]) < 0.1


def test_it_starts_after_a_pause_and_dies_away_by_sixty_decibels():
    response = impulse_response(48_000).astype(np.float64)
    assert not response[:, : int(0.017 * 48_000)].any()
    left = np.cumsum(response[:, ::-1] ** 2, axis=1)[:, ::-1]
    decay = 10 * np.log10(left / left[:, :1] + 1e-12)
    at = [np.argmax(curve < -60) / 48_000 for curve in decay]
    assert all(0.8 < seconds < 1.6 for seconds in at)


def test_long_signals_are_convolved_across_frames_without_a_seam():
    send = np.random.default_rng(2).standard_normal(48_000 * 8).astype(np.float32)
    dry = np.ones((2, len(send)), np.float32)
    out = dry.copy()
    add_reverb(send, out, 48_000, CancelToken())
    expected = 1 + fftconvolve(send[None].astype(np.float64), impulse_response(48_000), axes=1)[:, : len(send)]
    assert np.abs(out - expected).max() < 1e-4 * np.abs(expected).max()


def test_it_stops_when_cancelled():
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        add_reverb(np.ones(48_000, np.float32), np.zeros((2, 48_000), np.float32), 48_000, token)
