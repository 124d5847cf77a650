"""Each genre has its own balance, density, width and bass, and the song's measurements say which and what they did."""

import math

import numpy as np
import pytest

from harmonia_lab.audio_engines.mixing import MIX_PRESETS, SINGLE_MIX, mix, mix_preset
from harmonia_lab.audio_engines.mixing.loudness import integrated_loudness, segment_powers
from harmonia_lab.engines.base import CancelToken, Stem
from harmonia_lab.protocol.vocabulary import GENRES
from tests.audio_engines.mixing.test_mixdown import RATE, band, mixed, plucks, spectrum, stereo, tone


def loudness(audio):
    return integrated_loudness(segment_powers(audio, RATE, CancelToken()))


def test_every_genre_has_a_preset_of_its_name():
    assert set(MIX_PRESETS) == set(GENRES)
    assert all(preset.name == genre for genre, preset in MIX_PRESETS.items())
    assert mix_preset("thrash").name == "metal"
    assert mix_preset("lullaby").name == "folk"
    assert len(set(preset._replace(name="") for preset in MIX_PRESETS.values())) == len(GENRES)  # noqa: C401


def test_thrash_and_a_lullaby_of_the_same_stems_differ_in_crest_by_five_decibels_at_the_same_loudness():
    stems = [*band(8.0)[:4], Stem("drums", "drums", stereo(plucks(180, 8.0, seed=9)), RATE)]
    thrash, lullaby = (mixed(stems, 8.0, preset=mix_preset(genre)).measurements for genre in ("thrash", "lullaby"))
    assert thrash.loudness_lufs == pytest.approx(-14, abs=0.25)
    assert lullaby.loudness_lufs == pytest.approx(-14, abs=0.25)
    assert lullaby.peak_to_loudness_db - thrash.peak_to_loudness_db >= 5
    assert (thrash.preset, lullaby.preset) == ("metal", "folk")
    assert thrash.compression_db[1] > thrash.compression_db[0] > 0
    assert lullaby.compression_db == (0, 0)


@pytest.mark.parametrize("genre", ["rock", "folk"])
@pytest.mark.parametrize("level", [0.1, 10.0])
def test_the_lead_has_the_presets_place_against_the_sum_of_the_others_where_words_are_sung(genre, level):
    second = np.arange(8 * RATE) / RATE
    noise = np.random.default_rng(5).uniform(-0.1, 0.1, 8 * RATE).astype(np.float32)
    lead = noise * np.select([second < 4, second < 6], [0.3, 1.0], 0.0).astype(np.float32)
    chords = noise * (second >= 6)
    stems = [
        Stem("lead", "lead", stereo(lead) * np.float32(level), RATE),
        Stem("one", "chords", stereo(chords), RATE),
        Stem("two", "chords", stereo(chords[::-1] * (second >= 6)), RATE),
    ]
    preset = MIX_PRESETS[genre]._replace(reverb=-100.0, compression=None, crest=40.0)
    song = mixed(stems, 8.0, preset=preset, sung=[(4.0, 6.0), (6.0, 8.0)])
    assert song.measurements.lead_to_band_lu == pytest.approx(preset.lead, abs=0.01)
    assert song.measurements.lead_to_band_db > -1.9
    sung, rest = (loudness(song.audio[:, round(at * RATE) : round((at + 1.6) * RATE)]) for at in (4.2, 6.2))
    assert sung - rest == pytest.approx(preset.lead, abs=0.4)


def test_a_lead_that_bass_would_cover_is_raised_until_its_power_is_near_that_of_the_others():
    stems = [band()[0], Stem("bass", "bass", stereo(tone(50, level=0.5)), RATE)]
    said = mixed(stems, preset=MIX_PRESETS["rock"]._replace(bass=6.0)).measurements
    assert said.lead_to_band_db == pytest.approx(-1.9, abs=0.01)
    assert said.lead_to_band_lu > MIX_PRESETS["rock"].lead + 1


def test_without_a_lead_or_without_others_nothing_is_set():
    for stems in (band()[1:], band()[:1]):
        assert mixed(stems, preset=MIX_PRESETS["pop"]).measurements.lead_to_band_lu is None


def test_a_lead_that_hardly_plays_where_words_are_sung_is_raised_within_reason():
    audio = plucks(880, 8.0)
    audio[: 4 * RATE] *= np.float32(1e-3)
    stems = [Stem("flute", "lead", stereo(audio), RATE), *band(8.0)[1:]]
    plain = mixed(stems, 8.0).measurements.stems[0].gain_db
    raised = mixed(stems, 8.0, sung=[(0.0, 4.0)]).measurements.stems[0].gain_db
    assert raised - plain < 19  # 9 dB up instead of at most 9 down


def test_width_changes_the_difference_of_left_and_right_and_leaves_the_bass_in_the_middle():
    low = Stem("low", "bass", stereo(tone(60), 0 * tone(60)), RATE)
    stems = [Stem("wide", "pad", stereo(tone(440), tone(660)), RATE), low]
    shares = {}
    for width in (0.5, 1.5):
        preset = MIX_PRESETS["pop"]._replace(width=width, reverb=-100.0, compression=None)
        audio = mixed(stems, preset=preset).audio
        shares[width] = spectrum(audio[:1] - audio[1:], 440)[0] / spectrum(audio[:1] + audio[1:], 440)[0]
        assert spectrum(audio[:1] - audio[1:], 60)[0] < 0.4 * spectrum(audio[:1] + audio[1:], 60)[0]
    assert shares[1.5] / shares[0.5] == pytest.approx(3, rel=0.1)


def test_the_low_end_is_raised_by_the_presets_decibels():
    stem = Stem("all", "bass", stereo(tone(45) + tone(1000)), RATE)
    levels = []
    for low in (0.0, 6.0):
        preset = MIX_PRESETS["pop"]._replace(low=low, reverb=-100.0, compression=None)
        audio = mixed([stem], preset=preset).audio
        levels.append(20 * math.log10(spectrum(audio, 45)[0] / spectrum(audio, 1000)[0]))
    assert levels[1] - levels[0] == pytest.approx(5.6, abs=0.5)


def test_a_drier_preset_has_less_after_the_last_note():
    audio = plucks(440, 5.0)
    audio[3 * RATE :] = 0
    tails = []
    for reverb in (-6.0, 6.0):
        song = mixed(
            [Stem("flute", "lead", stereo(audio), RATE)], preset=MIX_PRESETS["pop"]._replace(reverb=reverb)
        ).audio
        tails.append(float(np.square(song[:, 3 * RATE + 4800 :]).mean() / np.square(song[:, : 3 * RATE]).mean()))
    assert 10 * math.log10(tails[1] / tails[0]) > 6


def test_an_engine_that_renders_the_whole_mix_gets_neither_compression_nor_another_width():
    audio = stereo(tone(440), tone(660, level=0.1))
    song = mix(
        [Stem("mix", "mix", audio, RATE)], seconds=5.0, cancel=CancelToken(), progress=lambda _: None,
        preset=MIX_PRESETS["metal"],
    )  # fmt: skip
    said = song.measurements
    assert (said.preset, said.compression_db, said.lead_to_band_lu) == (SINGLE_MIX.name, (0, 0), None)
    left, right = spectrum(song.audio, 440)[0], spectrum(song.audio, 660)[1]
    assert left / right == pytest.approx(2, rel=0.01)
    assert spectrum(song.audio, 440)[1] < 0.001
