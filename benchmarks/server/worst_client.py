"""One client that does its worst, for `make bench-worst`, run as a process: every command and route as fast as it can,
junk, floods, and connections that say nothing.

Owns the attacks, by name. Each runs for some seconds with SOCKETS connections of one user, and keeps IN_FLIGHT requests
of each unanswered. `worst.py` measures meanwhile what another client notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from benchmarks.server.children import commands, reply
from benchmarks.server.worst_server import song_id

__all__ = ["ATTACKS", "main"]

SOCKETS = 20
IN_FLIGHT = 40
JUNK_BYTES = 500_000
TEXT = "Once upon a time there was a boat. " * 570
"""Nearly as long as a narrative may be."""

Deed = Callable[["Target"], Awaitable[None]]
ATTACKS: dict[str, Deed] = {}
"""What one connection does again and again until it is cancelled."""


class Target:
    """The server, the attacker's tokens, and counts of what was sent and answered."""

    def __init__(self, url: str, token: str, admin: str, songs: int, session: aiohttp.ClientSession) -> None:
        self.url, self.token, self.admin, self.songs, self.session = url, token, admin, songs, session
        self.sent = self.answered = self.refused = 0

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


def attack(name: str) -> Callable[[Deed], Deed]:
    def keep(deed: Deed) -> Deed:
        ATTACKS[name] = deed
        return deed

    return keep


def _payloads(name: str, target: Target) -> Iterator[object]:
    """Yield payloads, each the most expensive of its command."""
    for number in itertools.count():
        of = song_id(number % target.songs)
        yield {
            "join-generation": {"generationId": of, "afterSeq": 0},
            "leave-generation": of,
            "start-generation": {"narrative": TEXT, "seconds": 600, "bpm": 100, "metadata": None, "key": "H flat"},
            "cancel-generation": {"generationId": of},
            "retry-generation": {"generationId": of},
            "job:subscribe": {"jobId": of, "afterSeq": 0},
            "job:unsubscribe": {"jobId": of},
            "refresh-token": {"token": "x" * 8000},
        }.get(name)


COMMANDS = (
    "join-generation", "leave-generation", "start-generation", "cancel-generation", "retry-generation",
    "job:subscribe", "job:unsubscribe", "jobs:subscribe:user", "jobs:unsubscribe:user", "jobs:subscribe:admin",
    "jobs:unsubscribe:admin", "refresh-token",
)  # fmt: skip


@contextlib.asynccontextmanager
async def _websocket(target: Target, token: str) -> Any:
    url = f"{target.url}/socket.io/?EIO=4&transport=websocket"
    ws = await target.session.ws_connect(url, max_msg_size=0)
    try:
        await ws.receive()
        await ws.send_str("40" + json.dumps({"token": token}))
        await ws.receive()
        yield ws
    finally:  # it has no manners, and a closing handshake would wait until everything that was sent is read
        connection = ws._response.connection  # noqa: SLF001 - aiohttp has no public way to cut a websocket
        if connection is not None and connection.transport is not None:
            connection.transport.abort()


async def _commands(target: Target, messages: Iterator[str], token: str) -> None:
    """Send messages, `42` with a `%d` for the acknowledgement's id, and read the answers."""
    async with _websocket(target, token) as ws:
        room = asyncio.Semaphore(IN_FLIGHT)

        async def read() -> None:
            async for message in ws:
                data = message.data
                if isinstance(data, str) and data.startswith("43"):
                    target.answered += 1
                    target.refused += '"ok":false' in data[:40]
                    room.release()
                elif data == "2":
                    await ws.send_str("3")
            raise ConnectionError("closed")

        reader = asyncio.create_task(read())
        try:
            for number in itertools.count(1):
                await room.acquire()
                if reader.done():
                    break
                target.sent += 1
                await ws.send_str(next(messages).replace("%d", str(number), 1))
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)


def _command_attack(name: str) -> Deed:
    async def deed(target: Target) -> None:
        token = target.admin if name.endswith("admin") else target.token
        texts = ("42%d" + json.dumps([name, payload]) for payload in _payloads(name, target))
        await _commands(target, texts, token)

    return deed


def _junk_attack(junk: str) -> Deed:
    async def deed(target: Target) -> None:
        text = '42%d["start-generation",{"narrative":"a","metadata":{"mood":[' + junk + "]}}]"
        await _commands(target, itertools.repeat(text), target.token)

    return deed


for _name in COMMANDS:
    ATTACKS[_name] = _command_attack(_name)
for _label, _item in {"numbers": "1", "objects": '{"a":{}}', "lists": "[[]]", "text": '"' + "x" * 400 + '"'}.items():
    ATTACKS[f"start-generation, 0.5 MB of {_label}"] = _junk_attack(
        ",".join(itertools.repeat(_item, JUNK_BYTES // (len(_item) + 1)))
    )


def _flood(frame: str) -> Deed:
    async def deed(target: Target) -> None:
        async with _websocket(target, target.token) as ws:
            while not ws.closed:
                for _ in range(50):
                    await ws.send_str(frame)
                    target.sent += 1
                await asyncio.sleep(0)

    return deed


for _label, _frame in {
    "acks": '430["x"]',
    "pongs": "3",
    "other namespaces": "40/other,",
    "no events": '42["?"]',
}.items():
    ATTACKS[f"flood of {_label}"] = _flood(_frame)


@attack("flood of websocket pings")
async def _pings(target: Target) -> None:
    async with _websocket(target, target.token) as ws:
        while not ws.closed:
            for _ in range(200):
                await ws.ping(b"x")
                target.sent += 1
            await asyncio.sleep(0)


@attack("polling, bursts of 900 joins")
async def _bursts(target: Target) -> None:
    base = f"{target.url}/socket.io/?EIO=4&transport=polling"
    async with target.session.get(base) as opened:
        url = f"{base}&sid=" + json.loads((await opened.text())[1:])["sid"]
    async with target.session.post(url, data="40" + json.dumps({"token": target.token})) as answer:
        await answer.read()
    packets = [
        f'42{n}["join-generation",{{"generationId":"{song_id(n % target.songs)}","afterSeq":0}}]' for n in range(900)
    ]
    async with target.session.post(url, data="\x1e".join(packets)) as answer:
        target.sent += 900
        await answer.read()
    for _ in range(20):
        async with target.session.get(url) as polled:
            target.answered += (await polled.text()).count("\x1e")
            if polled.status != 200:
                return


@attack("connecting and leaving")
async def _connections(target: Target) -> None:
    async with _websocket(target, target.token):
        target.sent += 1


@attack("connecting without a token")
async def _strangers(target: Target) -> None:
    async with _websocket(target, "junk"):
        target.sent += 1


@attack("a socket that reads nothing")
async def _deaf(target: Target) -> None:
    async with _websocket(target, target.token) as ws:
        for number in range(2000):
            await ws.send_str(
                f'42{number}["join-generation",{{"generationId":"{song_id(number % target.songs)}","afterSeq":0}}]'
            )
            target.sent += 1
        await asyncio.sleep(3600)


@attack("silent connections")
async def _silent(target: Target) -> None:
    parts = urlsplit(target.url)
    own = []
    try:
        for _ in range(25):
            connection = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=5)
            own.append(connection)
            target.sent += 1
            connection.sendall(b"POST /api/generations HTTP/1.1\r\nHost: x\r\nContent-")
            await asyncio.sleep(0)
        await asyncio.sleep(0.2)
    finally:
        for connection in own:
            connection.close()


@attack("requests that are no HTTP")
async def _no_http(target: Target) -> None:
    parts = urlsplit(target.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(b"\x16\x03\x01 Authorization: Bearer secret\r\n\r\n")
        target.sent += 1
        target.answered += bool(await reader.read())
    finally:
        writer.close()


def _route(method: str, path: str, body: bytes | None = None, *, anybody: bool = False) -> Deed:
    async def deed(target: Target) -> None:
        for number in itertools.count():
            target.sent += 1
            url = target.url + path.format(id=song_id(number % target.songs))
            headers = {} if anybody else target.headers()
            async with target.session.request(method, url, data=body, headers=headers) as answer:
                await answer.read()
                target.answered += 1
                target.refused += answer.status >= 400

    return deed


_junk = b'{"narrative":"a","metadata":{"mood":[' + b",".join([b"1"] * (JUNK_BYTES // 2)) + b"]}}"
for _method, _path, _body, _anybody in (
    ("GET", "/api/generations", None, False),
    ("GET", "/api/generations?limit=100", None, False),
    ("POST", "/api/generations", _junk, False),
    ("GET", "/api/generations/{id}", None, False),
    ("DELETE", "/api/generations/{id}", None, False),
    ("GET", "/api/generations/{id}/audio", None, False),
    ("GET", "/api/generations/{id}/midi", None, False),
    ("GET", "/api/generations/{id}/overview", None, False),
    ("GET", "/api/generations/{id}/stems", None, False),
    ("GET", "/api/generations/{id}/stems/1-piano.flac", None, False),
    ("GET", "/healthz", None, True),
    ("GET", "/readyz", None, True),
    ("GET", "/metrics", None, True),
    ("GET", "/asyncapi.json", None, True),
    ("GET", "/nothing", None, True),
):
    ATTACKS[f"{_method} {_path}{', 0.5 MB of junk' if _body else ''}"] = _route(_method, _path, _body, anybody=_anybody)


async def _again_and_again(deed: Deed, target: Target) -> None:
    while True:
        with contextlib.suppress(OSError, aiohttp.ClientError, ConnectionError, KeyError, ValueError, IndexError):
            await deed(target)
        await asyncio.sleep(0.005)


async def _run(name: str, seconds: float, **address: Any) -> dict[str, Any]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
        target = Target(**address, session=session)
        started = time.monotonic()
        tasks = [asyncio.create_task(_again_and_again(ATTACKS[name], target)) for _ in range(SOCKETS)]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        took = time.monotonic() - started
    return {"sent": target.sent, "answered": target.answered, "refused": target.refused, "seconds": took}


def main() -> None:
    run = functools.partial(asyncio.run)
    for command in commands():
        reply(**run(_run(**command)))


if __name__ == "__main__":
    main()
