"""The notebooks run unchanged with songs made by a server in another process and folder, over a line that is cut."""

import json
import os
import random
import subprocess
import sys
import threading

import pytest

from harmonia_lab.server.server_thread import new_tokens
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.testing import SONG_METADATA, FakeOllama
from tests.backends.test_remote_cuts import ProxyThread
from tests.test_notebooks import STORY, execute, shown  # noqa: F401 - a fixture

pytestmark = [pytest.mark.stress, pytest.mark.filterwarnings("default")]

CUTS = 50


class There:
    """A server in a process of its own."""

    def __init__(self, folder, ollama):
        folder.mkdir()
        environment = os.environ | {"HARMONIA_HOME": str(folder / "home"), "OLLAMA_HOST": ollama.url}
        command = [sys.executable, "-m", "harmonia_lab", "serve", "--port", "0", "--json", "--attached"]
        engines = ["--metadata", "ollama", "--audio", "sketch", "--songs", str(folder / "songs")]
        self._process = subprocess.Popen(
            [*command, *engines], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.url = json.loads(self._process.stdout.readline())["url"]
        self._tokens = new_tokens(ServerSettings(), folder / "home")

    def token(self, user):
        return self._tokens.issue(user).token

    def end(self):
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


@pytest.fixture
def line(tmp_path):
    """A proxy to a server, that is cut now and then until it was cut CUTS times."""
    moments, stopping = random.Random(3), threading.Event()
    with FakeOllama(lambda _: SONG_METADATA.model_dump_json(by_alias=True)) as ollama:
        there = There(tmp_path / "there", ollama)
        with ProxyThread(there) as proxy:

            def disturb():
                while proxy.cuts < CUTS and not stopping.wait(moments.random() * 0.4):
                    proxy.cut()
                    proxy.cuts += 1

            proxy.cuts = 0
            thread = threading.Thread(target=disturb)
            thread.start()
            yield proxy
            stopping.set()
            thread.join()
        there.end()


@pytest.fixture
def away(line):
    return {"HARMONIA_SERVER": line.url, "HARMONIA_TOKEN": line.token("ann")}


def test_the_first_notebook(execute, tmp_path, line, away):  # noqa: F811 - the fixture
    outputs = execute("01_compose", tmp_path, also=away, seconds=2)
    assert line.url in shown(outputs["lab"])
    assert outputs["repeat"][-1].data["text/plain"] == "(True, False)"
    assert "completed" in outputs["log"][-1].data["text/plain"]


def test_the_benchmark_notebook(execute, tmp_path, line, away):  # noqa: F811 - as above
    """MusicGen's decoders are settings, which no server takes: that study is made here."""
    cells = execute(
        "03_benchmark", tmp_path, also=away, stories=[STORY], lengths=[2], rounds=1, metadata="ollama",
        decode_seconds=1, decode_blocks=1, clients=[2], out="made",
    )  # fmt: skip
    assert line.url in shown(cells["lab"])
    assert "fast: 1 completed; reference: 1 completed" in shown(cells["compare"], "text/html")
    assert shown(cells["server"], "image/png")


def test_the_batch_notebook(execute, tmp_path, line, away):  # noqa: F811 - as above
    cells = execute(
        "04_batch", tmp_path, also=away, narratives=[STORY], seeds=[7, 8], seconds=2, out="made", metadata="ollama"
    )
    assert line.url in shown(cells["make"])
    assert "2 songs (2 made now, 0 kept), 0 errors" in shown(cells["report"])
