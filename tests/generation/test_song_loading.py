"""A song read back from its folder is the song that was made."""

import json
from pathlib import Path

import pytest

from harmonia_lab import Lab
from harmonia_lab.errors import ErrorCode, HarmoniaError
from harmonia_lab.generation.artifacts import load_song
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine


@pytest.fixture
def song(tmp_path):
    with Lab(metadata=FakeMetadataEngine(), audio=FakeAudioEngine(), songs=tmp_path / "songs", home=tmp_path) as lab:
        return lab.compose("A story.", seconds=1, seed=7, progress=False)


def test_a_song_read_back_is_the_song_that_was_made(song):
    assert len(song.stems) == 2
    assert load_song(Path(song.directory), duration=song.duration) == song


def test_a_folder_without_a_whole_song_is_an_error_that_names_it(song, tmp_path):
    folder = Path(song.directory)
    record = json.loads((folder / "run.json").read_text())
    del record["files"]["song.flac"]
    (folder / "run.json").write_text(json.dumps(record))
    for place in (folder, tmp_path):
        with pytest.raises(HarmoniaError, match=str(place)) as caught:
            load_song(place, duration=1.0)
        assert caught.value.code is ErrorCode.NOT_FOUND
