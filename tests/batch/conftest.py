"""What the tests of batches share: labs without models, a language model's server that comes and goes, and a batch.

`batch-report-1` was written before reports had a number, by the code of commit 8c08c08, with `FakeAudioEngine`: a row
without a seed for which "auto" was Ollama, and one that brought its metadata. Stems, pictures and texts are left out.
"""

import shutil
from pathlib import Path

import pytest

from harmonia_lab import Lab
from harmonia_lab.generation.generation import TimeLimits
from harmonia_lab.generation.recovery_plans import RecoveryLimits
from harmonia_lab.testing import SONG_METADATA, FakeAudioEngine, FakeMetadataEngine, FakeOllama


def lab_in(folder, **engines):
    """A lab where every failure is final at once."""
    engines = {"metadata": FakeMetadataEngine(), "audio": FakeAudioEngine()} | engines
    limits = TimeLimits(recovery=RecoveryLimits(attempts=0))
    return Lab(**engines, songs=folder / "songs", home=folder / "home", limits=limits)


def row(**fields):
    return {"narrative": "A story.", "seconds": 1, **fields}


OLD_BATCH = Path(__file__).with_name("batch-report-1")
BY_OLLAMA, GIVEN = OLD_ROWS = [row(), {"metadata": SONG_METADATA, "seconds": 1, "seed": 2}]
"""Of the second, the song is kept by any lab with a FakeAudioEngine: stage 1 has no part in it."""


def statuses(report):
    return [outcome.status for outcome in report.outcomes]


def quiet(line):
    """Nobody listens."""


@pytest.fixture
def old_batch(tmp_path):
    """A copy of the old batch's folder."""
    return Path(shutil.copytree(OLD_BATCH, tmp_path / "out"))


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
