"""Finished stems outlive a failure, and are taken only where they are what would be made."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harmonia_lab.engines.base import Stem
from harmonia_lab.errors import AudioError, StorageError
from harmonia_lab.generation.artifacts import SongFolder, file_digest
from harmonia_lab.generation.stem_cache import StemCache, stems_key
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.testing import SONG_METADATA, FakeAudioEngine
from tests.audio_engines.musicgen.songs import plan
from tests.generation.test_generation import Run

LOUD = np.float32([[0.1, -1.5, 1e-9, 0.25], [0, 0, 0, 0]])


def stem(name="piano"):
    return Stem(name, "chords", LOUD, 32_000)


def test_a_stem_comes_back_to_the_last_bit(tmp_path):
    StemCache(tmp_path / "finished", "key").keep(stem("electric piano"))
    back = StemCache(tmp_path / "finished", "key").load()["electric piano"]
    assert (back.name, back.role, back.sample_rate) == ("electric piano", "chords", 32_000)
    assert back.audio.dtype == np.float32
    assert np.array_equal(back.audio, LOUD)


def test_stems_of_another_song_are_not_taken(tmp_path):
    StemCache(tmp_path / "finished", "key").keep(stem())
    assert StemCache(tmp_path / "finished", "another").load() == {}
    assert StemCache(tmp_path / "nothing here", "key").load() == {}


def test_a_stem_that_was_cut_off_is_made_again(tmp_path):
    finished = StemCache(tmp_path / "finished", "key")
    finished.keep(stem())
    finished.keep(stem("flute"))
    (tmp_path / "finished" / "chords" / "piano.wav").write_bytes(b"RIFF")
    assert list(finished.load()) == ["flute"]


def test_all_that_changes_the_sound_changes_the_key():
    record = FakeAudioEngine().record()
    keys = {
        stems_key(plan(), {"piano": 1}, record),
        stems_key(plan(), {"piano": 2}, record),
        stems_key(plan(pitch=65), {"piano": 1}, record),
        stems_key(replace(plan(), seconds=3.0), {"piano": 1}, record),
        stems_key(plan(), {"piano": 1}, record | {"settings": {"top_k": 5}}),
    }
    assert len(keys) == 5
    assert stems_key(plan(), {"piano": 1}, record | {"device": "cpu"}) in keys  # what is known only once it has loaded


def attempt(folder, engine):
    """At the same song, as a retry makes it."""
    run = Run(folder, audio=engine, request=SongRequest(metadata=SONG_METADATA, generation_id="g", seconds=1, seed=7))
    run.generation._folder.resume()
    return run


def test_another_attempt_renders_what_is_missing_and_makes_the_same_song(tmp_path):
    whole = attempt(tmp_path / "whole", FakeAudioEngine()).generation.run()
    first, second = FakeAudioEngine(errors=[AudioError("The renderer died.")]), FakeAudioEngine()
    with pytest.raises(AudioError, match="finished is kept"):
        attempt(tmp_path, first).generation.run()
    song = attempt(tmp_path, second).generation.run()
    everything = [i.name for i in SONG_METADATA.instruments]
    assert first.rendered == everything[:1]
    assert second.rendered == everything[1:]
    assert song.checksum == whole.checksum
    assert [file_digest(Path(made.path)) for made in song.stems] == [
        file_digest(Path(made.path)) for made in whole.stems
    ]
    assert [path.name for path in (tmp_path / "songs").iterdir()] == ["harbour-light-g"]
    assert not list((tmp_path / "songs").rglob("finished"))


def test_what_a_killed_process_left_is_taken_as_well(tmp_path):
    class Killed(BaseException):
        pass

    engine = FakeAudioEngine(errors=[Killed()])
    with pytest.raises(Killed):
        attempt(tmp_path, engine).generation.run()
    again = FakeAudioEngine()
    attempt(tmp_path, again).generation.run()
    assert engine.rendered + again.rendered == [i.name for i in SONG_METADATA.instruments]


def test_a_first_attempt_does_not_touch_a_folder_that_is_there(tmp_path):
    folder = SongFolder(tmp_path, "g")
    folder.create()
    with pytest.raises(StorageError):
        SongFolder(tmp_path, "g").create()
