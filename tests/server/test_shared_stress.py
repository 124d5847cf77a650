"""Two servers behind nginx, clients that are cut and come back to either, servers and Redis killed: nothing is lost or
doubled, and the order is kept.

HARMONIA_ROUNDS says how many of each (default: 200 cuts, 20 kills of a server, 20 of Redis). Prints its figures as a
line of JSON: benchmarks/shared-stress-cpu-2026-11-28.json has three of them.
"""

import asyncio
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
from itertools import cycle
from pathlib import Path

import aiohttp
import pytest
import socketio

from harmonia_lab.server.server_thread import new_tokens
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.store.shared.redis_journal import RedisJournal
from tests.nginx import Nginx, needs_nginx
from tests.redis_server import free_port, needs_redis, running_redis
from tests.server.conftest import Ear
from tests.waiting import until, until_so

pytestmark = [needs_redis, needs_nginx, pytest.mark.stress]

ROOT = Path(__file__).parents[2]
LISTENERS = 24
SHARE = 0.3
"""Of the sockets, that each server has to have before one of them is killed."""

SERVE = """
import json, pathlib, sys, threading
from harmonia_lab.backends import local
from harmonia_lab.store.shared import lease
local._draw_overview = lambda path, **picture: ""  # of a song, it takes the longest
lease.LEASE_S, lease.BEAT_S, lease.AWAY_S = 2.0, 0.5, 0.05
from tests.server.engines import Writer, make_lab
folder, url, key, port = json.loads(sys.argv[1])
lab = make_lab(pathlib.Path(folder), redis=url, metadata=Writer(step_s=0.02, steps=10))
server = lab.serve(port=port, key=key, trusted_proxies=("127.0.0.1",), public_url="https://songs.example")
print("ready", flush=True)
for _ in sys.stdin:
    print(server.metrics().connections, flush=True)
"""


class Served:
    """A server in a process of its own, that can be killed and started again on its port."""

    def __init__(self, folder, redis):
        self.port = free_port()
        self.arguments = json.dumps([str(folder), redis.url, str(folder.parent / "token.key"), self.port])
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, self.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        assert self.process.stdout.readline() == "ready\n"

    def sockets(self):
        self.process.stdin.write("?\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def kill(self):
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def two_servers(tmp_path, fsync):
    """Yield Redis, the servers, and nginx in front of them."""
    (tmp_path / "redis").mkdir()
    with running_redis(tmp_path / "redis", fsync=fsync) as redis:
        servers = [Served(tmp_path / name, redis) for name in "ab"]
        try:
            with Nginx(tmp_path / "nginx", [server.port for server in servers]) as nginx:
                yield redis, servers, nginx
        finally:
            for server in servers:
                server.kill()


class FarEar(Ear):
    """An Ear behind nginx, at an address of its own. snap: break the connection without a word at its end."""

    def __init__(self, nginx, token, address, transport):
        super().__init__(nginx, token=token, transport=transport)
        connector = aiohttp.TCPConnector(ssl=nginx.trust, local_addr=(address, 0))
        self.io = socketio.AsyncClient(http_session=aiohttp.ClientSession(connector=connector), reconnection=False)
        self.io.on("*", self._hear)
        self.io.on("disconnect", self.gone.set)

    def snap(self):
        if self.io.eio.ws is not None:
            self.io.eio.ws.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


class Listener:
    """A client that starts songs and hears them, cut again and again, from whichever server nginx sends it to.
    heard: by generation, the number of each lifecycle event, in the order of arrival."""

    def __init__(self, connect, cut_s):
        """connect: return an ear that isn't connected yet."""
        self.connect, self.cut_s = connect, cut_s
        self.heard, self.cuts, self.over = {}, 0, False

    async def run(self):
        while not self.over:
            with contextlib.suppress(Exception):  # a server that is gone, or Redis
                await self._one_song()

    async def _one_song(self):
        async with self.connect() as ear:
            ack = await asyncio.wait_for(ear.ask("start-generation", {"narrative": "A boat.", "seconds": 1}), 10)
        if not ack["ok"]:
            await asyncio.sleep(0.5)
            return
        generation_id = ack["generationId"]
        heard = self.heard[generation_id] = []
        ended = False
        while not ended:
            ear = self.connect()
            try:
                async with asyncio.timeout(15), ear:
                    await ear.ask("join-generation", {"generationId": generation_id, "afterSeq": max(heard, default=0)})
                    for _ in range(20):
                        await asyncio.sleep(random.uniform(0.5, 1.5) * self.cut_s / 20)
                        if ends(ear):
                            break
                    if random.random() < 0.5:
                        ear.snap()
            except Exception:  # noqa: BLE001 - as above
                await asyncio.sleep(0.05)
            self.cuts += 1
            heard += [seq for _, seq in ear.lifecycle()]
            ended = ends(ear)


def ends(ear):
    return any(name == "audio-generation-complete" or (payload or {}).get("final") for name, payload in ear.heard)


async def listened(nginx, tokens, faults, cut_s):
    addresses, transports = (f"127.0.{number}.{2 + 7 * number}" for number in range(LISTENERS)), cycle(TRANSPORTS)
    listeners = []
    for address, transport, token in zip(addresses, transports, cycle(tokens), strict=False):
        listeners.append(Listener(lambda a=address, t=transport, k=token: FarEar(nginx, k, a, t), cut_s))
    tasks = [asyncio.create_task(listener.run()) for listener in listeners]
    await faults(listeners)
    for listener in listeners:
        listener.over = True
    await asyncio.wait_for(asyncio.gather(*tasks), 300)
    return listeners


TRANSPORTS = ("websocket", "websocket", "websocket", "polling")


def compared(redis, tmp_path, listeners):
    """Compare what was heard with the journal."""
    found = {"songs": 0, "interrupted": 0, "events": 0, "lost": 0, "doubled": 0, "disordered": 0}
    with contextlib.closing(RedisJournal(redis.url, tmp_path / "look")) as journal:
        for generation_id, heard in [song for each in listeners for song in each.heard.items()]:
            until(lambda one=generation_id: journal.load(one).state.over, generation_id)
            events = journal.replay(generation_id, "generation")
            kept = [event.seq for event in events]
            assert kept == list(range(1, len(kept) + 1))
            assert sum(event.ends for event in events) == 1
            found["songs"] += 1
            found["interrupted"] += events[-1].name == "generation-error"
            found["events"] += len(kept)
            found["lost"] += len(set(kept) - set(heard))
            found["doubled"] += len(heard) - len(set(heard))
            found["disordered"] += heard != sorted(heard)
    return found


def token_for(tmp_path, user):
    return new_tokens(ServerSettings(key=tmp_path / "token.key"), tmp_path).issue(user, ttl_s=3600).token


def rounds(count):
    return int(os.environ.get("HARMONIA_ROUNDS", count))


class Faults:
    """What is done to servers and Redis. shares: the smaller server's part of the sockets, before each fault."""

    def __init__(self, what, redis, servers):
        self.what, self.redis, self.servers = what, redis, servers
        self.shares, self.done = [], 0

    async def __call__(self, listeners):
        await self._spread()
        if self.what == "cuts":
            await until_so(lambda: sum(listener.cuts for listener in listeners) >= rounds(200))
            return
        while self.done < rounds(20):
            await asyncio.sleep(random.uniform(0.5, 2.0))
            await self._spread()
            await {"servers": self._kill_server, "redis": self._kill_redis}[self.what]()
            self.done += 1

    async def _spread(self):
        """Wait until each server has its share of the sockets."""
        while True:
            counts = await asyncio.to_thread(lambda: [server.sockets() for server in self.servers])
            if min(counts) >= SHARE * sum(counts) and sum(counts) >= LISTENERS / 2:
                self.shares.append(min(counts) / sum(counts))
                return
            await asyncio.sleep(0.2)

    async def _kill_server(self):
        server = self.servers[self.done % 2]
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(random.uniform(0, 3))  # sometimes for longer than a lease
        await asyncio.to_thread(server.start)

    async def _kill_redis(self):
        await asyncio.to_thread(self.redis.kill if self.done % 2 else self.redis.stop)
        await asyncio.to_thread(self.redis.start)


@pytest.mark.parametrize("what", ["cuts", "servers", "redis"])
def test_nothing_is_lost_or_doubled(tmp_path, what):
    with two_servers(tmp_path, "everysec") as (redis, servers, nginx):
        faults = Faults(what, redis, servers)
        tokens = [token_for(tmp_path, user) for user in ("ann", "bob", "cid")]
        listeners = asyncio.run(listened(nginx, tokens, faults, 0.2 if what == "cuts" else 1.0))
        found = compared(redis, tmp_path, listeners)
        cuts, share = sum(listener.cuts for listener in listeners), round(min(faults.shares), 2)
        told = {"what": what, "faults": faults.done, "cuts": cuts, "sockets": LISTENERS, "least_share": share}
        print("\n" + json.dumps(told | found | {"load": round(os.getloadavg()[0], 1)}))  # noqa: T201 - the figures
        assert found["lost"] == found["doubled"] == found["disordered"] == 0
        assert found["events"] > 20
