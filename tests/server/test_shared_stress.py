"""Two servers, clients that are cut and come back to either, servers and Redis killed: nothing is lost or doubled.

HARMONIA_ROUNDS says how many of each (default: 200 cuts, 20 kills of a server, 20 of Redis).
"""

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from harmonia_lab.server.server_thread import new_tokens
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.store.shared.redis_journal import RedisJournal
from tests.redis_server import needs_redis, running_redis
from tests.server.conftest import Ear
from tests.waiting import until

pytestmark = [needs_redis, pytest.mark.stress]

ROOT = Path(__file__).parents[2]

SERVE = """
import json, pathlib, sys, threading
from harmonia_lab.store.shared import lease
lease.LEASE_S, lease.BEAT_S, lease.AWAY_S = 2.0, 0.5, 0.05
from tests.server.engines import Writer, make_lab
folder, url, key = json.loads(sys.argv[1])
lab = make_lab(pathlib.Path(folder), redis=url, metadata=Writer(step_s=0.05, steps=10))
print(lab.serve(port=0, key=key).url, flush=True)
sys.stdin.read()
"""


class Served:
    """A server in a process of its own, that can be killed and started again."""

    def __init__(self, folder, redis):
        self.arguments = json.dumps([str(folder), redis.url, str(folder.parent / "token.key")])
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
        self.url = self.process.stdout.readline().strip()

    def kill(self):
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def two_servers(tmp_path, fsync):
    (tmp_path / "redis").mkdir()
    with running_redis(tmp_path / "redis", fsync=fsync) as redis:
        servers = [Served(tmp_path / name, redis) for name in "ab"]
        try:
            yield redis, servers
        finally:
            for server in servers:
                server.kill()


class Listener:
    """A client that starts songs and hears them, cut again and again, from either server. heard: by generation, the
    (family, seq) of each lifecycle event, in the order of arrival."""

    def __init__(self, servers, token, cut_s):
        self.servers, self.token, self.cut_s = servers, token, cut_s
        self.heard, self.cuts, self.over = {}, 0, False

    async def run(self):
        while not self.over:
            with contextlib.suppress(Exception):  # a server that is gone, or Redis
                await self._one_song()

    async def _one_song(self):
        async with Ear(random.choice(self.servers), token=self.token) as ear:
            ack = await asyncio.wait_for(ear.ask("start-generation", {"narrative": "A boat.", "seconds": 1}), 10)
        if not ack["ok"]:
            await asyncio.sleep(0.1)
            return
        generation_id = ack["generationId"]
        heard = self.heard[generation_id] = []
        ended = False
        while not ended:
            ear = Ear(random.choice(self.servers), token=self.token)
            try:
                async with asyncio.timeout(15), ear:
                    last = max((seq for family, seq in heard if family == "generation"), default=0)
                    await ear.ask("join-generation", {"generationId": generation_id, "afterSeq": last})
                    for _ in range(20):
                        await asyncio.sleep(random.uniform(0.5, 1.5) * self.cut_s / 20)
                        ended = any(n == "audio-generation-complete" or p.get("final") for n, p in ear.heard if p)
                        if ended:
                            break
            except Exception:  # noqa: BLE001 - as above
                await asyncio.sleep(0.05)
            self.cuts += 1
            heard += [("generation", seq) for _, seq in ear.lifecycle()]


async def listened(servers, token, faults, *, count=8, cut_s=0.2):
    listeners = [Listener(servers, token, cut_s) for _ in range(count)]
    tasks = [asyncio.create_task(listener.run()) for listener in listeners]
    await faults(listeners)
    for listener in listeners:
        listener.over = True
    await asyncio.wait_for(asyncio.gather(*tasks), 120)
    return listeners


def check(redis, tmp_path, listeners):
    """Compare what was heard with the journal; return how many songs and events there were."""
    with contextlib.closing(RedisJournal(redis.url, tmp_path / "look")) as journal:
        songs = {generation_id: heard for each in listeners for generation_id, heard in each.heard.items()}
        for generation_id, heard in songs.items():
            until(lambda one=generation_id: journal.load(one).state.over, generation_id)
            kept = [event.seq for event in journal.replay(generation_id, "generation")]
            ends = [event for event in journal.replay(generation_id, "generation") if event.ends]
            assert [seq for _, seq in heard] == kept == list(range(1, len(kept) + 1)), (generation_id, heard, kept)
            assert len(ends) == 1
        return len(songs), sum(map(len, songs.values()))


def token_for(tmp_path, user):
    return new_tokens(ServerSettings(key=tmp_path / "token.key"), tmp_path).issue(user, ttl_s=3600).token


def rounds(count):
    return int(os.environ.get("HARMONIA_ROUNDS", count))


@pytest.mark.parametrize("what", ["cuts", "servers", "redis"])
def test_nothing_is_lost_or_doubled(tmp_path, what):
    with two_servers(tmp_path, "everysec") as (redis, servers):
        token = token_for(tmp_path, "ann")

        async def cuts(listeners):
            while sum(listener.cuts for listener in listeners) < rounds(200):  # noqa: ASYNC110 - they count
                await asyncio.sleep(0.1)

        async def kill_servers(_):
            for number in range(rounds(20)):
                await asyncio.sleep(random.uniform(0.5, 2.0))
                await asyncio.to_thread(servers[number % 2].kill)
                await asyncio.to_thread(servers[number % 2].start)

        async def kill_redis(_):
            for number in range(rounds(20)):
                await asyncio.sleep(random.uniform(0.5, 2.0))
                await asyncio.to_thread(redis.kill if number % 2 else redis.stop)
                await asyncio.to_thread(redis.start)

        faults = {"cuts": cuts, "servers": kill_servers, "redis": kill_redis}[what]
        listeners = asyncio.run(listened(servers, token, faults))
        songs, events = check(redis, tmp_path, listeners)
        told = SimpleNamespace(what=what, songs=songs, events=events, cuts=sum(each.cuts for each in listeners))
        print(f"\n{told}")  # noqa: T201 - for whoever runs it
        assert events > 20
