"""One song's own settings in an isolated server: its engine gets them, and a copy of the recording that they name."""

import os
import sys
from pathlib import Path

import pytest

from harmonia_lab import engine_registry
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.generation.artifacts import read_record
from tests.backends.conftest import SONG, isolated

PLUGIN = """
from harmonia_lab.engines.song_options import song_options
from harmonia_lab.engines.spec import AudioEngineSpec
from harmonia_lab.testing.engines import FakeAudioEngine, FakeSettings

class Tones(FakeAudioEngine):
    name = "tones"

SPEC = AudioEngineSpec(
    name="tones", help="tones", make=lambda model, settings: Tones(sample_rate=8000), options=song_options(FakeSettings)
)
"""


@pytest.fixture
def tones(tmp_path, monkeypatch):
    """An installed package with an engine "tones", in this process and in those that it starts."""
    site = tmp_path / "site-packages"
    info = site / "tones-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "tones_plugin.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tones\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harmonia_lab.audio_engines]\ntones = tones_plugin:SPEC\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")])))
    engine_registry._search.cache_clear()
    yield
    engine_registry._search.cache_clear()
    sys.modules.pop("tones_plugin", None)


def test_a_song_of_an_isolated_server_has_its_own_settings_and_recording(tones, tmp_path):
    tune = tmp_path / "tune.wav"
    tune.write_bytes(b"a recording, of which only its being there counts")
    asked = {"pitch": 330.0, "melody": tune}
    with isolated(tmp_path, {"audio": "tones"}) as lab:
        song = lab.compose(**SONG, progress=False, audio_options=asked)
        with pytest.raises(InvalidRequest, match="pitch 5 is not") as caught:
            lab.compose(**SONG, progress=False, audio_options={"pitch": 5})
        assert caught.value.details["fields"] == ["pitch"]
        settings = read_record(Path(song.directory))["engines"]["audio"]["settings"]
        copy = Path(settings["melody"])
        assert (settings["pitch"], copy.read_bytes(), copy.parent.parent) == (
            330.0,
            tune.read_bytes(),
            lab.home / "sounds",
        )
        lab.server.stop()
        assert lab.compose(**SONG, progress=False, audio_options=asked).checksum == song.checksum
