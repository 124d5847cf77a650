"""A lab with engines that need nothing, a server on a free port, and clients that record every event."""

import asyncio
import contextlib

import pytest
import socketio

from harmonia_lab.client.connection import close_socket
from tests.server.engines import make_lab
from tests.waiting import PATIENCE_S


class Ear:
    """A Socket.IO client that records events. heard: (name, payload) of every event, in order."""

    def __init__(self, server, user="ann", *, roles=(), transport="websocket", token=None):
        self.server, self.transport = server, transport
        self.token = token if token is not None else server.token(user, roles=roles)
        self.io = socketio.AsyncClient(reconnection=False)
        self.heard = []
        self.gone = asyncio.Event()
        self._news = asyncio.Condition()
        self.io.on("*", self._hear)
        self.io.on("disconnect", self.gone.set)

    async def _hear(self, name, *payload):
        self.heard.append((name, payload[0] if payload else None))
        async with self._news:
            self._news.notify_all()

    async def __aenter__(self):
        try:
            await self.io.connect(
                self.server.url, auth={"token": self.token}, transports=[self.transport], wait_timeout=PATIENCE_S
            )
            await self.until("server-hello")
        except BaseException:
            await self.close()  # or its connection is closed by the garbage collector, in the middle of another test
            raise
        return self

    async def __aexit__(self, *_):
        await self.close()

    async def close(self):
        """Disconnect, and close the HTTP session and the socket that the library leaves open after a broken connection:
        its transport would outlive the event loop."""
        websocket = self.io.eio.ws
        sock = websocket.get_extra_info("socket") if websocket else None
        await self.io.disconnect()
        if self.io.eio.http is not None:
            await self.io.eio.http.close()
            await asyncio.sleep(0)
        if sock is not None:
            await close_socket(sock)

    async def ask(self, name, *payload):
        return await self.io.call(name, *payload, timeout=PATIENCE_S)

    async def tell(self, name, *payload):
        await self.io.emit(name, *payload)

    async def until(self, *names, count=1):
        """Wait for the `count`-th event with one of these names, and return its payload."""

        async def found():
            async with self._news:
                await self._news.wait_for(lambda: len(self.of(*names)) >= count)

        await asyncio.wait_for(found(), PATIENCE_S)
        return self.of(*names)[count - 1]

    def of(self, *names):
        return [payload for name, payload in self.heard if name in names]

    def lifecycle(self, family="generation"):
        """Return (name, seq) of the lifecycle events, in the order of arrival."""
        prefix = "job:" if family == "job" else ("metadata-", "audio-generation", "generation-")
        named = [(n, p) for n, p in self.heard if n.startswith(prefix) and not n.endswith("progress")]
        return [(n, p["seq"]) for n, p in named if n != "generation-shared"]


@pytest.fixture
def lab(tmp_path):
    with make_lab(tmp_path) as lab:
        yield lab


@pytest.fixture
def server(lab):
    return lab.serve(port=0)


@contextlib.contextmanager
def serving(folder, *, metadata=None, audio=None, **settings):
    """Serve a lab with these engines. The lab is `server.lab`."""
    with make_lab(folder, metadata=metadata, audio=audio) as lab:
        server = lab.serve(port=0, **settings)
        server.lab = lab
        yield server


GENERATION = [
    ("metadata-generation-started", 1),
    ("metadata-generation-complete", 2),
    ("audio-generation-started", 3),
    ("audio-generation-complete", 4),
]
JOB = [("job:status", 1), ("job:status", 2), ("job:completed", 3), ("job:status", 4)]
