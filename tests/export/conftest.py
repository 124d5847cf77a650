"""A song to export, made once: the sound of fakes, and words with everything that tags find hard."""

import shutil
from pathlib import Path

import pytest

from harmonia_lab import Lab
from harmonia_lab.testing import SONG_METADATA, FakeAudioEngine, FakeMetadataEngine

METADATA = SONG_METADATA.model_copy(
    update={
        "title": "Sea / Meer 🌊 «ä»",
        "lyrics": "[Verse 1]\nThe lamp is burning low\nIch wärte = für dich\n\n[Chorus]\nПривет, 夜",
        "key": "F# minor",
        "language": "de",
        "mood": ["calm", "dark"],
    }
)


@pytest.fixture(scope="session")
def made_song(tmp_path_factory):
    home = tmp_path_factory.mktemp("export")
    with Lab(metadata=FakeMetadataEngine(METADATA), audio=FakeAudioEngine(), songs=home / "songs", home=home) as lab:
        song = lab.compose("A story.", seconds=1, seed=7, generation_id="gen-1", out=home / "sea", progress=False)
    return Path(song.directory)


@pytest.fixture(scope="session")
def text_model_song(tmp_path_factory):
    """A song whose sound follows its plan's words alone: held tones of its own, 4 s."""
    home = tmp_path_factory.mktemp("text-model")
    engine = FakeAudioEngine(follows=("prompt", "tempo", "key"))
    with Lab(metadata=FakeMetadataEngine(METADATA), audio=engine, songs=home / "songs", home=home) as lab:
        song = lab.compose("A story.", seconds=4, seed=7, generation_id="gen-2", out=home / "mist", progress=False)
    return Path(song.directory)


@pytest.fixture
def song(made_song, tmp_path):
    return Path(shutil.copytree(made_song, tmp_path / "sea"))
