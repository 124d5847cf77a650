"""The meter hears tempo, beats, key, sections, silence and clipping where they are, and names nothing that isn't."""

import numpy as np
import pytest

from benchmarks.songs.clicks import click_and_chords
from benchmarks.songs.meter import key_score, matched, without_beat
from harmonia_lab.audio_engines.listening import clipped_share, measure
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import Cancelled
from harmonia_lab.protocol.vocabulary import TONICS
from tests.benchmarks.test_songs_meters import plan

RATE = 24_000


def sound(bpm=100.0, tonic=0, minor=False, seconds=12.0):
    """Clicks and chords, I vi IV V in major, i VI iv V in minor: float32 [1, samples]."""
    made = plan(bpm, tonic)
    degrees = [(0, 3, 7), (8, 0, 3), (5, 8, 0), (7, 11, 2), (0, 3, 7), (5, 8, 0), (7, 11, 2), (0, 3, 7)]
    if minor:
        for chord, classes in zip(made["chords"], degrees, strict=True):
            chord["pitch_classes"] = [(each + tonic) % 12 for each in classes]
    made["seconds"] = min(seconds, made["seconds"])
    made["chords"] = [chord for chord in made["chords"] if chord["start"] * 60 / bpm < seconds]
    whole = click_and_chords(made, RATE)
    samples = round(seconds * RATE)
    if not samples:
        return np.zeros((1, 0), np.float32)
    return np.tile(whole, -(-samples // len(whole)))[None, :samples].astype(np.float32)


@pytest.mark.parametrize("bpm", [66, 97, 150])
def test_the_tempo_of_clicks_is_named_and_each_beat_is_where_it_is_heard(bpm):
    found = measure(sound(bpm, seconds=12), RATE)
    assert found.heard.bpm == pytest.approx(bpm, rel=0.01)
    assert found.heard.bpm_confidence >= 0.7
    true = np.arange(0, 12, 60 / bpm).tolist()
    assert matched(found.beats, true, 0.07) >= 0.9


@pytest.mark.parametrize("tonic", [0, 6, *(pytest.param(each, marks=pytest.mark.stress) for each in range(1, 12))])
def test_the_major_and_minor_key_of_chords_is_named(tonic):
    for minor in (False, True):
        found = measure(sound(tonic=tonic, minor=minor, seconds=10), RATE).heard
        assert found.key == f"{TONICS[tonic]} {'minor' if minor else 'major'}"


def test_a_tuning_that_is_off_is_said_and_the_key_is_named_all_the_same():
    off = 2 ** (30 / 1200)
    found = measure(sound(tonic=2, seconds=9.6), round(RATE * off / 2) * 2)
    assert found.heard.key == "D major"
    assert found.tuning_hz == pytest.approx(440 * off, rel=0.002)


@pytest.mark.parametrize("kind", ["white noise", "pink noise", "held chord", "clicks at random", "syllables"])
def test_no_beat_is_named_where_there_is_none(kind):
    audio = dict(without_beat(3, 8))[kind]
    found = measure(audio, 48_000)
    assert found.heard.bpm is None
    assert found.other_bpm is None
    assert found.beats == ()
    assert (found.heard.key is None) == (kind != "held chord")


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("seconds", [0, 0.001, 0.5, 3])
def test_silence_and_the_shortest_sounds_have_figures_and_no_names(seconds, channels):
    found = measure(np.zeros((channels, round(seconds * RATE)), np.float32), RATE)
    plain = found.to_json()
    assert (plain["bpm"], plain["key"], plain["beats"], plain["sections"]) == (None, None, [], [0.0])
    assert plain["silentShare"] == (1 if seconds >= 0.1 else 0)
    short = sound(seconds=seconds).repeat(channels, axis=0)
    assert all(np.isfinite(value) for value in measure(short, RATE).to_json().values() if isinstance(value, float))


def test_equal_samples_give_equal_figures_and_two_equal_channels_those_of_one():
    audio = sound(93, 4, seconds=9)
    first = measure(audio, RATE).to_json()
    assert measure(audio.copy(), RATE).to_json() == first
    assert measure(audio.repeat(2, axis=0), RATE).to_json() == first


@pytest.mark.parametrize("rate", [32_000, 44_100])
def test_other_sample_rates_are_heard_alike(rate):
    audio = np.tile(click_and_chords(plan(110, 9), rate), 2)[None, : 10 * rate].astype(np.float32)
    found = measure(audio, rate).heard
    assert found.bpm == pytest.approx(110, rel=0.01)
    assert found.key == "A major"


def test_a_section_begins_where_sound_and_harmony_change_and_nowhere_in_an_even_sound():
    rng = np.random.default_rng(2)
    soft = 0.3 * sound(100, 0, seconds=24)
    loud = soft.copy()
    middle = slice(round(9.6 * RATE), round(19.2 * RATE))
    loud[:, middle] += 0.1 * rng.normal(size=(1, 24 * RATE)).astype(np.float32)[:, middle]
    found = measure(loud, RATE).sections
    assert matched(found, [0, 9.6, 19.2], 0.5) == 1
    even = 0.1 * rng.normal(size=(1, 24 * RATE)).astype(np.float32)
    assert measure(even, RATE).sections == (0.0,)


def test_clipping_is_found_in_the_stems_that_the_limiter_hides_it_from_and_a_single_peak_is_none():
    clean = 0.5 * sound(seconds=4)
    hot = np.clip(4 * clean, -1, 1)
    assert measure(clean, RATE, rendered=[clean]).clipped_share == 0
    assert measure(clean, RATE, rendered=[clean, hot]).clipped_share == round(clipped_share(hot), 6) > 0
    peak = clean.copy()
    peak[0, 100:102] = 1
    assert clipped_share(peak) == 0
    peak[0, 102] = -1
    assert clipped_share(peak) == pytest.approx(3 / peak.size)


def test_a_cancel_ends_the_measuring():
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        measure(sound(), RATE, cancel)


@pytest.mark.parametrize(
    ("heard", "score"),
    [("A minor", 1), ("E minor", 0.5), ("C major", 0.3), ("A major", 0.2), ("D minor", 0), ("F major", 0), (None, 0)],
)
def test_keys_are_scored_as_by_mirex(heard, score):
    assert key_score(heard, 9, "minor") == score
