import json
import threading
import tracemalloc

import numpy as np
import pyloudnorm
import pytest
from scipy.signal import resample_poly

from harmonia_lab.audio_engines.mixing import MIX_PRESETS, mix
from harmonia_lab.engines.base import CancelToken, Stem
from harmonia_lab.errors import AudioError, Cancelled, ErrorCode

RATE = 48_000


def mixed(stems, seconds=5.0, **options):
    return mix(stems, seconds=seconds, cancel=CancelToken(), progress=lambda _: None, **options)


def tone(hertz, seconds=5.0, rate=RATE, level=0.2):
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def plucks(hertz, seconds=5.0, rate=RATE, seed=1):
    """Decaying overtones every half second: something like a guitar."""
    t = np.arange(round(seconds * rate)) / rate
    decay = np.exp(-6 * (t % 0.5))
    partials = sum(np.sin(2 * np.pi * hertz * k * t) / k for k in range(1, 6))
    return (0.1 * np.random.default_rng(seed).uniform(0.5, 1) * decay * partials).astype(np.float32)


def hits(seconds=5.0, rate=RATE):
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(2).standard_normal(len(t))
    return (0.5 * noise * np.exp(-25 * (t % 0.25))).astype(np.float32)


def stereo(left, right=None):
    return np.stack([left, left if right is None else right])


def halves(part):
    """Two stereo stems: one plays the first half, the other the second."""
    early = np.arange(len(part)) < len(part) // 2
    return stereo(part * early), stereo(part * ~early)


def band(seconds=5.0):
    """A small band from different engines: several rates, mono and stereo, levels 50 dB apart."""
    return [
        Stem("flute", "lead", stereo(plucks(880, seconds)) * np.float32(0.05), RATE),
        Stem("guitar", "chords", stereo(plucks(220, seconds), plucks(221, seconds)), RATE),
        Stem("bass", "bass", plucks(55, seconds, 32_000)[None], 32_000),
        Stem("strings", "pad", stereo(tone(330, seconds, 44_100)), 44_100),
        Stem("drums", "drums", stereo(hits(seconds)) * np.float32(10), RATE),
    ]


def spectrum(audio, hertz):
    """Amplitude at `hertz` in each channel, away from the ends."""
    inner = audio[:, RATE // 2 : -RATE // 2]
    turn = np.exp(-2j * np.pi * hertz * np.arange(inner.shape[1]) / RATE) * np.hanning(inner.shape[1])
    return np.abs(inner @ turn) / inner.shape[1] * 4


def decibels(value):
    return 20 * np.log10(value)


def test_a_song_has_the_length_the_loudness_and_the_peak_that_it_should():
    result = mixed(band(), 5.0)
    assert result.audio.shape == (2, 5 * RATE)
    assert result.audio.dtype == np.float32
    audio = result.audio.astype(np.float64)
    assert pyloudnorm.Meter(RATE).integrated_loudness(audio.T) == pytest.approx(-14, abs=0.3)
    assert decibels(np.abs(resample_poly(audio, 4, 1, axis=1)).max()) <= -1
    said = result.measurements
    assert said.loudness_lufs == pytest.approx(-14, abs=0.1)
    assert said.true_peak_dbtp <= -1
    assert not said.silent


@pytest.mark.parametrize("seconds", [1.0, 1.2345, 7.77])
def test_any_length_is_met_to_the_sample(seconds):
    assert mixed(band(3.0), seconds).audio.shape == (2, round(seconds * RATE))


def test_the_same_stems_give_the_same_bytes_in_any_thread():
    first = mixed(band()).audio.tobytes()
    again = []
    thread = threading.Thread(target=lambda: again.append(mixed(band()).audio.tobytes()))
    thread.start()
    thread.join()
    assert again == [first]


def test_the_lead_stands_above_the_chords_however_loud_they_were_rendered():
    first, second = halves(0.1 * np.random.default_rng(5).standard_normal(10 * RATE))
    stems = [Stem("lead", "lead", 0.05 * first, RATE), Stem("chords", "chords", 5 * second, RATE)]
    audio = mixed(stems, 10.0, preset=MIX_PRESETS["folk"]._replace(lead=3.0)).audio.astype(np.float64)
    meter = pyloudnorm.Meter(RATE)
    lead = meter.integrated_loudness(audio[:, : 5 * RATE].T)
    chords = meter.integrated_loudness(audio[:, 6 * RATE :].T)
    assert lead - chords == pytest.approx(3, abs=0.7)


def test_a_stem_of_another_rate_keeps_its_pitch_and_brings_no_images():
    result = mixed([Stem("all", "mix", tone(5000, rate=32_000)[None], 32_000)])
    inner = result.audio[0, RATE : 4 * RATE] * np.hanning(3 * RATE)
    power = np.abs(np.fft.rfft(inner))
    peak = power.argmax() / 3  # Hz, in bins of 1/3 Hz
    assert peak == pytest.approx(5000, abs=0.4)
    around = np.abs(np.arange(len(power)) / 3 - 5000) < 20
    assert decibels(power[~around].max() / power.max()) < -90


def test_a_stem_of_half_the_rate_lines_up_with_one_of_the_full_rate():
    click = np.zeros(5 * RATE, np.float32)
    click[2 * RATE :: RATE] = 1
    low = resample_poly(click.astype(np.float64), 1, 2).astype(np.float32)
    at = []
    for audio, rate in ((click, RATE), (low, RATE // 2)):
        out = np.abs(mixed([Stem("all", "mix", audio[None], rate)]).audio[0])
        at.append(int(out[: round(2.5 * RATE)].argmax()))
    assert abs(at[0] - 2 * RATE) <= 1
    assert abs(at[1] - at[0]) <= 1


def test_a_mono_stem_without_reverb_sounds_from_the_middle():
    result = mixed([Stem("all", "mix", plucks(220)[None], RATE)])
    assert np.array_equal(result.audio[0], result.audio[1])


def test_two_parts_of_one_role_stand_on_two_sides():
    first, second = halves(hits(10.0))
    audio = mixed([Stem("one", "chords", first, RATE), Stem("two", "chords", second, RATE)], 10.0).audio
    one, two = ((audio[:, part] ** 2).mean(axis=1) for part in (slice(0, 5 * RATE), slice(6 * RATE, None)))
    assert 10 * np.log10(one[0] / one[1]) > 3
    assert 10 * np.log10(two[1] / two[0]) > 3


def test_more_than_two_channels_are_folded_to_two():
    part = plucks(220)
    six = mixed([Stem("all", "mix", np.stack([part, 0 * part] * 3), RATE)]).audio
    assert np.abs(six[0]).max() > 0.1
    assert not six[1].any()


def test_rumble_under_an_instrument_is_taken_out():
    audio = stereo(tone(880) + tone(20))
    result = mixed([Stem("lead", "lead", audio, RATE)]).audio
    before, after = (decibels(spectrum(x, 20)[0] / spectrum(x, 880)[0]) for x in (audio, result))
    assert after - before < -25


def test_a_silent_stem_adds_nothing():
    silence = Stem("tacet", "pad", np.zeros((2, 5 * RATE), np.float32), RATE)
    empty = Stem("empty", "mix", np.zeros((2, 0), np.float32), RATE)
    stems = band()[:3]
    result = mixed([*stems, silence, empty])
    assert np.array_equal(result.audio, mixed(stems).audio)
    assert result.measurements.stems[3].loudness_lufs is None


def test_only_silence_stays_silence_and_says_so():
    for stems in ([], [Stem("tacet", "lead", np.zeros((2, RATE), np.float32), RATE)]):
        result = mixed(stems, 2.0)
        assert result.audio.shape == (2, 2 * RATE)
        assert not result.audio.any()
        assert result.measurements.silent
        assert json.loads(json.dumps(result.measurements.to_json(), allow_nan=False))["loudness_lufs"] is None


def test_a_single_impulse_stays_finite_and_under_the_peak():
    click = np.zeros((1, 5 * RATE), np.float32)
    click[0, 100_000] = 1
    result = mixed([Stem("click", "drums", click, RATE)])
    assert np.isfinite(result.audio).all()
    assert decibels(np.abs(result.audio).max()) <= -1
    assert result.measurements.loudness_lufs < -20


def test_a_stem_far_beyond_full_scale_is_a_level_like_any_other():
    hot = [Stem(stem.name, stem.role, stem.audio * np.float32(1000), stem.sample_rate) for stem in band()]
    assert np.abs(mixed(hot).audio - mixed(band()).audio).max() < 0.02


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("where", [0, 3 * RATE, 5 * RATE - 1])
def test_a_stem_with_invalid_values_is_named_with_the_second(value, where):
    stems = band()
    stems[1].audio[1, where] = value
    with pytest.raises(AudioError, match=rf"'guitar' is not valid audio at {where / RATE:.2f} s") as caught:
        mixed(stems)
    assert caught.value.code == ErrorCode.AUDIO_ERROR
    assert caught.value.details["stem"] == "guitar"


@pytest.mark.parametrize(
    ("audio", "rate", "says"),
    [
        (np.zeros(100), RATE, r"shape \[100\]"),
        (np.zeros((0, 100)), RATE, r"shape \[0, 100\]"),
        (np.zeros((2, 100)), 44_101, "44101"),
    ],
)
def test_a_stem_of_a_shape_or_rate_that_cannot_be_mixed_is_named(audio, rate, says):
    with pytest.raises(AudioError, match=f"'odd'.*{says}"):
        mixed([Stem("odd", "lead", audio.astype(np.float32), rate)])


def test_the_ends_are_faded_and_nothing_else():
    audio = mixed([Stem("all", "mix", tone(440)[None], RATE)]).audio[0]
    assert audio[0] == 0
    assert abs(audio[-1]) < 1e-5
    middle = np.abs(audio[RATE // 100 : -RATE // 4])
    tops = middle[: len(middle) // 480 * 480].reshape(-1, 480).max(axis=1)
    assert decibels(tops.max() / tops.min()) < 0.1


def test_a_much_softer_section_is_raised_by_half_of_what_is_too_much():
    part = plucks(440, 8.0)
    part[: 4 * RATE] *= np.float32(10 ** (-12 / 20))
    stem = Stem("all", "mix", part[None], RATE)
    ridden, plain = mixed([stem], 8.0, sections=[0.0, 4.0]), mixed([stem], 8.0)
    assert ridden.measurements.section_lifts_db == pytest.approx((4, 0), abs=0.1)
    soft, loud = (decibels(np.abs(ridden.audio / (plain.audio + 1e-9))[0, at * RATE + 99]) for at in (1, 6))
    assert soft - loud == pytest.approx(4, abs=0.2)


def test_sections_of_like_loudness_silence_and_odd_borders_are_left_alone():
    part = plucks(440, 8.0)
    part[6 * RATE :] = 0
    stem = Stem("all", "mix", part[None], RATE)
    result = mixed([stem], 8.0, sections=[0.0, 3.0, 3.0, 6.0, 9.0])
    assert result.measurements.section_lifts_db == (0, 0, 0, 0, 0)
    assert np.array_equal(result.audio, mixed([stem], 8.0).audio)


def test_progress_rises_from_zero_to_one():
    seen = []
    mix(band(), seconds=5.0, cancel=CancelToken(), progress=seen.append)
    assert seen == sorted(seen)
    assert seen[0] > 0
    assert seen[-1] == 1
    assert len(seen) >= 8


@pytest.mark.parametrize("after", [0.0, 0.1, 0.4, 0.7, 0.8])
def test_a_cancel_at_any_point_ends_it_before_the_next_step(after):
    token, seen = CancelToken(), []

    def progress(fraction):
        seen.append(fraction)
        if fraction >= after:
            token.cancel()

    with pytest.raises(Cancelled):
        mix(band(), seconds=5.0, cancel=token, progress=progress)
    assert len([fraction for fraction in seen if fraction >= after]) <= 2  # reverb and fade lie between two reports


def test_a_long_song_needs_little_more_memory_than_itself():
    noise = np.random.default_rng(7).standard_normal((1, 90 * 16_000), np.float32)
    stems = [Stem(name, "chords", noise, 16_000) for name in "abcd"]
    tracemalloc.start()
    song = mixed(stems, 90.0).audio
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.5 * song.nbytes + 40e6
