"""Files, picture and mix show what of the plan is in the sound, and no more; what was measured stands beside it."""

import json
from pathlib import Path

import numpy as np
import pytest

from harmonia_lab.engines.base import Stem, followed_by
from harmonia_lab.generation.artifacts import load_song, read_record
from harmonia_lab.generation.record_schema import sealed
from harmonia_lab.generation.verify import check_folder
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.testing import SONG_METADATA, FakeAudioEngine
from tests.generation.test_generation import Run


class Plugin(FakeAudioEngine):
    """An engine of another package, from before engines said what they follow: it makes the mix, louder at its end."""

    def __init__(self):
        super().__init__()
        del self.follows

    def render(self, parts, plan, seeds, progress, cancel, finished):
        count = round(plan.seconds * self.sample_rate)
        rng = np.random.default_rng(1)
        level = np.where(np.arange(count) < count / 2, 0.005, 0.1)
        return [Stem("mix", "mix", (level * rng.normal(size=(1, count))).astype(np.float32), self.sample_rate)]


def made(tmp_path, engine, seconds=4.0):
    run = Run(tmp_path, audio=engine, request=SongRequest(narrative="A story.", seconds=seconds, seed=7))
    song = run.generation.run()
    return run, song, Path(song.directory), read_record(Path(song.directory))


TEXT_MODELS = [FakeAudioEngine(follows=("prompt", "tempo", "key")), Plugin(), FakeAudioEngine(follows=())]


@pytest.mark.parametrize("engine", TEXT_MODELS, ids=["text model", "plugin", "own words"])
def test_a_sound_that_follows_no_notes_has_none_in_its_files(tmp_path, engine):
    run, song, folder, record = made(tmp_path, engine)
    assert song.follows == record["follows"] == sorted(followed_by(engine))
    lyrics = (folder / "lyrics.txt").read_text()
    assert SONG_METADATA.lyrics in lyrics
    assert "Sung" not in lyrics
    assert not (folder / "song.mid").exists()
    assert "plan.mid" in record["files"]
    for name in ("sung", "chords", "melody"):
        assert list(run.picture[name]) == [], name
    starts = [start for _, start, _ in run.picture["sections"]]
    assert starts == (record["measured"]["sections"] if len(record["measured"]["sections"]) > 1 else [])
    assert {name.rstrip(" 12") for name, *_ in run.picture["sections"]} <= {"part"}
    assert "(asked 96 bpm)" in run.picture["subtitle"]
    assert record["measurements"]["section_lifts_db"] == []
    assert "no words are sung" in record["notes"][0]
    assert check_folder(folder).ok


def test_a_chroma_model_is_shown_with_the_chords_that_guided_it(tmp_path):
    run, _, folder, record = made(tmp_path, FakeAudioEngine(follows=("prompt", "tempo", "key", "chroma")))
    planned = json.loads((folder / "plan.json").read_text())
    assert [symbol for _, symbol in run.picture["chords"]] == [chord["symbol"] for chord in planned["chords"]]
    assert list(run.picture["melody"]) == list(run.picture["sung"]) == []
    assert run.picture["subtitle"].endswith("guided by these chords")
    assert "melody and chords as a guide" in record["notes"][0]


def test_a_sound_that_plays_the_plan_shows_all_of_it_and_what_was_measured_is_in_record_song_event_and_log(tmp_path):
    run, song, folder, record = made(tmp_path, FakeAudioEngine(), seconds=6)
    assert song.follows == record["follows"] == ["notes"]
    assert "Sung" in (folder / "lyrics.txt").read_text()
    assert (folder / "song.mid").exists()
    assert not (folder / "plan.mid").exists()
    assert run.picture["subtitle"] == "folk · nostalgic · 96 bpm · A minor"
    assert len(run.picture["sections"]) == len(record["measurements"]["section_lifts_db"]) > 1
    assert record["notes"] == ["The picture lacks a letter."]
    assert record["measured"]["key"] == song.measured.key
    assert record["measured"]["sections"] == [0]
    done = run.lifecycle[-1]
    assert (done.measured, done.follows) == (song.measured, song.follows)
    (row,) = run.rows
    assert (row["measured_bpm"], row["measured_key"]) == (song.measured.bpm, song.measured.key)
    assert song.measured.bpm is None  # held tones have no beat
    assert record["timings"]["listen"] > 0
    assert load_song(folder, duration=6.0).measured == song.measured


def test_an_engine_that_claims_unknown_things_is_believed_in_the_known_ones(tmp_path):
    engine = FakeAudioEngine()
    engine.follows = ["tempo", "the stars"]
    assert followed_by(engine) == {"tempo"}
    assert made(tmp_path, engine, seconds=2)[1].follows == ["tempo"]


def test_a_song_of_a_version_that_did_not_say_is_loaded_and_checked(tmp_path):
    _, _, folder, record = made(tmp_path, FakeAudioEngine(), seconds=2)
    old = {name: value for name, value in record.items() if name not in ("follows", "measured", "recordSha256")}
    (folder / "run.json").write_text(json.dumps(sealed(old)))
    song = load_song(folder, duration=2.0)
    assert (song.follows, song.measured) == (None, None)
    assert check_folder(folder).ok


def test_a_record_that_denies_the_notes_is_found_out_by_its_files(tmp_path):
    _, _, folder, record = made(tmp_path, FakeAudioEngine(), seconds=2)
    (folder / "run.json").write_text(json.dumps(record | {"follows": ["prompt"]}))
    told = " ".join(str(finding) for finding in check_folder(folder).findings)
    assert "files leaves out plan.mid" in told
