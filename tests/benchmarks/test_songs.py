"""The benchmark of songs: a song is made, measured and appended to a file that is continued; wishes are compared."""

import json
from collections import Counter

import pytest

from benchmarks.songs import ten
from benchmarks.songs.__main__ import main
from benchmarks.songs.measure import _identity, _plans_asked, songs_asked
from benchmarks.songs.table import tempo_right
from harmonia_lab.protocol.vocabulary import GENRES, MOODS


def test_a_song_is_measured_once_beside_its_clicks_and_chords(tmp_path, capsys):
    out = tmp_path / "build" / "songs.jsonl"
    command = ["measure", str(out), "--songs", "1", "--plans", "0", "--seconds", "12"]
    assert main(command) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    (about,) = (row for row in rows if row["kind"] == "about")
    assert "host" not in about["circumstances"]["host"]
    (song,) = (row for row in rows if row["kind"] == "song")
    assert tempo_right(song["bpm"], song["clicks"]["bpm"])
    assert tempo_right(song["bpm"], song["heard"]["bpm"])
    assert song["heard"]["lufs"] == pytest.approx(-14, abs=1)
    assert song["heard"]["crest"] == pytest.approx(song["heard"]["true_peak"] - song["heard"]["lufs"], abs=0.02)
    assert song["heard"]["lead_db"] is not None
    assert len(song["tune"]) > 8
    before = out.read_bytes()
    capsys.readouterr()
    assert main(command) == 0  # nothing is left to make
    assert out.read_bytes() == before
    assert main(["table", str(out), "--genres", "--wrong", "--json", str(tmp_path / "figures.json")]) == 0
    assert "| tempo within 2 %: songs | 100.0 % |" in capsys.readouterr().out
    assert json.loads((tmp_path / "figures.json").read_text())["songs"]["n_songs"] == 1


def test_two_hundred_songs_have_all_genres_and_moods_and_no_seed_twice():
    asked = list(songs_asked(200, 1000, 22.0))
    assert len({one["seed"] for one in asked}) == 200
    assert {one["genre"] for one in asked} == set(GENRES)
    assert {one["mood"] for one in asked} == set(MOODS)
    assert len({(one["genre"], one["mood"]) for one in asked}) >= 180


def test_variety_is_measured_over_seeds_and_over_stories_in_each_genre():
    asked = list(_plans_asked(24, 22.0))
    kinds = Counter((one["kind"], one["genre"]) for one in asked)
    assert kinds == {(kind, genre): number for genre in GENRES for kind, number in (("plan", 24), ("story", 6))}
    assert len({_identity(one) for one in asked}) == len(asked)


def test_there_are_ten_kinds_and_nine_have_wishes():
    assert len({asked.kind for asked in ten.TEN}) == 10
    assert sum(bool(list(ten._asked(asked))) for asked in ten.TEN) == 9


def made(asked, **heard):
    own = {"bpm": 80.4, "key": "D minor", "instruments": ["cello", "piano 2"], "lufs": -14, "crest": 13, "lead_db": 1}
    planned = {"bpm": 80, "key": "D minor", "beats_per_bar": 3, "genre": "waltz"}
    return {"kind": asked.kind, "heard": own | heard, "planned": planned}


def test_what_is_heard_is_compared_with_what_was_asked():
    waltz = ten.TEN[0]
    assert all(ten.kept(waltz, made(waltz)).values())
    wrong = ten.kept(waltz, made(waltz, bpm=160, key="F major", instruments=["clarinet"]))
    assert [wish for wish, done in wrong.items() if not done] == ["tempo", "key", "with cello", "with piano"]
    bedtime = next(asked for asked in ten.TEN if asked.only)
    assert ten.kept(bedtime, made(bedtime, instruments=["music box", "harp"]))["nothing else"]
    assert not ten.kept(bedtime, made(bedtime, instruments=["music box", "harp", "drums"]))["nothing else"]
    synthwave = next(asked for asked in ten.TEN if asked.kind == "synthwave")
    assert not ten.kept(synthwave, made(synthwave, instruments=["electric guitar", "synth pad"]))["no guitar"]
    assert ten.kept(ten.TEN[-1], made(ten.TEN[-1])) == {}


def test_a_song_that_failed_is_a_row_of_the_table():
    text = ten.report([{"kind": "lofi", "error": "No model."}, made(ten.TEN[0])])
    assert "| lofi | 60 to 95 bpm, hip hop/electronic | No model. |" in text
    assert text.endswith("6 of 6 wishes are heard.")


@pytest.mark.stress
def test_the_meter_is_compared_with_the_plan_and_names_no_beat_in_noise(tmp_path, capsys):
    out = tmp_path / "meter.json"
    assert main(["meter", str(out), "--songs", "1", "--sounds", "1", "--seconds", "24"]) == 0
    figures = json.loads(out.read_text())
    assert {row["kind"] for row in figures["songs"]} == {"song", "clicks"}
    assert all(row["tempo_ratio"] == pytest.approx(1, abs=0.04) for row in figures["songs"])
    assert not any(row["bpm"] for row in figures["without"])
    assert "| held chord | 1 | 0 | 1 |" in capsys.readouterr().out
