"""Behind JupyterHub: a real Jupyter server with jupyter-server-proxy between the clients and the server in a kernel."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.server.javascript import node_command
from harmonia_lab import BlockingClient, HarmoniaError
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.widgets.panel import Panel
from tests.page.conftest import connected, song
from tests.server.conftest import GENERATION
from tests.server.engines import make_lab
from tests.waiting import PATIENCE_S, until
from tests.widgets.lab import chromium

pytestmark = pytest.mark.usefixtures("patience")

BASE, JUPYTER_TOKEN = "/user/ann/", "jupyter-secret"
CLIENT = Path(__file__).with_name("proxied_client.mts")


@dataclass
class Proxied:
    """origin: of the Jupyter server. path: Socket.IO's, through the proxy."""

    origin: str
    path: str
    token: str
    link: str

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

            def introduction():
                assert server.poll() is None, (folder / "log").read_text()
                for told in folder.glob("RUNTIME/jpserver-*.json"):
                    with contextlib.suppress(ValueError):  # it is being written
                        return json.loads(told.read_text())
                return None

            yield f"http://127.0.0.1:{until(introduction, 'a Jupyter server')['port']}"
        finally:
            server.terminate()
            server.wait(PATIENCE_S)


@pytest.fixture
def proxied(jupyter, tmp_path):
    with make_lab(tmp_path) as lab:
        server = None
        while server is None:
            with socket.socket() as free:  # the port is part of the address that clients are told
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            prefix = f"{BASE}proxy/{port}"
            try:
                server = lab.serve(port=port, public_url=f"{jupyter}{prefix}")
            except InvalidRequest as error:  # another process was faster
                if "is taken" not in error.message:
                    raise
        yield Proxied(jupyter, f"{prefix}/socket.io", server.token("ann"), server.link("ann"))


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_a_python_client_makes_a_song_and_downloads_it_through_the_proxy(proxied, transport):
    with BlockingClient(proxied.url, path=proxied.path, transports=[transport]) as client:
        client.connect(proxied.token)
        events = list(client.events(client.start("A small boat goes home.", seconds=1).generation_id))
    assert [(e.name, e.seq) for e in events if e.delivery == "lifecycle"] == GENERATION
    address = events[-1].audio_url
    assert address.startswith(proxied.origin + proxied.path.removesuffix("/socket.io"))
    request = urllib.request.Request(address, headers={"Authorization": f"token {JUPYTER_TOKEN}"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        assert answer.read(4) == b"fLaC"


@pytest.mark.parametrize("known", [True, False])
def test_a_panel_shows_a_song_with_all_its_files_through_the_proxy(proxied, jupyter, known):
    """known: whether the server was told the proxy's address, which its links then have."""
    with BlockingClient(proxied.url, path=proxied.path) as client:
        client.connect(proxied.token)
        generation_id = client.start("A small boat goes home.", seconds=1).generation_id
        panel = Panel(proxied.url, proxied.token, generation_id, path=proxied.path)
        assert panel.settled.wait(PATIENCE_S)
    if not known:
        source = panel._source
        prefix = proxied.path.removesuffix("socket.io")
        fetch = source._fetch
        source._fetch = lambda link, token=None: fetch(link.replace(f"{jupyter}{prefix}", "http://127.0.0.1:9/"), token)
    files = panel._source.files()
    assert {"song.flac", "song.mid", "overview.png"} <= set(files)
    assert files["song.flac"]().startswith(b"fLaC")
    assert files["overview.png"]().startswith(b"\x89PNG")
    assert panel._song.audio
    panel.close()


TRANSPILE = """
const [source, target] = process.argv.slice(1);
const { transpileModule } = require('typescript');
const options = { target: 'es2022', module: 'es2022' };
const fs = require('node:fs');
fs.writeFileSync(target, transpileModule(fs.readFileSync(source, 'utf8'), { compilerOptions: options }).outputText);
"""


@pytest.fixture(scope="module")
def client_program(javascript, tmp_path_factory):
    """The client in TypeScript, without its types, which `tests/protocol/test_generated.py` checks."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "node_modules").symlink_to(javascript / "node_modules")
    program = folder / CLIENT.with_suffix(".mjs").name
    subprocess.run([*node_command(), "-e", TRANSPILE, str(CLIENT), str(program)], cwd=folder, timeout=600, check=True)
    return program


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_a_typescript_client_makes_a_song_through_the_proxy(proxied, client_program, transport):
    arguments = [proxied.origin, proxied.path, JUPYTER_TOKEN, proxied.token, transport]
    done = subprocess.run(
        [*node_command(), str(client_program), *arguments], capture_output=True, text=True, timeout=600, check=True
    )
    answer = json.loads(done.stdout)
    assert "error" not in answer
    heard = answer["heard"]
    assert [(n, e["seq"]) for n, e in heard if n in dict(GENERATION) and not n.endswith("progress")] == GENERATION
    assert (answer["seconds"], answer["url"].startswith(proxied.origin + BASE)) == (1, True)


def test_neither_token_replaces_the_other(proxied):
    for url, token in ((proxied.origin, proxied.token), (proxied.url, "bad")):
        with BlockingClient(url, path=proxied.path) as client, pytest.raises(HarmoniaError):
            client.connect(token)
    address = f"{proxied.origin}{proxied.path.removesuffix('socket.io')}healthz"
    with urllib.request.urlopen(address, timeout=PATIENCE_S) as answer:  # Jupyter redirects to its login page
        assert "/login" in answer.url
    with urllib.request.urlopen(f"{address}?token={JUPYTER_TOKEN}", timeout=PATIENCE_S) as answer:
        assert answer.url.startswith(address)


PLAYING = "() => globalThis[Symbol.for('harmonia.player')].sounding?.position > 0"


@pytest.mark.stress
def test_the_page_starts_a_song_plays_it_and_saves_it_through_the_proxy(proxied):
    """For somebody who is signed in to Jupyter by its cookie."""
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_S * 1000)  # against hangs alone
        faults = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"{proxied.origin}{BASE}login?token={JUPYTER_TOKEN}")
        page.goto(proxied.link)
        connected(page)
        assert page.url == proxied.link.partition("#")[0]
        page.get_by_label("Story", exact=True).fill("A small boat goes home.")
        page.get_by_label("Seconds", exact=True).fill("2")
        page.get_by_role("button", name="Make a song").click()
        card = song(page, "completed")
        card.get_by_role("slider").wait_for()
        card.get_by_role("button", name="Play").click()
        page.wait_for_function(PLAYING)
        with page.expect_download() as saved:
            card.get_by_role("button", name="Download", exact=True).click()
        assert Path(saved.value.path()).read_bytes().startswith(b"fLaC")
        assert faults == []
