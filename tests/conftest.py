"""What tests of several rooms share: MusicGen models with random weights, and JavaScript packages, made once a run."""

import functools

import hypothesis
import pytest

from benchmarks.server.javascript import installed_packages
from tests.waiting import PATIENCE_S

PACKAGES = {"@asyncapi/parser": "3.6.3", "socket.io-client": "4.8.4", "typescript": "5.9.3"}

# A busy machine may take seconds for an example: that is no fault of the code.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """checkpoint(size): a folder that MusicGen.get_pretrained loads."""
    from harmonia_lab.audio_engines.musicgen.random_checkpoint import make_checkpoint

    @functools.cache
    def make(size):
        return make_checkpoint(tmp_path_factory.mktemp("checkpoints") / size, size, seed=1)

    return make


@pytest.fixture(scope="session")
def musicgen(checkpoint):
    """musicgen(size): the loaded model, on the CPU. Shared: leave its weights alone."""
    from harmonia_lab.audio_engines.musicgen.audiocraft_standins import load_audiocraft

    load_audiocraft()
    from audiocraft.models import MusicGen

    @functools.cache
    def load(size):
        return MusicGen.get_pretrained(str(checkpoint(size)), device="cpu")

    return load


@pytest.fixture(scope="session")
def folders(checkpoint, tmp_path_factory):
    """Tiny models in every layout: folders.audiocraft(size), folders.transformers(channels=2), …"""
    from benchmarks.checkpoints.folders import Folders

    return Folders(tmp_path_factory.mktemp("folders"), checkpoint)


@pytest.fixture
def patience(monkeypatch):
    """Our clients wait for an answer as long as a machine may need that is busy with other things."""
    from harmonia_lab.client import Client

    monkeypatch.setitem(Client.__init__.__kwdefaults__, "ack_timeout_s", PATIENCE_S)
    monkeypatch.setitem(Client.__init__.__kwdefaults__, "connect_timeout_s", PATIENCE_S)


@pytest.fixture
def one_thread():
    """Small matrices don't gain from more, and threads that wait for a busy core lose."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def javascript():
    """A folder from which Node.js finds the guide's client, the TypeScript compiler and AsyncAPI's own parser."""
    return installed_packages(PACKAGES)
