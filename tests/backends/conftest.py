"""Labs whose server is a process of its own, with the sketch engine and no language model."""

import contextlib

import psutil
import pytest

from harmonia_lab import Lab
from harmonia_lab.generation.generation import TimeLimits
from harmonia_lab.generation.recovery_plans import RecoveryLimits
from harmonia_lab.testing import SONG_METADATA

SONG = {"metadata": SONG_METADATA, "seconds": 1, "seed": 7}
LONG = SONG | {"seconds": 600}
"""It takes longer to make than anything that is done to it meanwhile, the start of a process included."""

LIFECYCLE = [
    ("job:status", 1),
    ("audio-generation-started", 1),
    ("job:status", 2),
    ("audio-generation-complete", 2),
    ("job:completed", 3),
    ("job:status", 4),
]
"""Of a song with given metadata, both families in the order in which they are heard."""


@pytest.fixture(autouse=True)
def no_ollama(monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")  # the discard port: nothing listens


def new_lab(folder, **options):
    given = {"metadata": "ollama", "audio": "sketch", "songs": folder / "songs", "home": folder / "home"}
    return Lab(**given | {"limits": TimeLimits(recovery=RecoveryLimits(first_wait_s=0.05))} | options)


@contextlib.contextmanager
def isolated(folder, parameters=None, **settings):
    """A lab with its isolated server, `lab.server`. parameters: of `new_lab`."""
    before = set(psutil.Process().children())
    with new_lab(folder, **(parameters or {})) as lab:
        lab.serve(isolated=True, port=0, **settings)
        yield lab
    assert not set(psutil.Process().children()) - before  # a zombie would be among them


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """One for all tests of a file that leave it running."""
    with isolated(tmp_path_factory.mktemp("isolated")) as lab:
        yield lab
