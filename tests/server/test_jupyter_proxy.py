"""Behind JupyterHub: a real Jupyter server with jupyter-server-proxy between the clients and the server in a kernel."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from harmonia_lab import BlockingClient, HarmoniaError
from harmonia_lab.bench.javascript import node_command
from tests.server.conftest import GENERATION
from tests.server.engines import make_lab

BASE, JUPYTER_TOKEN = "/user/ann/", "jupyter-secret"
CLIENT = Path(__file__).with_name("proxied_client.cjs")


@dataclass
class Proxied:
    """origin: of the Jupyter server. path: Socket.IO's, through the proxy."""

    origin: str
    path: str
    token: str

    @property
    def url(self):
        return f"{self.origin}?token={JUPYTER_TOKEN}"


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    """The origin of a Jupyter server as JupyterHub starts one: under a path of the user's own."""
    pytest.importorskip("jupyter_server_proxy", reason="jupyter-server-proxy is not installed")
    folder = tmp_path_factory.mktemp("jupyter")
    options = {
        "ServerApp.base_url": BASE,
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": 0,
        "ServerApp.open_browser": False,
        "ServerApp.root_dir": str(folder),
        "ServerApp.allow_root": True,
        "ServerApp.jpserver_extensions": {"jupyter_server_proxy": True},
        "IdentityProvider.token": JUPYTER_TOKEN,
    }
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "PYTHONWARNINGS"))
    } | {f"JUPYTER_{name}_DIR": str(folder / name) for name in ("RUNTIME", "CONFIG", "DATA")}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyter_server", *(f"--{name}={value}" for name, value in options.items())],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=log,
        )
        try:
            deadline = time.monotonic() + 60
            while not (found := list(folder.glob("RUNTIME/jpserver-*.json"))):
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.05)
            yield f"http://127.0.0.1:{json.loads(found[0].read_text())['port']}"
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture
def proxied(jupyter, tmp_path):
    with socket.socket() as free:  # the port is part of the address that clients are told
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    prefix = f"{BASE}proxy/{port}"
    with make_lab(tmp_path) as lab:
        server = lab.serve(port=port, public_url=f"{jupyter}{prefix}")
        yield Proxied(jupyter, f"{prefix}/socket.io", server.token("ann"))


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_a_python_client_makes_a_song_and_downloads_it_through_the_proxy(proxied, transport):
    with BlockingClient(proxied.url, path=proxied.path, transports=[transport]) as client:
        client.connect(proxied.token)
        events = list(client.events(client.start("A small boat goes home.", seconds=1).generation_id))
    assert [(e.name, e.seq) for e in events if e.delivery == "lifecycle"] == GENERATION
    address = events[-1].audio_url
    assert address.startswith(proxied.origin + proxied.path.removesuffix("/socket.io"))
    request = urllib.request.Request(address, headers={"Authorization": f"token {JUPYTER_TOKEN}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.read(4) == b"fLaC"


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_a_javascript_client_makes_a_song_through_the_proxy(proxied, javascript, transport):
    done = subprocess.run(
        [*node_command(), str(CLIENT), proxied.origin, proxied.path, JUPYTER_TOKEN, proxied.token, transport],
        env=os.environ | {"NODE_PATH": str(javascript / "node_modules")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answer = json.loads(done.stdout)
    assert "error" not in answer
    heard = answer["heard"]
    assert [(n, e["seq"]) for n, e in heard if n in dict(GENERATION) and not n.endswith("progress")] == GENERATION


def test_neither_token_replaces_the_other(proxied):
    for url, token in ((proxied.origin, proxied.token), (proxied.url, "bad")):
        with BlockingClient(url, path=proxied.path) as client, pytest.raises(HarmoniaError):
            client.connect(token)
    address = f"{proxied.origin}{proxied.path.removesuffix('socket.io')}healthz"
    with urllib.request.urlopen(address, timeout=30) as answer:  # it ends at Jupyter's own door
        assert "/login" in answer.url
    with urllib.request.urlopen(f"{address}?token={JUPYTER_TOKEN}", timeout=30) as answer:
        assert answer.url.startswith(address)
