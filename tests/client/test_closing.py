"""Nothing of a client's connection outlives its event loop: no session, no transport, whenever it was cancelled."""

import asyncio
import contextlib
import ssl
from asyncio import selector_events

import aiohttp
import pytest

from harmonia_lab.client import Client
from harmonia_lab.testing import FakeOllama
from tests.server.conftest import serving
from tests.server.test_server_thread import make_certificate


@pytest.fixture
def transports(monkeypatch):
    """Every asyncio transport of a socket that is made in the test."""
    made, init = [], selector_events._SelectorTransport.__init__

    def remembered(self, *arguments, **named):
        init(self, *arguments, **named)
        made.append(self)

    monkeypatch.setattr(selector_events._SelectorTransport, "__init__", remembered)
    yield made
    for transport in made:  # or the garbage collector finds them in another test
        if transport._sock is not None:
            transport._sock.close()
            transport._sock = None


def unclosed(transports):
    return [transport for transport in transports if transport._sock is not None]


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    """(server, trust) over TLS."""
    folder = tmp_path_factory.mktemp("secured")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    make_certificate(certificate, key)
    with serving(folder, certificate=str(certificate), private_key=str(key)) as server:
        yield server, ssl.create_default_context(cafile=str(certificate))


@pytest.mark.parametrize("names", [["websocket"], ["polling"], ["polling", "websocket"]])
def test_a_cancel_in_the_middle_of_disconnecting_leaves_nothing_open(tmp_path, transports, names):
    """python-engineio's loops opened a session of their own once ours was closed; half a disconnect closed nothing."""
    sessions = []

    def session():
        sessions.append(aiohttp.ClientSession())
        return sessions[-1]

    async def main(server, turns):
        client = Client(server.url, transports=names, session=session)
        await client.connect(server.token("ann"))
        leaving = asyncio.create_task(client.disconnect())
        for _ in range(turns):
            await asyncio.sleep(0)
        leaving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leaving

    with serving(tmp_path) as server:
        for turns in (1, 2, 3, 5, 8, 12):
            asyncio.run(main(server, turns))
            assert unclosed(transports) == [], turns
            assert all(session.closed for session in sessions)


def test_a_connection_over_tls_is_closed_before_its_loop_ends(secured, transports):
    """aiohttp closes it politely, and doesn't wait for the server's answer."""
    server, trust = secured

    async def main(names):
        connector = {"session": lambda: aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust))}
        async with Client(server.url, transports=names, **connector) as client:
            await client.connect(server.token("ann"))
            await client.subscribe_to_user_jobs()

    for names in (["websocket"], ["polling"]) * 3:
        asyncio.run(main(names))
        assert unclosed(transports) == []


def test_a_fake_ollama_over_tls_ends_with_its_clients_connected(tmp_path, transports):
    make_certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    with FakeOllama(tls=context) as server:
        from http.client import HTTPSConnection

        connection = HTTPSConnection(server.url.removeprefix("https://"), context=trust)
        connection.request("GET", "/api/version")
        assert connection.getresponse().status == 200
    assert unclosed(transports) == []
    assert transports
    connection.close()
