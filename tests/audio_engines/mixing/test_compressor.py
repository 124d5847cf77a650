import numpy as np
import pytest

from harmonia_lab.audio_engines.mixing.compressor import Compression, compress
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import Cancelled

RATE = 48_000
FAST = Compression(threshold=0.0, ratio=4.0, knee=0.0, attack=0.001, release=0.001)


def noise(seconds=2.0, level=0.1):
    return (level * np.random.default_rng(3).standard_normal((2, round(seconds * RATE)))).astype(np.float32)


def level(audio):
    return 10 * np.log10(np.mean(audio.astype(np.float64) ** 2))


def stepped(loud_db=12.0, seconds=1.0):
    """Soft, loud, soft: a second each of a tone."""
    t = np.arange(round(3 * seconds * RATE)) / RATE
    gains = np.where((t >= seconds) & (t < 2 * seconds), 10 ** (loud_db / 20), 1.0)
    return (np.stack([np.sin(2 * np.pi * 1000 * t)] * 2) * gains * 0.01).astype(np.float32)


def test_above_the_threshold_the_ratio_decides_and_below_it_nothing_changes():
    before, after = stepped(), stepped()
    compress(after, FAST, RATE, CancelToken())
    soft, loud = slice(RATE // 4, 3 * RATE // 4), slice(5 * RATE // 4, 7 * RATE // 4)
    assert np.abs(after[:, soft] - before[:, soft]).max() < 1e-6
    # The mean level of the blocks that count is that of 2 s at 0 dB and 1 s at 12 dB.
    threshold = 10 * np.log10((2 + 10**1.2) / 3)
    assert level(before[:, loud]) - level(after[:, loud]) == pytest.approx((12 - threshold) * 3 / 4, abs=0.1)


def test_a_knee_bends_the_curve_from_half_its_width_below_to_half_above():
    reductions = []
    for knee in (0.0, 12.0):
        audio = noise()
        reductions.append(compress(audio, FAST._replace(knee=knee), RATE, CancelToken()).mean())
    hard, soft = reductions
    assert soft > hard + 0.3  # a steady level at the threshold is in the middle of the knee: (1 − 1/4) · 12 / 8 dB
    assert soft == pytest.approx(0.75 * 12 / 8, abs=0.5)


@pytest.mark.parametrize(("attack", "release"), [(0.005, 0.05), (0.05, 0.2)])
def test_63_percent_of_a_change_take_the_attack_or_the_release(attack, release):
    audio = stepped()
    reduction = compress(audio, FAST._replace(attack=attack, release=release), RATE, CancelToken())
    most = reduction[1900:2000].mean()
    rise = np.argmax(reduction > 0.632 * most) - 1000  # blocks of a millisecond
    fall = np.argmax(reduction[2000:] < 0.368 * most)
    assert rise == pytest.approx(1000 * attack, abs=2)
    assert fall == pytest.approx(1000 * release, abs=2)


def test_it_does_not_depend_on_how_hot_the_mix_is():
    quiet, hot = noise(level=0.001), noise(level=0.1)
    assert compress(quiet, FAST, RATE, CancelToken()) == pytest.approx(
        compress(hot, FAST, RATE, CancelToken()), abs=1e-3
    )


def test_the_same_mix_gives_the_same_bytes():
    first, second = noise(), noise()
    compress(first, FAST, RATE, CancelToken())
    compress(second, FAST, RATE, CancelToken())
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("samples", [0, 1, 47, 48, 49, 90_001])
def test_any_length_and_silence_can_be_compressed(samples):
    silence = np.zeros((2, samples), np.float32)
    assert not compress(silence, FAST, RATE, CancelToken()).any()
    assert not silence.any()
    audio = noise()[:, :samples]
    assert len(compress(audio, FAST, RATE, CancelToken())) == -(-samples // 48)
    assert np.isfinite(audio).all()


def test_a_cancel_ends_it():
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        compress(noise(), FAST, RATE, cancel)
