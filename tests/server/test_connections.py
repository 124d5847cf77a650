"""TCP connections that say nothing, too little or junk; caps; and what is left for songs when descriptors run out."""

import asyncio
import contextlib
import json
import logging
import socket
import sys
import time
from pathlib import Path

import pytest

from harmonia_lab.child_process import ChildProcess
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.server.client_address import ClientAddresses
from harmonia_lab.server.descriptors import Descriptors
from harmonia_lab.storage import package_environment
from tests.server.conftest import Ear, serving
from tests.waiting import PATIENCE_S, until

HEAD = b"HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    """A server that waits half a second for what a client has to say."""
    with serving(tmp_path_factory.mktemp("hasty"), read_timeout_s=0.5, idle_timeout_s=0.5) as server:
        yield server


def connected(server):
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


def everything(connection):
    """What the server says until it closes the connection, which it does by itself."""
    said = b""
    with connection, contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            said += data
    return said


def test_who_says_nothing_or_too_little_is_disconnected(hasty):
    token = hasty.token("ann").encode()
    post = b"POST /api/generations " + HEAD + b"Authorization: Bearer " + token + b"\r\nContent-Length: 100\r\n\r\n{"
    socketio = b"GET /socket.io/?EIO=4&transport=polling " + HEAD + b"\r\n"
    for said, status in (
        (b"", b""),
        (b"GET /healthz HT", b""),
        (b"GET /healthz " + HEAD + b"X-Half", b""),
        (b"GET /healthz " + HEAD + b"\r\n", b"200"),  # kept for the next request, but not for good
        (post, b"408"),
        (b"POST /healthz " + HEAD + b"Content-Length: 100\r\n\r\n{", b"405"),
        (socketio, b"200"),
    ):
        connection = connected(hasty)
        connection.sendall(said)
        answer = everything(connection)
        assert answer[9:12] == status, said


def test_half_a_body_of_a_poll_ends_its_session(hasty):
    connection = connected(hasty)
    connection.sendall(b"GET /socket.io/?EIO=4&transport=polling " + HEAD + b"\r\n")
    opened = connection.recv(65536)
    sid = json.loads(opened[opened.index(b"0{") + 1 :])["sid"].encode()
    connection.sendall(b"POST /socket.io/?EIO=4&transport=polling&sid=" + sid + b" " + HEAD)
    connection.sendall(b"Content-Length: 100\r\n\r\n40")
    assert everything(connection)[9:12] == b"400"
    until(lambda: sid.decode() not in hasty._app._sockets.eio.sockets)


@pytest.mark.parametrize(
    "junk",
    [b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nAuthorization: Bearer s3cret\x00\r\n\r\n"],
)
def test_what_is_no_http_is_answered_without_naming_the_server_and_logged_without_its_text(hasty, caplog, junk):
    with caplog.at_level(logging.DEBUG):
        connection = connected(hasty)
        connection.sendall(junk)
        connection.shutdown(socket.SHUT_WR)
        answer = everything(connection)
    assert b"Server:" not in answer
    if answer:  # half a TLS greeting may be the beginning of a request
        assert b'"INVALID_PAYLOAD"' in answer
    for record in caplog.records:
        assert "s3cret" not in record.getMessage()
        assert record.exc_info is None


def test_the_log_has_one_line_for_a_flood_of_junk(hasty, caplog):
    with caplog.at_level(logging.INFO, "harmonia_lab"):
        for _ in range(30):
            connection = connected(hasty)
            connection.sendall(b"no http\r\n\r\n")
            assert everything(connection)[9:12] == b"400"
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) <= 1


def test_beyond_the_cap_a_connection_is_told_when_to_come_again(tmp_path):
    with serving(tmp_path, max_connections=1) as server:  # 102 TCP connections
        held = [connected(server) for _ in range(102)]
        until(lambda: server._app._connections.total == 102)
        answer = everything(connected(server))
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"Retry-After: 5\r\n" in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["details"] == {"retryAfter": 5}
        for connection in held:
            connection.close()
        until(lambda: server._app._connections.total == 0)
        connection = connected(server)
        connection.sendall(b"GET /healthz " + HEAD + b"Connection: close\r\n\r\n")
        assert everything(connection).startswith(b"HTTP/1.1 200")


SERVED = """
import json, resource, sys, pathlib
resource.setrlimit(resource.RLIMIT_NOFILE, (120, 120))
from harmonia_lab.protocol.models import SongRequest
from tests.server.engines import make_lab
folder = pathlib.Path(sys.argv[1])
with make_lab(folder) as lab:
    server = lab.serve(port=0, read_timeout_s=3600.0)
    print(json.dumps({"url": server.url, "token": server.token("ann")}), flush=True)
    sys.stdin.readline()
    song = lab.submit("A small boat goes home.", seconds=1).result(60)
    print(json.dumps({"song": song.audio_path}), flush=True)
    sys.stdin.readline()
"""


def test_songs_are_made_while_strangers_hold_every_connection_that_there_is(tmp_path):
    (tmp_path / "served.py").write_text(SERVED)
    child = ChildProcess(
        [sys.executable, str(tmp_path / "served.py"), str(tmp_path)],
        environment=package_environment() | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    held = []
    try:
        line = child.stdout.readline()
        assert line, child.exit_text()
        told = json.loads(line)
        host, port = told["url"].removeprefix("http://").split(":")
        refused = 0
        while not refused:  # under the limit of 120, a quarter is kept for the process's own files
            assert len(held) < 120
            held.append(socket.create_connection((host, int(port)), timeout=PATIENCE_S))
            held[-1].settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                refused = held[-1].recv(4096).startswith(b"HTTP/1.1 503")
        child.stdin.write(b"song\n")
        child.stdin.flush()
        assert json.loads(child.stdout.readline())["song"].endswith("song.flac")
        for connection in held[: len(held) // 2]:
            connection.close()

        def served():
            with contextlib.closing(socket.create_connection((host, int(port)), timeout=PATIENCE_S)) as connection:
                connection.sendall(b"GET /readyz " + HEAD + b"\r\n")
                return connection.recv(4096).startswith(b"HTTP/1.1 200")

        until(served)
    finally:
        for connection in held:
            connection.close()
        child.close()


def test_the_soft_limit_is_raised_and_its_last_descriptors_are_kept():
    limits = Descriptors()
    assert limits.limit is None or limits.limit >= 1024
    limits.limit = 1024
    assert [limits.are_scarce(number) for number in (3, 767, 768, 2000)] == [False, False, True, True]
    limits.limit = 100
    assert [limits.are_scarce(number) for number in (74, 75)] == [False, True]


class Request:
    def __init__(self, remote, *forwarded):
        self.remote = remote
        self.headers = self
        self._forwarded = forwarded

    def getall(self, name, default):
        assert name == "X-Forwarded-For"
        return self._forwarded or default


@pytest.mark.parametrize(
    ("remote", "forwarded", "address"),
    [
        ("9.9.9.9", ["1.2.3.4"], "9.9.9.9"),  # not from a proxy: the header is the client's own word
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6, 1.2.3.4"], "1.2.3.4"),  # the left one is what the client sent
        ("10.0.0.1", ["6.6.6.6", "1.2.3.4, 10.0.0.7"], "1.2.3.4"),
        ("10.0.0.1", ["junk"], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4:5678"], "1.2.3.4"),
        ("::ffff:10.0.0.1", ['"[2001:db8::1]:99"'], "2001:db8::1"),
    ],
)
def test_an_address_is_a_trusted_proxys_word_or_the_connections_own(remote, forwarded, address):
    assert ClientAddresses(("10.0.0.0/8",)).of(Request(remote, *forwarded)) == address


def test_this_machines_and_a_proxys_connections_are_not_counted_by_address():
    addresses = ClientAddresses(("10.0.0.1",))
    shown = {a: addresses.is_limited(a) for a in ("127.0.0.1", "::1", "10.0.0.1", "10.0.0.2", "2001:db8::1", "")}
    assert [a for a, limited in shown.items() if limited] == ["10.0.0.2", "2001:db8::1"]
    with pytest.raises(InvalidRequest, match="trusted_proxies"):
        ClientAddresses(("proxy.example",))


def test_behind_a_trusted_proxy_each_address_has_its_own_cap(tmp_path):
    settings = {"trusted_proxies": ("127.0.0.1",), "max_connections_per_address": 2}

    def opened(server, address):
        connection = connected(server)
        head = HEAD + b"X-Forwarded-For: " + address + b"\r\nConnection: close\r\n\r\n"
        connection.sendall(b"GET /socket.io/?EIO=4&transport=polling " + head)
        return everything(connection)[9:12]

    with serving(tmp_path, **settings) as server:
        assert [opened(server, b"1.2.3.4") for _ in range(3)] == [b"200", b"200", b"401"]
        assert opened(server, b"1.2.3.5") == b"200"


def test_a_user_has_so_many_sockets_and_gets_another_when_one_is_closed(tmp_path):
    async def main(server):
        async with Ear(server) as first, Ear(server):
            with pytest.raises(Exception, match="failed to connect"):
                async with Ear(server):
                    pass
            async with Ear(server, "bob"):
                pass
            await first.close()
            deadline = time.monotonic() + PATIENCE_S
            while server.metrics().connections > 1:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)
            async with Ear(server):
                pass

    with serving(tmp_path, max_sockets_per_user=2) as server:
        asyncio.run(main(server))
