"""Ends of Engine.IO sessions: whatever a client sends, and however it leaves, no session of its stays behind."""

import asyncio
import inspect
import json
import logging

import aiohttp
import pytest
from aiohttp.web import WebSocketResponse

from harmonia_lab.server.engine_io import is_packet
from harmonia_lab.server.settings import RateLimits
from tests.server.conftest import Ear, serving
from tests.waiting import PATIENCE_S, until_so


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with 20 kB for a message."""
    with serving(tmp_path_factory.mktemp("engine"), max_message_bytes=20_000) as server:
        yield server


def sessions(server):
    return server._app._sockets.eio.sockets


async def websocket(server, session, user="ann"):
    socket = await session.ws_connect(f"{server.url}/socket.io/?EIO=4&transport=websocket")
    opened = json.loads((await socket.receive()).data[1:])
    if user is not None:
        await socket.send_str("40" + json.dumps({"token": server.token(user)}))
        while not (await asyncio.wait_for(socket.receive(), PATIENCE_S)).data.startswith("40"):
            pass
    return socket, opened["sid"]


async def polling(server, session, user="ann"):
    url = f"{server.url}/socket.io/?EIO=4&transport=polling"
    async with session.get(url) as opened:
        sid = json.loads((await opened.text())[1:])["sid"]
    url += f"&sid={sid}"
    if user is not None:
        async with session.post(url, data="40" + json.dumps({"token": server.token(user)})) as connected:
            assert connected.status == 200
    return url, sid


JUNK = ["x", "4", "9", "42[", "44", "4" + "{" * 100, "4" * 30_000]


def test_junk_and_a_departure_leave_no_socket_behind(server):
    """At most a ping would find them otherwise, after 85 s."""

    async def send(session, junk, *, leave):
        socket, sid = await websocket(server, session)
        client = server._app.gateway.clients[sid]
        await socket.send_str(junk)
        if leave:
            socket._response.connection.transport.abort()
        await until_so(lambda: sid not in sessions(server) and client not in server._app.gateway.clients.values())

    async def main():
        async with aiohttp.ClientSession() as session, asyncio.timeout(60):
            both = [send(session, junk, leave=leave) for junk in JUNK for leave in (True, False)]
            # The beginning of a packet with an attachment is no junk, until the client leaves.
            await asyncio.gather(*both, send(session, '451-["a",{}]', leave=True))

    asyncio.run(main())


def test_an_upgrade_that_fails_leaves_polling_as_it_was(server):
    async def upgrade(session, junk):
        url, sid = await polling(server, session)
        socket = await session.ws_connect(f"{server.url}/socket.io/?EIO=4&transport=websocket&sid={sid}")
        if junk is None:
            socket._response.connection.transport.abort()
        else:
            await socket.send_str(junk)
        await until_so(lambda: not sessions(server)[sid].upgrading)
        async with session.post(url, data='421["jobs:subscribe:user"]') as sent:
            assert sent.status == 200
        heard = ""
        while '431[{"ok":true' not in heard:
            async with session.get(url) as polled:
                heard += await polled.text()
        async with session.post(url, data="1"):
            pass

    async def main():
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(upgrade(session, junk) for junk in ("x", "2prob", "5", "4" * 30_000, None)))

    asyncio.run(main())


def test_a_post_that_cannot_be_used_is_answered_and_ends_its_session(server):
    """Without an open poll: the library waits for one."""

    async def post(session, body):
        url, sid = await polling(server, session)
        async with session.post(url, data=body) as sent:
            assert sent.status == 400, body[:20]
        assert sid not in sessions(server)
        async with session.get(url) as polled:
            assert polled.status == 400

    async def main():
        bodies = ["\x1e".join(["43[]"] * 1001), "4" * 30_000, "x", "d=1", "2"]
        async with aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(post(session, body) for body in bodies))

    asyncio.run(main())


def test_nine_hundred_packets_at_once_are_all_handled(tmp_path):
    async def main(server):
        async with aiohttp.ClientSession() as session:
            url, sid = await polling(server, session)
            packets = [f'42{number}["leave-generation","a"]' for number in range(900)]
            async with session.post(url, data="\x1e".join(packets)) as sent:
                assert sent.status == 200
            heard = ""
            while heard.count('"ok":true') < 900:
                async with session.get(url) as polled:
                    heard += await polled.text()
            assert sid in sessions(server)

    with serving(tmp_path, rates=RateLimits(messages=(1e6, 10**6), costs=(1e6, 10**6))) as server:
        asyncio.run(main(server))


def test_a_long_poll_comes_in_parts(server):
    async def main():
        async with aiohttp.ClientSession() as session:
            url, sid = await polling(server, session)
            engine = sessions(server)[sid]
            async with session.get(url):
                pass  # the hello
            packet = type(engine.queue).__name__
            assert packet == "IdleQueue"
            from engineio.packet import MESSAGE, Packet

            for number in range(8):
                engine.queue.put_nowait(Packet(MESSAGE, f"{number}" * 100_000))
            assert engine.queue.size == 800_000
            parts = []
            while sum(map(len, parts)) < 800_000:
                async with session.get(url) as polled:
                    parts.append(await polled.text())
            assert len(parts) == 3
            assert "".join(parts).replace("\x1e", "").replace("4", "") == "".join(
                f"{number}" * 100_000 for number in range(8) if number != 4
            )

    asyncio.run(main())


FLOODS = ['430["x"]', '43999[{"narrative":"s3cret"}]', "3", "40/s3cret,", '42/s3cret,["x"]', None]


def test_floods_that_need_no_answer_say_nothing_in_the_log_and_are_limited(tmp_path, caplog):
    async def flood(server, session, frame):
        socket, sid = await websocket(server, session)
        for _ in range(100):
            await (socket.ping(b"x") if frame is None else socket.send_str(frame))
        await socket.send_str('429["jobs:subscribe:user"]')
        answer = ""
        while not answer.startswith("439["):
            answer = await socket.receive_str(timeout=PATIENCE_S)
        await socket.close()
        await until_so(lambda: sid not in sessions(server))

    async def main(server):
        async with aiohttp.ClientSession() as session, Ear(server, "bob") as bob:
            floods = asyncio.gather(*(flood(server, session, frame) for frame in FLOODS))
            assert (await bob.ask("jobs:subscribe:user"))["ok"]
            await floods

    rates = RateLimits(messages=(20.0, 50))
    with serving(tmp_path, rates=rates) as server, caplog.at_level(logging.INFO):
        asyncio.run(main(server))
        said = [record.getMessage() for record in caplog.records]
        assert not any("s3cret" in line for line in said)
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
        assert len(said) < 30


def test_few_frames_of_a_websocket_are_parsed_before_they_are_handled(server):
    async def main():
        async with aiohttp.ClientSession() as session:
            socket, _ = await websocket(server, session)
            await socket.send_str("42" + '["leave-generation","' + "x" * 15_000 + '"]')  # longer than the limit
            await socket.send_str('421["leave-generation","a"]')
            answer = ""
            while not answer.startswith("431["):
                answer = await socket.receive_str(timeout=PATIENCE_S)
            await socket.close()

    asyncio.run(main())
    queue = inspect.getsource(WebSocketResponse._post_start)
    assert "WebSocketDataQueue(\n            request._protocol, DEFAULT_CHUNK_SIZE" in queue


def test_what_a_packet_is():
    packets = ["2", "2probe", "3probe", "5", "1", "40", "42[]", "43", b"", b"\x00" * 9000, "42" + "x" * 9000]
    assert [data for data in packets if not is_packet(data)] == []
    assert [data for data in ("", "4", "4x", "7", "x", "b", "4[" + "1," * 99, "2" * 90) if is_packet(data)] == []


def test_a_message_that_is_refused_unread_is_answered_with_the_time_to_wait(tmp_path):
    async def main(server):
        async with Ear(server) as ear:
            answers = [await ear.ask("leave-generation", "a") for _ in range(4)]
            assert [answer["ok"] for answer in answers] == [True, True, False, False]
            error = answers[-1]["error"]
            assert (error["code"], error["recoverable"]) == ("RATE_LIMITED", True)
            assert 1 <= error["details"]["retryAfter"] <= 1000
            await ear.tell("job:subscribe", {"jobId": "a"})
            assert (await ear.until("job:failed"))["code"] == "RATE_LIMITED"
            await ear.tell("join-generation", "a")
            assert (await ear.until("generation-error"))["error"]["code"] == "RATE_LIMITED"

    with serving(tmp_path, rates=RateLimits(messages=(0.001, 2))) as server:
        asyncio.run(main(server))


def test_cost_counts_over_all_sockets_of_a_user(tmp_path):
    long = {"generationId": "x" * 9000}

    async def main(server):
        async with Ear(server) as one, Ear(server) as other, Ear(server, "bob") as bob:
            codes = [(await ear.ask("leave-generation", long))["error"]["code"] for ear in (one, other, one, other)]
            assert codes == ["INVALID_PAYLOAD", "INVALID_PAYLOAD", "RATE_LIMITED", "RATE_LIMITED"]
            assert (await bob.ask("leave-generation", long))["error"]["code"] == "INVALID_PAYLOAD"

    with serving(tmp_path, rates=RateLimits(costs=(0.001, 6))) as server:
        asyncio.run(main(server))
