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


@pytest.mark.parametrize("arguments", [["token", ""], ["token", "ann", "--ttl", "0"], ["serve", "--port", "70000"]])
def test_what_cannot_be_used_is_bad_usage(harmonia, arguments):
    done = harmonia(*arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("source", ["nowhere.json", "-"])
def test_settings_that_are_none_are_bad_usage(harmonia, source):
    done = harmonia("serve", "--settings", source, stdin=b"{\n")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Traceback" not in done.stderr
