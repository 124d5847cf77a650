"""What each socket gets: no event lost or repeated, no progress that goes back, no socket slowed down by another.

Every test runs on both wires: frames written to idle sockets, and Engine.IO's own queues.
"""

import asyncio
import contextlib
import itertools
import random
import socket
import threading

import pytest

from harmonia_lab.protocol.events import MetadataGenerationProgress
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.server import broadcast
from harmonia_lab.server.broadcast import Wire
from harmonia_lab.server.settings import RateLimits
from tests.server.conftest import GENERATION, JOB, Ear, serving
from tests.server.engines import Player, Writer
from tests.waiting import PATIENCE_S, until_so

STORY = {"narrative": "A small boat goes home.", "seconds": 1}


@pytest.fixture(params=[True, False], ids=["framed", "queued"])
def wire(request):
    return {"fast_broadcast": request.param}


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_who_comes_late_is_told_what_happened_then_what_happens(tmp_path, wire, transport):
    gate = threading.Event()

    async def main(server):
        async with Ear(server) as first, Ear(server, transport=transport) as late:
            await first.ask("start-generation", STORY | {"generationId": "g"})
            await first.until("metadata-generation-progress")
            ack = await late.ask("join-generation", "g")
            assert (ack["replayed"], ack["snapshot"]["seq"], ack["snapshot"]["status"]) == (1, 1, "processing")
            assert late.lifecycle() == GENERATION[:1]  # before the answer
            assert (await late.ask("join-generation", "g"))["replayed"] == 0
            gate.set()
            await late.until("audio-generation-complete")
            assert late.lifecycle() == GENERATION
            assert (await late.ask("join-generation", {"generationId": "g", "afterSeq": 2}))["replayed"] == 2
            assert (await late.ask("join-generation", {"generationId": "g", "afterSeq": 99}))["replayed"] == 0

    with serving(tmp_path, metadata=Writer(gate=gate), **wire) as server:
        asyncio.run(main(server))


def test_who_hears_of_a_job_by_its_owner_is_told_its_beginning_first(tmp_path, wire):
    gate = threading.Event()

    async def main(server):
        async with Ear(server) as first, Ear(server) as late:
            await first.ask("start-generation", STORY | {"generationId": "g"})
            await first.until("metadata-generation-started")
            assert [job["id"] for job in (await late.ask("jobs:subscribe:user"))["jobs"]] == ["g"]
            gate.set()
            await late.until("job:status", count=3)
            assert late.lifecycle("job") == JOB

    with serving(tmp_path, metadata=Writer(gate=gate), **wire) as server:
        asyncio.run(main(server))


def test_a_client_that_is_cut_off_at_any_moment_gets_the_rest_and_nothing_twice(tmp_path, wire):
    """Ten cuts for each wire; the connection is broken off, not closed."""
    random.seed(5)

    async def follow(server, number):
        generation_id = f"g{number}"
        seen, overall, after = [], [], 0
        async with Ear(server) as starter:
            await starter.ask("start-generation", STORY | {"generationId": generation_id})
            for _ in range(2):
                ear = Ear(server)
                await ear.io.connect(server.url, auth={"token": ear.token}, transports=["websocket"])
                await ear.ask("join-generation", {"generationId": generation_id, "afterSeq": after})
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(ear.until("audio-generation-complete"), random.random() * 0.2)
                ear.io.eio.ws._response.connection.transport.abort()
                await asyncio.wait_for(ear.gone.wait(), PATIENCE_S)
                await ear.close()
                seen += ear.lifecycle()
                overall += [
                    p["overallProgress"] for p in ear.of("metadata-generation-progress", "audio-generation-progress")
                ]
                after = max([seq for _, seq in seen], default=0)
            async with Ear(server) as ear:
                await ear.ask("join-generation", {"generationId": generation_id, "afterSeq": after})
                if after < 4:
                    await ear.until("audio-generation-complete")
                seen += ear.lifecycle()
        assert seen == GENERATION
        assert overall == sorted(overall)

    async def main(server):
        for number in range(5):
            await follow(server, number)

    with serving(tmp_path, metadata=Writer(step_s=0.01), audio=Player(step_s=0.03), **wire) as server:
        asyncio.run(main(server))


def test_a_restarted_server_replays_what_its_predecessor_sent(tmp_path, wire):
    async def before(server):
        async with Ear(server) as ear:
            await ear.ask("start-generation", STORY | {"generationId": "g"})
            await ear.until("audio-generation-complete")

    async def after(server):
        async with Ear(server) as ear:
            ack = await ear.ask("join-generation", {"generationId": "g", "afterSeq": 1})
            assert ack["replayed"] == 3
            assert ear.lifecycle() == GENERATION[1:]
            assert ear.of("audio-generation-complete")[0]["audioUrl"].startswith(server.url)

    with serving(tmp_path, **wire) as server:
        asyncio.run(before(server))
    with serving(tmp_path, **wire) as server:
        asyncio.run(after(server))


def test_progress_is_thinned_out_and_lifecycle_is_not(tmp_path, wire):
    async def main(server):
        async with Ear(server) as ear:
            await ear.ask("start-generation", STORY | {"generationId": "g"})
            await ear.until("audio-generation-complete")
            assert ear.lifecycle() == GENERATION
            progress = ear.of("metadata-generation-progress")
            (written,) = ear.of("metadata-generation-complete")
            assert 2 <= len(progress) <= written["duration"] / 100 + 3  # of 200, one in a tenth of a second
            assert progress[-1]["tick"] == 200  # the last before a lifecycle event is never the one that is lost

    writer = Writer(steps=200, step_s=0.002)
    with serving(tmp_path, metadata=writer, **wire) as server:
        asyncio.run(main(server))


async def hears(ear, tick):
    """Wait for the progress event with this tick."""
    while tick not in [payload["tick"] for payload in ear.of("metadata-generation-progress")]:
        await ear.until("metadata-generation-progress", count=len(ear.of("metadata-generation-progress")) + 1)


def test_who_may_no_longer_see_a_generation_hears_no_more_of_it(tmp_path, wire):
    """Nor does a kept audience outlive a token without the role, or a client that left the room and came back."""
    gate = threading.Event()

    async def main(server):
        async with Ear(server) as owner, Ear(server, "root", roles=("admin",)) as admin:
            await owner.ask("start-generation", STORY | {"generationId": "g"})
            await admin.ask("join-generation", "g")
            said = await owner.until("metadata-generation-progress")
            event = MetadataGenerationProgress.model_validate(said)
            await hears(owner, 5)  # the writer's last: from now on, only the test publishes progress

            def say(tick):
                server.lab.events(event.model_copy(update={"tick": tick}))

            for tick in (1000, 1001):
                say(tick)
                await hears(owner, tick)
                await hears(admin, tick)
            await owner.ask("leave-generation", "g")
            say(1002)
            await hears(admin, 1002)
            await owner.ask("join-generation", {"generationId": "g", "afterSeq": 0})
            assert owner.lifecycle() == [*GENERATION[:1], *GENERATION[:1]]
            await admin.ask("refresh-token", {"token": server.token("root")})
            say(1003)
            await hears(owner, 1003)
            await admin.ask("jobs:subscribe:user")  # the events sent before this acknowledgement arrive before it
            assert [p["tick"] for p in owner.of("metadata-generation-progress") if p["tick"] >= 1000] == [
                1000,
                1001,
                1003,
            ]
            assert [p["tick"] for p in admin.of("metadata-generation-progress") if p["tick"] >= 1000] == [
                1000,
                1001,
                1002,
            ]
            gate.set()
            await owner.until("audio-generation-complete")

    with serving(tmp_path, metadata=Writer(gate=gate), progress_interval_s=0.0, **wire) as server:
        asyncio.run(main(server))


def test_progress_is_looked_at_socket_by_socket_only_once(tmp_path, monkeypatch):
    gate, ways = threading.Event(), []
    write = Wire.write

    def note(self, sockets, message):
        busy = write(self, sockets, message)
        ways.append(([socket.client.identity.user for socket in sockets], len(busy)))
        return busy

    monkeypatch.setattr(Wire, "write", note)

    async def main(server):
        async with Ear(server) as ann, Ear(server, transport="polling") as polling:
            await ann.ask("start-generation", STORY | {"generationId": "g"})
            await polling.ask("join-generation", "g")
            said = await ann.until("metadata-generation-progress")
            event = MetadataGenerationProgress.model_validate(said)
            await hears(ann, 5)  # the writer's last: it can't replace the test's own progress in the bridge
            ways.clear()
            for tick in (1000, 1001, 1002):
                server.lab.events(event.model_copy(update={"tick": tick}))
                await hears(ann, tick)
                await hears(polling, tick)
            assert ways[-2:] == [(["ann"], 0)] * 2  # a client that polls has no writable socket
            gate.set()
            await ann.until("audio-generation-complete")

    with serving(tmp_path, metadata=Writer(gate=gate), progress_interval_s=0.0) as server:
        asyncio.run(main(server))


class Deaf:
    """A websocket that connects, joins, and then never reads."""

    def __init__(self, server, generation_id):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
        self.socket.sendall(
            b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self.say(f'40{{"token":"{server.token("ann")}"}}')
        self.say(f'42["join-generation","{generation_id}"]')

    def say(self, text):
        data = text.encode()
        size = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0xFE]) + len(data).to_bytes(2)
        self.socket.sendall(b"\x81" + size + bytes(4) + data)

    async def client(self, server):
        """Return the server's record of this client."""
        clients = server._app.gateway.clients
        found = await until_so(
            lambda: [c for c in list(clients.values()) if "generation-g" in c.rooms and c.identity.user == "ann"],
            "a socket in the room",
        )
        return found[0]


@contextlib.contextmanager
def deaf_client(server):
    client = Deaf(server, "g")
    try:
        yield client
    finally:
        client.socket.close()


def big(event, tick):
    return event.model_copy(update={"tick": tick, "status": f"{tick} " + "x" * 50_000})


def test_a_client_that_does_not_read_loses_progress_and_slows_nobody(tmp_path, wire):
    gate = threading.Event()

    async def main(server):
        async with Ear(server, "root", roles=("admin",)) as ear:
            await asyncio.to_thread(server.lab.submit_request, REQUEST, user="ann")
            await ear.ask("join-generation", "g")
            await ear.until("metadata-generation-progress")
            event = MetadataGenerationProgress.model_validate(ear.of("metadata-generation-progress")[-1])
            with deaf_client(server) as deaf:
                client = await deaf.client(server)
                ticks = itertools.count(1001)

                def no_more_fits():
                    server.lab.events(big(event, next(ticks)))
                    return client.pending and server.metrics().messages_dropped

                await until_so(no_more_fits, "a full buffer")
                assert len(client.pending) == 1
                gate.set()
                await ear.until("audio-generation-complete")
                assert ear.lifecycle() == GENERATION

    with serving(tmp_path, metadata=Writer(gate=gate), progress_interval_s=0.0, **wire) as server:
        asyncio.run(main(server))


def test_a_client_too_far_behind_is_cut_off_and_nobody_else(tmp_path, wire, monkeypatch):
    monkeypatch.setattr(broadcast, "MAX_BACKLOG", 20)
    gate = threading.Event()

    async def main(server):
        async with Ear(server, "root", roles=("admin",)) as ear:
            await asyncio.to_thread(server.lab.submit_request, REQUEST, user="ann")
            await ear.ask("join-generation", "g")
            gateway = server._app.gateway
            with deaf_client(server) as deaf:
                client = await deaf.client(server)

                def is_cut_off():
                    # `afterSeq` 0 makes the server send the lifecycle events again: 20 kB, which it may not drop.
                    with contextlib.suppress(OSError):  # it is cut off already
                        deaf.say('42["join-generation",{"generationId":"g","afterSeq":0}]')
                    return client.eio_sid not in gateway.clients

                await until_so(is_cut_off, "the end of its connection")
                gate.set()
                await ear.until("audio-generation-complete")
                assert ear.lifecycle() == GENERATION

    rates = RateLimits(messages=(1e6, 1_000_000), costs=(1e6, 1_000_000))
    with serving(tmp_path, metadata=Writer(gate=gate), rates=rates, **wire) as server:
        asyncio.run(main(server))


REQUEST = SongRequest(narrative="A small boat goes home. " * 800, seconds=1, generation_id="g")
