"""The page's routes: who may load it, with which headers, what its player is told, and where its link is printed."""

import asyncio
import gzip
import json
import sys
from urllib.parse import urlsplit

import aiohttp
import jwt
import pytest

from harmonia_lab.cli import main
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.server.origins import Origins
from harmonia_lab.server.page import FILES
from harmonia_lab.watching import show_link
from tests.server.conftest import serving
from tests.server.test_http import call
from tests.waiting import PATIENCE_S


def load(server, path, **headers):
    return call(server, "GET", path, user=None, headers=headers)


@pytest.fixture(scope="module")
def done(served):
    """A server with ann's song "done"."""
    served.gate.set()
    request = SongRequest(narrative="A small boat goes home.", seconds=2, seed=7, generation_id="done")
    served.lab.submit_request(request, user="ann").result(PATIENCE_S)
    return served


@pytest.mark.parametrize(("path", "file"), [("/", "index.html"), ("/page.js", "page.js"), ("/page.css", "page.css")])
def test_anybody_may_load_the_page_which_may_do_nothing_but_talk_to_its_server(done, path, file):
    status, headers, body = load(done, path)
    assert (status, body) == (200, (FILES / file).read_bytes())
    policy = dict(each.strip().split(" ", 1) for each in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {policy["script-src"], policy["style-src"], policy["connect-src"]} == {"'self'"}
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert b"boat" not in body
    again = load(done, path, **{"If-None-Match": headers["ETag"]})
    assert (again[0], again[2]) == (304, b"")


def test_the_page_is_told_sockets_path_as_text(tmp_path):
    with serving(tmp_path, path='/ws/"><b>') as server:
        text = load(server, "/")[2].decode()
    assert 'content="ws/&quot;&gt;&lt;b&gt;"' in text


def test_a_server_without_the_page_has_none(tmp_path):
    with serving(tmp_path, page=False) as server:
        assert {load(server, path)[0] for path in ("/", "/page.js")} == {404}
        with pytest.raises(InvalidRequest, match="has no page"):
            server.link()
        assert not show_link(server)


def test_the_player_gets_what_it_shows_without_a_path_of_ours(done):
    status, _, body = call(done, "GET", "/api/generations/done/player")
    song = json.loads(body)["song"]
    assert (status, song["title"], song["seconds"], song["about"][0]) == (200, "A Small Boat", 2.0, ["Seed", "7"])
    assert [stem["file"] for stem in song["stems"]] == ["stems/1-piano.flac", "stems/2-double-bass.flac"]
    assert str(done.lab.songs) not in body.decode()
    assert "Folder" not in body.decode()
    assert call(done, "GET", "/api/generations/done/player", user="bob")[0] == 404


def test_the_link_has_the_token_in_its_fragment_which_no_server_is_sent(served):
    parts = urlsplit(served.link("ann"))
    assert (f"{parts.scheme}://{parts.netloc}", parts.path, parts.query) == (served.url, "/", "")
    claims = jwt.decode(parts.fragment.removeprefix("token="), options={"verify_signature": False})
    assert (claims["sub"], claims["roles"]) == ("ann", [])


class Terminal:
    def __init__(self, seen):
        self.seen, self.text = seen, ""

    def isatty(self):
        return self.seen

    def write(self, text):
        self.text += text

    def flush(self):
        pass


@pytest.mark.parametrize("seen", [True, False])
def test_the_link_is_printed_where_a_person_looks_and_not_where_a_log_may_be(served, monkeypatch, seen):
    monkeypatch.setattr(sys, "stdout", Terminal(seen))
    assert show_link(served) is seen
    assert ("#token=" in sys.stdout.text) is seen


def test_a_command_prints_the_link_for_somebody_else(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HARMONIA_HOME", str(tmp_path))
    assert main(["token", "bob", "--link", "https://songs.example/lab/7"]) == 0
    assert capsys.readouterr().out.startswith("https://songs.example/lab/7/#token=")
    assert main(["token", "bob", "--link", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["link"] == f"http://127.0.0.1:3333/#token={told['token']}"


def test_the_own_page_may_connect_whatever_origins_say_and_no_other_page_by_its_host():
    origins = Origins(("https://songs.example",))
    assert not origins.allow("http://127.0.0.1:3333")
    origins.allow_own(["https://lab.example/user/ann/proxy/3333", "http://127.0.0.1:3333"])
    for own in ("https://lab.example", "http://127.0.0.1:3333", "http://localhost:3333", "https://songs.example"):
        assert origins.allow(own), own
    for other in ("https://evil.example", "http://127.0.0.1:3334", "http://lab.example", "null", None, ""):
        assert not origins.allow(other), other


def test_a_page_of_another_name_that_leads_here_is_refused(tmp_path):
    """Its Host header is its own name: DNS rebinding."""

    async def handshake(server, origin):
        host = urlsplit(origin).netloc
        async with aiohttp.ClientSession() as session:
            address = f"{server.url}/socket.io/?EIO=4&transport=polling"
            async with session.get(address, headers={"Origin": origin, "Host": host}) as answer:
                return answer.status

    with serving(tmp_path, origins=("https://songs.example",)) as server:
        assert asyncio.run(handshake(server, server.url)) == 200
        assert asyncio.run(handshake(server, "http://evil.example:3333")) == 400


def test_the_page_comes_compressed_to_whoever_takes_it(served):
    async def size():
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.get(f"{served.url}/page.js", headers={"Accept-Encoding": "gzip"}) as answer,
        ):
            return answer.headers["Content-Encoding"], await answer.read()

    encoding, body = asyncio.run(size())
    assert encoding == "gzip"
    assert gzip.decompress(body) == (FILES / "page.js").read_bytes()
