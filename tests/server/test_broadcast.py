"""The bytes, and the internals of Engine.IO and python-socketio that `broadcast.py` and `transport.py` depend on."""

import asyncio
import contextlib
import inspect
import json

import engineio
import pytest
import socketio
from engineio.async_socket import AsyncSocket
from wsproto.frame_protocol import FrameProtocol, Opcode

from harmonia_lab.protocol.event_codec import encode
from harmonia_lab.server import broadcast, encoding
from harmonia_lab.server.broadcast import IdleQueue, Wire, is_tested_engineio
from harmonia_lab.server.connected_client import ConnectedClient
from harmonia_lab.server.encoding import EncodedMessage
from tests.protocol.test_events import EXAMPLES
from tests.server.conftest import Ear, serving
from tests.server.engines import Writer
from tests.waiting import until_so

STORY = {"narrative": "A small boat goes home.", "seconds": 1}


@pytest.mark.parametrize("size", [0, 50, 125, 126, 1000, 65_535, 65_536, 200_000])
def test_a_frame_is_what_a_websocket_client_reads(size):
    reader = FrameProtocol(client=True, extensions=[])
    reader.receive_bytes(encoding._frame("x" * size) + encoding._frame(b"y" * size))
    frames = list(reader.received_frames())
    assert [(f.opcode, f.payload, f.message_finished) for f in frames] == [
        (Opcode.TEXT, "x" * size, True),
        (Opcode.BINARY, b"y" * size, True),
    ]


def test_an_event_is_encoded_as_python_socketio_does_it():
    payload = {"a": 1, "text": "ä \u2028"}
    message = EncodedMessage.event("name", payload)
    stock = socketio.packet.Packet(socketio.packet.EVENT, data=["name", payload], namespace="/").encode()
    assert [packet.encode() for packet in message.packets] == [f"4{stock}"]
    assert message.packets is message.packets
    binary = EncodedMessage.event("audio-preview", {"audio": b"\x00\x01"})
    assert [packet.encode() for packet in binary.packets] == [
        '451-["audio-preview",{"audio":{"_placeholder":true,"num":0}}]',
        b"\x00\x01",
    ]


ODD = EXAMPLES["metadata-generation-progress"].model_copy(update={"status": 'ä \u2028 " \x1e 🎵', "progress": 1e-7})


@pytest.mark.parametrize("event", [*EXAMPLES.values(), ODD], ids=lambda event: event.name)
def test_an_event_in_one_step_says_what_the_library_would_say(event):
    stock, *attachments = EncodedMessage.event(*encode(event)).packets
    ours, *same = EncodedMessage.of(event).packets
    assert ours.data[:1] == stock.data[:1]
    assert json.loads(ours.data[ours.data.index("[") :]) == json.loads(stock.data[stock.data.index("[") :])
    assert [packet.encode() for packet in same] == [packet.encode() for packet in attachments]


def test_an_attachment_reaches_pollers_and_websockets_each_in_their_own_form():
    class Engine:
        closed = False

    pollers, websockets = Engine(), Engine()
    message = EncodedMessage.event("audio-preview", {"audio": b"\x00\x01"})
    read = []
    for engine in (pollers, websockets):
        engine.queue = IdleQueue()
        Wire(framed=False, drop=print).send(ConnectedClient("s", "e", engine, None, ""), message)
        read.append([engine.queue.get_nowait().encode(b64=engine is pollers) for _ in range(2)][1])
    assert read == ["bAAE=", b"\x00\x01"]
    assert message.frames.endswith(b"\x82\x02\x00\x01")


def test_the_installed_versions_are_those_that_this_was_tested_with():
    assert is_tested_engineio()


def test_the_inside_of_the_libraries_is_as_this_leans_on_it():
    assert list(inspect.signature(socketio.AsyncServer._handle_event).parameters) == [
        "self",
        "eio_sid",
        "namespace",
        "id",
        "data",
    ]
    assert list(inspect.signature(socketio.AsyncServer._handle_connect).parameters) == [
        "self",
        "eio_sid",
        "namespace",
        "data",
    ]
    for name in ("_handle_eio_connect", "_handle_eio_message", "_handle_eio_disconnect"):
        assert hasattr(socketio.AsyncServer, name)
    source = inspect.getsource(AsyncSocket._websocket_handler)
    # One reader of the queue, which takes packets and sends them; nothing else writes to the socket after the upgrade.
    assert "packets = await self.poll()" in source
    assert source.count("ws.send(") == 2  # the probe's answer, and the writer
    server = engineio.AsyncServer(async_mode="aiohttp")
    server.create_queue = IdleQueue  # as `SocketServer` does
    engine = AsyncSocket(server, "sid")
    assert isinstance(engine.queue, IdleQueue)
    assert (engine.upgraded, engine.closed) == (False, False)


def test_a_queue_knows_when_its_reader_waits():
    async def main():
        queue = IdleQueue()
        assert queue.waiting == 0
        reader = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        assert queue.waiting == 1
        packet = engineio.packet.Packet(engineio.packet.MESSAGE, "x" * 7)
        queue.put_nowait(packet)
        assert (await reader, queue.waiting, queue.size) == (packet, 0, 0)
        queue.put_nowait(packet)
        queue.put_nowait(None)  # as at a session's end
        assert queue.size == 7

    asyncio.run(main())


class Transport:
    """A websocket's transport. fails: it has closed, and raises as uvloop's does."""

    def __init__(self, *, fails=""):
        self.fails, self.written = fails, []

    def _check(self, what):
        if what == self.fails:
            raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    def is_closing(self):
        self._check("is_closing")
        return False

    def get_write_buffer_size(self):
        self._check("get_write_buffer_size")
        return 0

    def write(self, data):
        self._check("write")
        self.written.append(data)


@pytest.mark.parametrize("fails", ["is_closing", "get_write_buffer_size", "write"])
def test_a_transport_that_closes_meanwhile_costs_nobody_but_its_own_client(fails):
    class Engine:
        closed = closing = False
        upgraded = True

        def __init__(self, transport):
            self.transport, self.queue = transport, IdleQueue()
            self.queue.waiting = True

    dropped = []
    wire = Wire(framed=True, drop=dropped.append)
    transports = [Transport(), Transport(fails=fails), Transport()]
    clients = [ConnectedClient("s", f"{n}", Engine(transport), None, "") for n, transport in enumerate(transports)]
    message = EncodedMessage.event("job:progress", {"tick": 1})
    busy = wire.write([wire.writable_socket(client) for client in clients], message)
    assert busy == ({clients[1]} if fails != "is_closing" else set())
    for client in clients:
        wire.send(client, message)
        wire.is_idle(client)
    assert set(dropped) == {"1"}
    for transport in (transports[0], transports[2]):
        assert transport.written == [message.frames] * 2


def test_sockets_that_leave_in_the_middle_of_a_song_rob_nobody_of_an_event(tmp_path):
    """Twenty stay, and twenty are cut one after the other, while two hundred events go out."""

    async def main(server):
        stay = [Ear(server) for _ in range(20)]
        async with contextlib.AsyncExitStack() as stack:
            for ear in stay:
                await stack.enter_async_context(ear)
                await ear.ask("join-generation", "one")
            leave = [Ear(server) for _ in range(20)]
            for ear in leave:
                await ear.__aenter__()
                await ear.ask("join-generation", "one")
            await stay[0].ask("start-generation", STORY | {"generationId": "one"})
            for ear in leave:
                ear.io.eio.ws._response.connection.transport.abort()
                await asyncio.sleep(0.02)
            done = [await ear.until("audio-generation-complete") for ear in stay]
            assert len({event["seq"] for event in done}) == 1
            heard = [[p["tick"] for p in ear.of("metadata-generation-progress")] for ear in stay]
            assert all(ticks == heard[0] for ticks in heard)
            assert len(heard[0]) >= 100
            for ear in leave:
                await ear.close()

    with serving(tmp_path, metadata=Writer(steps=200, step_s=0.005), progress_interval_s=0.0) as server:
        asyncio.run(main(server))


def test_an_idle_websocket_is_written_to_directly_and_a_polling_client_is_not(server, monkeypatch):
    ways = []
    send = Wire.send

    def note(self, client, message):
        before = client.engine.queue.qsize()
        send(self, client, message)
        ways.append((client.identity.user, "queue" if client.engine.queue.qsize() > before else "frame"))

    monkeypatch.setattr(Wire, "send", note)

    async def main():
        async with Ear(server, "ann") as ann, Ear(server, "bob", transport="polling") as bob:
            await ann.ask("jobs:subscribe:user")
            await bob.ask("jobs:subscribe:user")
            (engine,) = [c.engine for c in server._app.gateway.clients.values() if c.identity.user == "ann"]
            await until_so(lambda: engine.queue.waiting, "a socket that has sent everything")
            ways.clear()
            await ann.ask("start-generation", STORY)
            await bob.ask("start-generation", STORY)
            await ann.until("job:completed")
            await bob.until("job:completed")

    asyncio.run(main())
    assert ways.count(("ann", "frame")) > 10 * ways.count(("ann", "queue")) / 2
    assert {way for user, way in ways if user == "bob"} == {"queue"}


@pytest.mark.parametrize("options", [{"compression": True}, {"fast_broadcast": False}])
def test_with_compression_or_by_wish_packets_go_through_the_queues(tmp_path, options):
    with serving(tmp_path, **options) as server:
        assert not server._app._sockets.wire.framed

        async def main():
            async with Ear(server) as ear:
                await ear.ask("start-generation", STORY)
                await ear.until("audio-generation-complete")

        asyncio.run(main())


def test_another_engineio_is_served_through_the_queues(tmp_path, monkeypatch):
    monkeypatch.setattr(broadcast, "TESTED_VERSIONS", ((9, 0), (10, 0)))
    with serving(tmp_path) as server:
        assert not server._app._sockets.wire.framed


def test_a_polling_client_that_upgrades_hears_everything_once(server):
    async def main():
        ear = Ear(server)
        await ear.io.connect(server.url, auth={"token": ear.token})  # polls first, then upgrades
        await ear.ask("start-generation", STORY)
        await ear.until("audio-generation-complete")
        assert [seq for _, seq in ear.lifecycle()] == [1, 2, 3, 4]
        assert ear.io.transport() == "websocket"
        await ear.close()

    asyncio.run(main())
