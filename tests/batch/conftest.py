"""What the tests of batches share: labs without models, and a language model's server that comes and goes."""

import pytest

from harmonia_lab import Lab
from harmonia_lab.testing import SONG_METADATA, FakeAudioEngine, FakeMetadataEngine, FakeOllama


def lab_in(folder, **engines):
    engines = {"metadata": FakeMetadataEngine(), "audio": FakeAudioEngine()} | engines
    return Lab(**engines, songs=folder / "songs", home=folder / "home")


def row(**fields):
    return {"narrative": "A story.", "seconds": 1, **fields}


def statuses(report):
    return [outcome.status for outcome in report.outcomes]


def quiet(line):
    """Nobody listens."""


@pytest.fixture
def lab(tmp_path):
    with lab_in(tmp_path) as lab:
        yield lab


@pytest.fixture
def ollama(monkeypatch):
    """A server on which "auto" falls as long as it runs. `stop` and `start` let it go and come."""
    with FakeOllama(lambda _: SONG_METADATA.model_dump_json(by_alias=True)) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        yield server
