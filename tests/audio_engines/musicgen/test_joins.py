"""Sections meet on a measured beat, at an even power; a piece that doesn't end by itself is faded out."""

import numpy as np
import pytest

from harmonia_lab.audio_engines.musicgen.joins import OVERLAP_S, crossfade, ends_by_itself, fade_out, find_join

RATE = 32000
REACH, LONGEST = 0.6, 1.12


def clicks(bpm, seconds, first=0.0, channels=1):
    """A click track: a decaying tone of 40 ms on each beat."""
    sound = np.zeros(round(seconds * RATE) + RATE, np.float32)
    time = np.arange(round(0.04 * RATE)) / RATE
    click = np.sin(2 * np.pi * 1500 * time) * np.exp(-time * 80)
    for at in np.arange(first, seconds, 60 / bpm):
        start = round(at * RATE)
        sound[start : start + len(click)] += 0.5 * click
    return np.repeat(sound[None, : round(seconds * RATE)], channels, 0)


def noise(seconds, seed=0, level=0.1):
    return np.random.default_rng(seed).normal(0, level, (1, round(seconds * RATE))).astype(np.float32)


def rms(audio):
    return float(np.sqrt(np.mean(audio**2)))


@pytest.mark.parametrize(("bpm", "first", "border"), [(120, 0.13, 12.0), (96, 0.4, 11.1), (75, 0.0, 12.3)])
@pytest.mark.parametrize("begins", [0.0, 37.4])
def test_sections_of_a_click_track_meet_on_a_click_after_a_crossfade_of_one_beat(bpm, first, border, begins):
    sound = clicks(bpm, border + 1.5, first, channels=2)
    join = find_join(sound, RATE, begins=begins, border=begins + border, reach=REACH, longest=LONGEST)
    beats = begins + np.arange(first, border + 1.5, 60 / bpm)
    nearest = beats[np.argmin(np.abs(beats - begins - border))]
    assert join.at == pytest.approx(nearest, abs=0.03)
    assert join.overlap == pytest.approx(60 / bpm, abs=0.04)
    assert join.bpm == pytest.approx(bpm, rel=0.02)
    assert join.to_json()["on"] == "a measured beat"


@pytest.mark.parametrize("sound", [noise(14), np.zeros((1, 14 * RATE), np.float32), clicks(120, 2)])
def test_without_a_clear_beat_sections_meet_at_the_planned_border_and_the_record_says_so(sound):
    border = sound.shape[1] / RATE - 1
    join = find_join(sound, RATE, begins=0.0, border=border, reach=REACH, longest=LONGEST)
    assert (join.at, join.overlap, join.bpm) == (border, OVERLAP_S, None)
    assert "no beat is clear" in join.to_json()["on"]


def test_a_beat_that_is_too_far_away_is_not_taken():
    sound = clicks(120, 9)
    sound[:, round(5.6 * RATE) :] = 0
    join = find_join(sound, RATE, begins=0.0, border=8.0, reach=REACH, longest=LONGEST)
    assert join.bpm is None
    assert join.at == 8.0


def test_a_short_window_has_a_short_crossfade():
    join = find_join(clicks(60, 14), RATE, begins=0.0, border=12.0, reach=REACH, longest=0.3)
    assert join.overlap == 0.3
    assert join.at == pytest.approx(12, abs=0.03)


@pytest.mark.parametrize("alike", [0.0, 0.5, 1.0])
def test_a_crossfade_keeps_the_power_whatever_both_sounds_have_in_common(alike):
    first = noise(4, 1)
    second = alike * first + np.sqrt(1 - alike**2) * noise(4, 2)
    mixed = crossfade(first, second)
    for part in np.array_split(mixed, 8, axis=1):
        assert 20 * np.log10(rms(part) / rms(first)) == pytest.approx(0, abs=0.35)
    assert np.array_equal(mixed[:, 0], first[:, 0])
    assert mixed[0, -1] == pytest.approx(second[0, -1], abs=1e-6)
    assert mixed.dtype == np.float32


def test_silence_can_be_crossfaded_too():
    nothing = np.zeros((2, 100), np.float32)
    assert not crossfade(nothing, nothing).any()
    assert crossfade(nothing[:, :0], nothing[:, :0]).shape == (2, 0)


def test_an_end_is_heard_as_one_where_it_is_quiet():
    sound = noise(5)
    assert not ends_by_itself(sound, RATE)
    decaying = sound * np.exp(-np.arange(sound.shape[1]) / RATE * 3)
    assert ends_by_itself(decaying.astype(np.float32), RATE)
    assert ends_by_itself(np.zeros((1, RATE), np.float32), RATE)
    faded = np.concatenate([sound[:, : -2 * RATE], fade_out(sound[:, -2 * RATE :])], 1)
    assert faded[0, -1] == pytest.approx(0, abs=1e-6)
    assert not ends_by_itself(sound[:, :-RATE], RATE)
