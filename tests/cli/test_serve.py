"""`harmonia serve` and `harmonia token`."""

import asyncio
import json
import signal
import socket
import subprocess
import urllib.error
import urllib.request

import pytest
import socketio

from harmonia_lab.backends.serve_settings import LabSettings, ServeSettings
from harmonia_lab.cli.arguments import make_parser
from harmonia_lab.cli.serve import _how_to_get_a_token
from harmonia_lab.errors import Refused
from harmonia_lab.server.server_thread import new_tokens
from harmonia_lab.server.settings import ServerSettings
from tests.waiting import until


@pytest.fixture
def serve(harmonia):
    """Starts `harmonia serve` with these options; (process, what it prints)."""
    started = []

    def start(*options):
        process = harmonia.start("serve", "--port", "0", "--json", *options, stdin=subprocess.PIPE)
        started.append(process)
        return process, json.loads(process.stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.wait(300)
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()


def test_a_token_from_the_command_line_opens_the_server_beside_it(harmonia, serve):
    """Settings of a file hold where the command line says nothing else: it gives `--port 0`."""
    (harmonia.folder / "serve.json").write_text(
        json.dumps({"lab": {"metadata": "ollama"}, "server": {"port": 1, "public_url": "https://songs.example"}})
    )
    _, said = serve("--settings", "serve.json")
    assert said["url"] == "https://songs.example"
    url = said["localUrl"]
    token = harmonia("token", "ann", "--role", "admin", "--ttl", "60").stdout.decode().strip()

    async def main():
        io = socketio.AsyncClient(reconnection=False)
        hello = asyncio.get_running_loop().create_future()
        io.on("server-hello", hello.set_result)
        try:
            await io.connect(url, auth={"token": token}, transports=["websocket"])
            assert (await asyncio.wait_for(hello, 60))["user"] == {"id": "ann", "roles": ["admin"]}
        finally:
            await io.disconnect()

    asyncio.run(main())
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        urllib.request.urlopen(url + "/api/generations")
    refused.value.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, "stdin"])
def test_it_ends_by_itself_when_it_is_told_or_when_its_starter_is_gone(serve, how):
    process, _ = serve(*(["--attached"] if how == "stdin" else []))
    if how == "stdin":
        process.stdin.close()
    else:
        process.send_signal(how)
    assert process.wait(300) == 0


def test_a_taken_port_is_said_in_one_line(harmonia):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = harmonia.process("serve", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert b"is taken" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["token"],
        ["token", ""],
        ["token", "--revoke"],
        ["token", "ann", "--ttl", "0"],
        ["token", "ann", "--revoke", "--rotate"],
        ["token", "--revoke-id", ""],
        ["serve", "--port", "70000"],
        ["serve", "--host", "0.0.0.0"],
        ["serve", "--host", "0.0.0.0", "--trusted-proxy", "nobody"],
    ],
)
def test_what_cannot_be_used_is_bad_usage(harmonia, arguments):
    done = harmonia(*arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("source", ["nowhere.json", "-"])
def test_settings_that_are_none_are_bad_usage(harmonia, source):
    done = harmonia("serve", "--settings", source, stdin=b"{\n")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Traceback" not in done.stderr


def test_tokens_are_revoked_and_their_key_is_changed_from_the_command_line(harmonia):
    home = harmonia.home
    issued = json.loads(harmonia("token", "ann", "--json").stdout)
    assert issued.keys() == {"token", "id", "expiresAt"}
    other = harmonia("token", "ann").stdout.decode().strip()
    tokens = new_tokens(ServerSettings(), home)
    assert tokens.check(issued["token"]).token_id == issued["id"]
    assert b"revoked" in harmonia("token", "--revoke-id", issued["id"]).stdout
    with pytest.raises(Refused, match="revoked"):
        tokens.check(issued["token"])
    assert tokens.check(other).user == "ann"
    assert json.loads(harmonia("token", "ann", "--revoke", "--json").stdout) == {"revokedUser": "ann"}
    with pytest.raises(Refused, match="revoked"):
        tokens.check(other)
    whole = harmonia("token", "bob").stdout.decode().strip()
    assert whole.encode() not in harmonia("token", "--revoke-id", whole).stdout  # a whole token does as well
    with pytest.raises(Refused, match="revoked"):
        tokens.check(whole)
    assert harmonia("token", "--revoke-id", "a.b.c").returncode == 2
    newest = harmonia("token", "ann").stdout.decode().strip()
    for rotations in (1, 2):
        assert harmonia("token", "--rotate").returncode == 0
        if rotations == 1:
            assert tokens.check(newest).user == "ann"
    with pytest.raises(Refused, match="another key"):
        tokens.check(newest)


def test_a_token_needs_no_settings_of_web_pages(harmonia):
    harmonia.environment["FRONTEND_URL"] = "*"
    assert harmonia("token", "ann").returncode == 0
    done = harmonia("serve", "--port", "0")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"no web page's origin" in done.stderr


@pytest.mark.parametrize(
    ("server", "home", "source", "told"),
    [
        ({}, None, None, "harmonia token NAME"),
        ({"key": "other.key"}, None, "my serve.json", "harmonia token NAME --settings 'my serve.json'"),
        ({"audience": "songs"}, None, "-", "whoever has its key"),
        ({}, "/elsewhere", "serve.json", "--settings serve.json"),
        (
            {"public_keys": "jwks.json", "issuer": "https://id.example"},
            None,
            None,
            'tokens of the issuer "https://id.example"',
        ),
    ],
)
def test_the_banner_offers_only_tokens_that_the_server_takes(monkeypatch, tmp_path, server, home, source, told):
    monkeypatch.setenv("HARMONIA_HOME", str(tmp_path))
    given = ServeSettings(server=ServerSettings(**server), lab=LabSettings(home=home))
    said = _how_to_get_a_token(given, source)
    assert told in said
    assert ("harmonia token NAME" in said) is (told.startswith(("harmonia", "--settings")))


def test_a_token_is_issued_under_the_servers_own_settings(harmonia):
    (harmonia.folder / "serve.json").write_text(json.dumps({"server": {"audience": "songs", "key": "other.key"}}))
    token = harmonia("token", "ann", "--settings", "serve.json").stdout.decode().strip()
    settings = ServerSettings(audience="songs", key=harmonia.folder / "other.key")
    assert new_tokens(settings, harmonia.home).check(token).user == "ann"


def test_it_logs_who_did_what_unless_it_is_told_not_to(harmonia, serve):
    _, said = serve()
    urllib.request.urlopen(said["url"] + "/healthz").close()
    log = harmonia.home / "audit.jsonl"
    until(log.read_text)
    assert json.loads(log.read_text())["what"] == "GET /healthz"
    parse = lambda *given: make_parser(["serve"]).parse_args(["serve", *given]).audit  # noqa: E731
    assert (parse(), parse("--no-audit"), parse("--audit", "a")) == (None, False, "a")
