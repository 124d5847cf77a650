"""Any message, however malformed, is answered, and no other client is affected."""

import asyncio
import contextlib
import json
import logging

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harmonia_lab.protocol.commands import COMMANDS
from harmonia_lab.server.settings import RateLimits
from tests.server.conftest import Ear, serving
from tests.waiting import PATIENCE_S

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
ids = st.text(alphabet="abcXYZ019_-", min_size=1, max_size=8) | st.text(max_size=80)
fields = st.fixed_dictionaries(
    {},
    optional={
        "generationId": ids | anything,
        "jobId": ids | anything,
        "afterSeq": st.integers(-(2**70), 2**70) | anything,
        "token": st.text(max_size=40) | anything,
        "narrative": st.text(max_size=5) | anything,
        "seconds": st.floats() | anything,
        "seed": anything,
        "key": anything,
        "instruments": anything,
        "metadata": anything,
        "model": anything,
    },
)
messages = st.tuples(
    st.sampled_from([*COMMANDS, "nonsense", ""]) | st.text(max_size=12), st.lists(fields | ids | anything, max_size=2)
)


RATES = RateLimits(messages=(1e9, 10**9), starts=(1e9, 0), costs=(1e9, 10**9))


@contextlib.contextmanager
def talking(folder, **settings):
    """(loop, ear, witness) on one server, without limits on rate."""
    with serving(folder, rates=RATES, **settings) as server, asyncio.Runner() as runner:
        clients = contextlib.AsyncExitStack()
        try:
            ear = runner.run(clients.enter_async_context(Ear(server)))
            witness = runner.run(clients.enter_async_context(Ear(server, "bob")))
            yield runner, ear, witness
        finally:  # also where the second one's connection fails
            runner.run(clients.aclose())


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    with talking(tmp_path_factory.mktemp("fuzz")) as talk:
        yield talk


@pytest.fixture
def brisk_talk(tmp_path):
    """On a server that soon gives up a peer which answers no ping: one whose frame it still waits for the rest of."""
    with talking(tmp_path, ping_interval_s=1.0, ping_timeout_s=8.0) as talk:
        yield talk


@pytest.mark.parametrize("cases", [600, pytest.param(6000, marks=pytest.mark.stress)])
def test_every_message_is_answered_in_the_protocols_way(talk, caplog, cases):
    runner, ear, witness = talk

    @settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(messages)
    def try_one(message):
        name, arguments = message
        ack = runner.run(ear.ask(name, tuple(arguments)))
        assert ack["ok"] in (True, False)
        if not ack["ok"]:
            assert ack["error"]["code"] in (
                "INVALID_PAYLOAD",
                "NOT_FOUND",
                "UNAUTHORIZED",
                "CANCEL_FAILED",
                "RATE_LIMITED",
            )
            assert ack["error"]["message"]

    with caplog.at_level(logging.ERROR):
        try_one()
    assert caplog.records == []
    assert not ear.gone.is_set()
    assert [name for name, _ in witness.heard] == ["server-hello"]
    assert runner.run(witness.ask("jobs:subscribe:user")) == {"ok": True, "jobs": []}


FRAMES = [
    *("", "4", "42", "42[]", "42{}", '42"x"', "42[7]", "42[null]", '42["join-generation"', "42" + "[" * 50_000),
    *("43[]", "430[]", "44", "45", "49", "4x", "x", "1", "2", "3", "5", "6", "7x", "9", "40/other,", "40"),
    *('451-["a",{"_placeholder":true,"num":0}]', '4599999999-["a"]', '42/other,["a"]', "42" + "9" * 120 + "[]"),
    *('421["start-generation",{"narrative":"\\ud800"}]', '422["join-generation","' + "a" * 200_000 + '"]'),
]


def test_frames_that_are_no_socket_io_end_at_most_the_connection_they_came_by(brisk_talk, caplog):
    runner, ear, witness = brisk_talk
    server = ear.server

    async def send(session, frame):
        async with session.ws_connect(f"{server.url}/socket.io/?EIO=4&transport=websocket") as socket:
            await socket.receive()
            await socket.send_str("40" + json.dumps({"token": server.token("ann")}))
            await socket.receive()
            await socket.send_str(frame)
            await socket.send_bytes(b"\x00\xff")
            await socket.send_str('427["jobs:subscribe:user"]')
            answers = []
            while not any(a.startswith("437") for a in answers):
                message = await asyncio.wait_for(socket.receive(), PATIENCE_S)
                if message.type is not aiohttp.WSMsgType.TEXT:
                    break
                answers.append(message.data)

    async def main():
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(send(session, frame) for frame in FRAMES))
            async with session.ws_connect(f"{server.url}/socket.io/?EIO=4&transport=websocket") as socket:
                await socket.receive()
                await socket.send_str("4" * 1_500_000)
                while (await asyncio.wait_for(socket.receive(), PATIENCE_S)).type is aiohttp.WSMsgType.TEXT:
                    pass

    with caplog.at_level(logging.ERROR):
        runner.run(main())
    assert [r for r in caplog.records if r.name.startswith(("harmonia", "asyncio"))] == []
    assert runner.run(ear.ask("jobs:subscribe:user"))["ok"]
    assert [name for name, _ in witness.heard] == ["server-hello"]
