"""The meters of songs, on sounds and plans made for the purpose: each finds what was put there."""

import numpy as np
import pytest

from benchmarks.songs import levels, plans, table
from benchmarks.songs.clicks import click_and_chords
from harmonia_lab.audio_engines.listening.key import chroma, estimate_key
from harmonia_lab.audio_engines.listening.tempo import GRID, estimate_tempo

RATE = 24_000


def chord(start, symbol, classes):
    return {"start": start, "duration": 4.0, "symbol": symbol, "pitch_classes": classes}


def plan(bpm=100.0, tonic=0, **fields):
    degrees = [(0, 4, 7), (9, 0, 4), (5, 9, 0), (7, 11, 2), (0, 4, 7), (5, 9, 0), (7, 11, 2), (0, 4, 7)]
    chords = [chord(4.0 * i, "", [(c + tonic) % 12 for c in classes]) for i, classes in enumerate(degrees)]
    own = {
        "bpm": bpm, "seconds": 32 * 60 / bpm, "beats_per_bar": 4, "tonic": tonic, "mode": "major", "chords": chords,
        "sections": [{"name": "verse", "bar": 0, "bars": 8, "lyric_section": 0}], "parts": [], "sung": [],
    }  # fmt: skip
    return own | fields


@pytest.mark.parametrize("bpm", [48.3, 63, 75, 90, 119.4, 140, 180])
def test_the_tempo_of_clicks_is_found_within_the_grid_and_never_half_or_double(bpm):
    heard = estimate_tempo(click_and_chords(plan(bpm), RATE), RATE)
    assert heard == pytest.approx(bpm, rel=0.005)
    assert GRID <= 0.005


def test_silence_and_a_sound_without_onsets_have_a_tempo_of_nothing():
    assert estimate_tempo(np.zeros(RATE * 5), RATE) == 0


@pytest.mark.parametrize("tonic", range(0, 12, 5))
@pytest.mark.parametrize("cents", [0, 30])
def test_the_key_of_chords_is_found_in_any_tuning(tonic, cents):
    sound = click_and_chords(plan(tonic=tonic), RATE)
    assert estimate_key(sound, round(RATE * 2 ** (cents / 1200))) == (tonic, "major")


def test_silence_has_an_empty_chroma():
    assert not chroma(np.zeros(RATE), RATE).any()


def test_the_balance_is_that_of_the_mix_whatever_filters_pan_and_level_the_mixer_chose():
    rng = np.random.default_rng(1)
    lead, band = (rng.standard_normal((2, RATE * 4)) for _ in range(2))
    band[:, : RATE * 2] = 0
    soft = np.stack([np.convolve(channel, [0.5, 0.5], "same") for channel in band])
    song = 0.3 * lead + 0.1 * np.array([[1.0], [0.5]]) * soft
    spans = [(2.2, 3.8)]
    found = levels.balance(song, {"flute": lead, "piano": band}, "flute", spans, RATE)
    alone = levels.balance(song, {"flute": 0.3 * lead, "piano": 2 * soft}, "flute", spans, RATE)
    weighted = [levels.loudness(part[:, RATE * 2 :], RATE) for part in (0.3 * lead, song - 0.3 * lead)]
    assert found == pytest.approx(alone, abs=0.3)  # the stems' own level and filter don't count
    assert found == pytest.approx(weighted[0] - weighted[1], abs=1.0)


def test_there_is_no_balance_without_a_band_or_a_sung_section():
    noise = np.random.default_rng(1).standard_normal((2, RATE))
    assert levels.balance(noise, {"flute": noise}, "flute", [(0, 1)], RATE) is None
    assert levels.balance(noise, {"flute": noise, "piano": noise[:1]}, "flute", [], RATE) is None


def note(start, pitch, lyric="", velocity=90):
    return {"start": start, "duration": 0.5, "pitch": pitch, "velocity": velocity, "lyric": lyric}


def part(name, role, notes):
    return {"name": name, "instrument": {"name": name, "role": role}, "notes": notes}


def test_a_progression_is_given_in_degrees_without_repeats():
    again = plan(tonic=9)
    again["chords"].insert(1, chord(2.0, "", again["chords"][0]["pitch_classes"]))
    assert plans.progressions(again) == plans.progressions(plan()) == {"verse": "1 6m 4 5"}


def test_the_groove_is_what_most_bars_have_without_ghost_notes_and_hats():
    bar = [note(0, 36), note(1, 38), note(2.02, 36), note(3, 38), note(0.5, 42), note(1.75, 38, velocity=50)]
    notes = [one | {"start": one["start"] + 4 * number} for number in range(3) for one in bar]
    notes += [note(12 + 0.25 * i, 38) for i in range(16)]  # a fill
    found = plans.groove(plan(parts=[part("drums", "drums", notes)]))
    assert found == ["kick 0", "kick 8", "snare 12", "snare 4"]
    assert plans.groove(plan()) == []


def test_grooves_that_differ_by_a_hit_are_one():
    one, nearly, other = (
        ["kick 0", "kick 8", "snare 4", "snare 12", "kick 10"],
        ["kick 0", "kick 8", "snare 4", "snare 12"],
        ["kick 0", "snare 8"],
    )
    assert plans.different_grooves([one, nearly, other, [], other]) == 2


def test_the_lead_is_the_part_with_the_words_else_the_first_lead():
    words = part("cello", "bass", [note(0, 50, "a"), note(1, 52)])
    lead = part("flute", "lead", [note(0, 70)])
    assert plans.lead_name(plan(parts=[lead, words])) == "cello"
    assert plans.lead_name(plan(parts=[lead])) == "flute"
    assert plans.lead_name(plan()) is None


def test_figures_are_the_same_in_another_key_and_at_another_speed():
    tune = [(0, 60), (4, 62), (6, 64), (8, 65), (12, 67), (16, 64), (20, 60)]
    other = [(2 * at + 8, pitch + 5) for at, pitch in tune]
    assert plans.shared_figures(plans.figures(tune), plans.figures(other)) == 1
    upside_down = [(at, 120 - pitch) for at, pitch in tune]
    assert plans.shared_figures(plans.figures(tune), plans.figures(upside_down)) == 0
    assert plans.shared_figures(plans.figures(tune), plans.figures(tune[:3])) is None


def test_entries_are_counted_from_the_bar_line():
    sung = [{"start": at * 0.6, "end": at * 0.6 + 1, "section": "Verse", "text": "x"} for at in (0, 4.5, 11.5)]
    assert plans.entries(plan(sung=sung)) == [0, 0.5, 3.5]
    assert plans.sung_spans(plan(sung=sung)) == [(0, pytest.approx(7.9))]


def row(**fields):
    heard = {"bpm": 100, "key": "C major", "lufs": -14.0, "true_peak": -1.0, "crest": 13.0, "lead_db": 0.0}
    own = {
        "kind": "song", "genre": "pop", "mood": "sad", "seed": 1, "bpm": 100, "key": "C major", "heard": heard,
        "clicks": {"bpm": 100, "key": "C major"}, "entries": [0, 3.5], "cpu_s": 1.0, "stage_2_s": 1.0,
    }  # fmt: skip
    return own | fields


def test_half_and_double_tempo_and_the_relative_key_are_wrong():
    heard = row()["heard"]
    rows = [
        row(),
        row(heard=heard | {"bpm": 50, "key": "A minor"}),
        row(heard=heard | {"bpm": 101.9}),
        row(genre="metal"),
    ]
    found = table.summary(rows)
    assert found["tempo_songs"] == found["key_songs"] == 0.75
    assert found["tempo_clicks"] == 1
    assert found["entries_on_the_bar"] == 0.5
    assert "| tempo within 2 %: songs | 75.0 % | within 3 points |" in table.report(rows)


def test_the_genre_with_the_fewest_grooves_and_progressions_decides():
    tune = [[4, 60], [4, 62], [2, 64], [2, 65], [4, 67], [4, 64], [4, 60]]
    plan_row = {"kind": "plan", "genre": "pop", "groove": ["kick 0"], "progressions": {"verse": "1"}, "tune": tune}
    other = plan_row | {"groove": ["kick 8"], "progressions": {"verse": "4"}}
    rows = [plan_row, other, plan_row | {"genre": "metal"}]
    found = table.summary(rows)
    assert (found["grooves_least"], found["progressions_least"], found["shared_seeds"]) == (1, 1, 1.0)
