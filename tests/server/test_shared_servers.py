"""Two servers that share a Redis: whichever a client asks, it gets the same; and nothing is lost on the way."""

import asyncio
import functools
import json
import subprocess
import sys
import threading

import aiohttp
import pytest

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.generation.handle import QueueLimits
from harmonia_lab.server import ahead
from harmonia_lab.server.settings import RateLimits
from harmonia_lab.store.shared import lease
from harmonia_lab.store.shared.connection import RedisConnection
from tests.redis_server import needs_redis, running_redis
from tests.server.conftest import GENERATION, JOB, Ear
from tests.server.engines import Player, Writer, make_lab
from tests.waiting import until, until_so

pytestmark = needs_redis


def in_a_loop(test):
    """Run a test that is a coroutine."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(test(*args, **kwargs))

    return run


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(lease, "LEASE_S", 1.0)
    monkeypatch.setattr(lease, "BEAT_S", 0.2)
    monkeypatch.setattr(lease, "AWAY_S", 0.05)


@pytest.fixture
def held_up(monkeypatch):
    """Where an event loop asked Redis, which it must never do."""
    found = []

    def note():
        if threading.current_thread().name == "harmonia-server":
            import traceback

            found.append("".join(traceback.format_stack(limit=12)))

    monkeypatch.setattr(RedisConnection, "in_a_loop", staticmethod(note))
    return found


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory):
    with running_redis(tmp_path_factory.mktemp("redis"), fsync="no") as server:
        yield server


@pytest.fixture
def url(redis_server):
    with redis_server.client() as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def start(tmp_path):
    """Return what starts a server: its name, the URL of Redis, the engines, and settings."""
    labs = []

    def started(name, url, *, metadata=None, audio=None, **settings):
        lab = make_lab(tmp_path / name, redis=url, metadata=metadata, audio=audio)
        labs.append(lab)
        server = lab.serve(port=0, key=settings.pop("key", tmp_path / "token.key"), **settings)
        server.lab = lab
        return server

    yield started
    for lab in labs:
        lab.close()


REQUEST = {"narrative": "A small boat goes out at night.", "seconds": 2}


@in_a_loop
async def test_a_client_of_the_other_server_hears_the_song_as_its_own(url, start, held_up):
    gate = threading.Event()
    one, other = start("a", url, metadata=Writer(gate=gate)), start("b", url)
    async with Ear(one) as ann, Ear(other) as far, Ear(other, "bob") as bob:
        assert (await far.ask("jobs:subscribe:user"))["ok"]
        generation_id = (await ann.ask("start-generation", REQUEST))["generationId"]
        joined = await far.ask("join-generation", {"generationId": generation_id})
        assert joined["ok"], joined
        assert (joined["snapshot"]["status"], joined["snapshot"]["access"]) in [
            ("pending", "owner"),
            ("processing", "owner"),
        ]
        assert not (await bob.ask("join-generation", {"generationId": generation_id}))["ok"]
        gate.set()
        for ear in (ann, far):
            await ear.until("audio-generation-complete")
        await until_so(lambda: far.lifecycle("job") == JOB)
        assert far.lifecycle() == ann.lifecycle() == GENERATION
        assert far.of("audio-generation-progress")
        assert far.of("audio-preview")[0]["audio"].startswith(b"RIFF")
    assert held_up == []


@pytest.mark.parametrize("after", [0, 2])
@in_a_loop
async def test_a_client_moves_to_the_other_server_and_gets_what_it_missed(url, start, held_up, after):
    gate = threading.Event()
    one, other = start("a", url, audio=Player(gate=gate)), start("b", url)
    async with Ear(one) as ann:
        generation_id = (await ann.ask("start-generation", REQUEST))["generationId"]
        await ann.until("audio-generation-started")
    gate.set()
    await until_so(lambda: other.lab.journal.is_at_hand(generation_id))
    async with Ear(other) as ann:
        await ann.ask("join-generation", {"generationId": generation_id, "afterSeq": after})
        await ann.until("audio-generation-complete")
        assert ann.lifecycle() == GENERATION[after:]
    assert held_up == []


@in_a_loop
async def test_a_client_that_is_ahead_of_the_other_server_is_sent_nothing_twice(url, start, held_up):
    gate = threading.Event()
    one, other = start("a", url, audio=Player(gate=gate)), start("b", url)
    async with Ear(one) as ann, Ear(other) as far, Ear(other) as knowing:
        generation_id = (await ann.ask("start-generation", REQUEST))["generationId"]
        await ann.until("audio-generation-started")
        await until_so(lambda: other.lab.journal.is_at_hand(generation_id))
        await far.ask("join-generation", {"generationId": generation_id})
        has_all = {"generationId": generation_id, "afterSeq": GENERATION[-1][1]}
        joining = asyncio.create_task(knowing.ask("join-generation", has_all))
        await asyncio.sleep(0.2)
        gate.set()
        assert (await joining)["replayed"] == 0
        await far.until("audio-generation-complete")
        assert far.lifecycle() == GENERATION
        assert knowing.lifecycle() == []
    assert held_up == []


def known_to(server, generation_id):
    """Return the number of the last lifecycle event of the generation family that the server knows."""
    at_hand = server.lab.journal.is_at_hand(generation_id)
    return server.lab.journal.state(generation_id).generation_cursor.seq if at_hand else 0


@in_a_loop
async def test_a_client_that_names_a_number_which_never_comes_is_sent_what_comes(url, start, monkeypatch):
    monkeypatch.setattr(ahead, "AHEAD_S", 0.2)
    gate = threading.Event()
    one, other = start("a", url, audio=Player(gate=gate)), start("b", url)
    async with Ear(one) as ann, Ear(other) as knowing:
        generation_id = (await ann.ask("start-generation", REQUEST))["generationId"]
        await ann.until("audio-generation-started")
        await until_so(lambda: known_to(other, generation_id) == GENERATION[-2][1])
        await knowing.ask("join-generation", {"generationId": generation_id, "afterSeq": 1000})
        gate.set()
        await knowing.until("audio-generation-complete")
        assert knowing.lifecycle() == GENERATION[-1:]


@in_a_loop
async def test_a_cancel_reaches_the_server_that_has_the_song(url, start, held_up):
    one, other = start("a", url, metadata=Writer(gate=threading.Event())), start("b", url)
    async with Ear(one) as ann, Ear(other) as far, Ear(other, "bob") as bob:
        generation_id = (await ann.ask("start-generation", REQUEST))["generationId"]
        await ann.until("metadata-generation-started")
        assert (await bob.ask("cancel-generation", {"generationId": generation_id}))["error"]["code"] == "CANCEL_FAILED"
        assert await far.ask("cancel-generation", {"generationId": generation_id}) == {
            "ok": True,
            "generationId": generation_id,
        }
        await ann.until("generation-cancelled")
        again = await far.ask("cancel-generation", {"generationId": generation_id})
        assert again["ok"]
        waiting = (await ann.ask("start-generation", REQUEST))["generationId"]
        async with aiohttp.ClientSession() as http:
            headers = {"Authorization": f"Bearer {far.token}"}
            async with http.delete(f"{other.url}/api/generations/{waiting}", headers=headers) as answer:
                assert answer.status == 200
        await ann.until("generation-cancelled", count=2)
    assert held_up == []


@in_a_loop
async def test_a_retry_goes_on_where_the_finished_parts_are(url, start):
    writer = Writer(errors=[ValueError("a defect")])
    one, other = start("a", url, metadata=writer), start("b", url, metadata=Writer(gate=threading.Event()))
    async with Ear(one) as ann, Ear(other) as far:
        generation_id = (await ann.ask("start-generation", REQUEST))["generationId"]
        await far.ask("join-generation", {"generationId": generation_id})
        await far.until("generation-error")
        again = await far.ask("retry-generation", {"generationId": generation_id})
        state = one.lab.journal.state(generation_id)
        if again["ok"]:
            await far.until("audio-generation-complete")
            assert writer.calls >= 2
        else:  # a defect isn't recoverable, which the server that has it says
            assert (again["error"]["code"], state.status) == ("NOT_RECOVERABLE", "failed")


@in_a_loop
async def test_a_song_is_shared_and_taken_back_through_either_server(url, start, held_up):
    one, other = start("a", url, metadata=Writer(gate=threading.Event())), start("b", url)
    async with Ear(one) as ann, Ear(other) as far, Ear(one, "bob") as bob, Ear(other, "bob") as far_bob:
        generation_id = (await ann.ask("start-generation", REQUEST))["generationId"]
        asked = {"generationId": generation_id, "userId": "bob", "role": "controller"}
        assert (await far.ask("share-generation", asked))["shares"] == [{"userId": "bob", "role": "controller"}]
        for ear in (bob, far_bob):
            joined = await ear.ask("join-generation", {"generationId": generation_id})
            assert (joined["ok"], joined["snapshot"]["access"]) == (True, "controller")
        await ann.ask("unshare-generation", {"generationId": generation_id, "userId": "bob"})
        for ear in (bob, far_bob):
            assert (await ear.until("generation-shared", count=len(ear.of("generation-shared")) or 1)) is not None
            await until_so(lambda e=ear: e.of("generation-shared")[-1].get("access") is None)
        assert not (await far_bob.ask("join-generation", {"generationId": generation_id}))["ok"]
    assert held_up == []


@in_a_loop
async def test_a_revoked_token_ends_on_every_server(url, start, held_up):
    one, other = start("a", url), start("b", url)
    async with Ear(one) as ann, Ear(other) as far, Ear(other, "bob") as bob:
        one.revoke("ann")
        await asyncio.wait_for(asyncio.gather(ann.gone.wait(), far.gone.wait()), 60)
        assert not bob.gone.is_set()
        async with aiohttp.ClientSession() as http:
            headers = {"Authorization": f"Bearer {ann.token}"}
            async with http.get(f"{other.url}/api/generations", headers=headers) as answer:
                assert answer.status == 401
    assert held_up == []


@in_a_loop
async def test_what_was_revoked_before_redis_stays_so(url, start, tmp_path):
    with make_lab(tmp_path / "a") as lab:
        server = lab.serve(port=0, key=tmp_path / "token.key")
        token = server.token("ann")
        server.revoke("ann")
    start("a", url)
    other = start("b", url)
    async with aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {token}"}
        async with http.get(f"{other.url}/api/generations", headers=headers) as answer:
            assert answer.status == 401


@in_a_loop
async def test_a_user_has_one_limit_on_all_servers(url, start):
    rates = RateLimits(starts=(0.001, 3))
    gate = threading.Event()
    one, other = (start(name, url, metadata=Writer(gate=gate), rates=rates) for name in "ab")
    async with Ear(one) as ann, Ear(other) as far, Ear(other, "bob") as bob:
        for _ in range(3):
            assert (await ann.ask("start-generation", REQUEST))["ok"]

        async def refused():
            answer = await far.ask("start-generation", REQUEST)
            return not answer["ok"] and answer["error"]["code"] == "RATE_LIMITED"

        for _ in range(2):
            if await refused():
                break
            await asyncio.sleep(0.5)
        else:
            pytest.fail("the other server lets the user start as many again")
        assert (await bob.ask("start-generation", REQUEST))["ok"]
        gate.set()


@in_a_loop
async def test_the_queue_of_all_servers_has_one_limit(url, start):
    gate = threading.Event()
    one, other = (start(name, url, metadata=Writer(gate=gate), queue=QueueLimits(total=9, per_user=2)) for name in "ab")
    async with Ear(one) as ann, Ear(other) as far:
        for _ in range(3):  # one runs, two wait
            assert (await ann.ask("start-generation", REQUEST))["ok"]
            await asyncio.sleep(0.05)
        answer = await far.ask("start-generation", REQUEST)
        assert answer["error"]["code"] == "QUEUE_FULL"
        assert "on all servers" in answer["error"]["message"]
        gate.set()


@in_a_loop
async def test_an_id_that_one_server_has_reserved_is_taken_on_the_other(url, start, held_up):
    one, other = start("a", url), start("b", url)
    async with Ear(one) as ann, Ear(other, "bob") as bob:
        assert (await ann.ask("join-generation", {"generationId": "mine"}))["ok"]
        assert (await bob.ask("join-generation", {"generationId": "mine"}))["error"]["code"] == "NOT_FOUND"
        answer = await bob.ask("start-generation", REQUEST | {"generationId": "mine"})
        assert "is in use" in answer["error"]["message"]
        assert (await ann.ask("start-generation", REQUEST | {"generationId": "mine"}))["ok"]
        await ann.until("audio-generation-complete")
    assert held_up == []


def test_servers_whose_keys_differ_do_not_start_together(url, start, tmp_path):
    one = start("a", url)
    until(lambda: "key" in one.lab.shared.connection.servers()[0])
    with pytest.raises(InvalidRequest, match="another key") as caught:
        start("b", url, key=tmp_path / "another.key")
    assert "HARMONIA_TOKEN_KEY" in caught.value.hint


@in_a_loop
async def test_while_redis_is_away_songs_go_on_and_commands_say_so(tmp_path, start, held_up):
    (tmp_path / "redis").mkdir()
    with running_redis(tmp_path / "redis", fsync="no") as redis:
        gate = threading.Event()
        one, other = start("a", redis.url, metadata=Writer(gate=gate)), start("b", redis.url)
        async with Ear(one) as ann, Ear(other) as far:
            generation_id = (await ann.ask("start-generation", REQUEST))["generationId"]
            await ann.until("metadata-generation-started")
            await far.ask("join-generation", {"generationId": generation_id})
            await asyncio.to_thread(redis.stop)
            gate.set()
            await ann.until("audio-generation-complete")
            assert ann.lifecycle() == GENERATION
            for ear in (ann, far):
                refused = await ear.ask("start-generation", REQUEST)
                assert (refused["ok"], refused["error"]["code"]) == (False, "NETWORK_TEMPORARY")
                assert refused["error"]["recoverable"]
            async with aiohttp.ClientSession() as http, http.get(f"{one.url}/readyz") as answer:
                found = await answer.json()
                assert (answer.status, found["checks"]["journal"]) == (200, "NETWORK_TEMPORARY")
            await asyncio.to_thread(redis.start)
            await far.until("audio-generation-complete")
            assert far.lifecycle() == GENERATION
            await until_so(lambda: not one.lab.shared.lease.away)
            assert (await far.ask("start-generation", REQUEST))["ok"]
            await far.until("audio-generation-complete", count=2)
        assert held_up == []


SERVE = """
import json, pathlib, sys, threading
from harmonia_lab.store.shared import lease
lease.LEASE_S, lease.BEAT_S = 1.0, 0.2
from tests.server.engines import Writer, make_lab
folder, url, key = json.loads(sys.argv[1])
lab = make_lab(pathlib.Path(folder), redis=url, metadata=Writer(gate=threading.Event()))
print(lab.serve(port=0, key=key).url, flush=True)
sys.stdin.read()
"""


@in_a_loop
async def test_the_songs_of_a_killed_server_end_as_interrupted_on_the_others(url, start, tmp_path, redis_server):
    other = start("b", url)
    command = [sys.executable, "-c", SERVE, json.dumps([str(tmp_path / "a"), url, str(tmp_path / "token.key")])]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
    address = await asyncio.to_thread(process.stdout.readline)

    class One:
        url = address.strip()

    async with Ear(One, token=other.token("ann")) as ann, Ear(other) as far:
        generation_id = (await ann.ask("start-generation", REQUEST))["generationId"]
        await ann.until("metadata-generation-started")
        await far.ask("join-generation", {"generationId": generation_id})
        process.kill()
        process.communicate()
        await asyncio.to_thread(redis_server.age, 2)
        error = await far.until("generation-error")
        assert (error["error"]["code"], error["final"], error["seq"]) == ("INTERRUPTED", True, 2)
        assert (await far.ask("retry-generation", {"generationId": generation_id}))[
            "ok"
        ]  # by this one: the other's gone
        await far.until("audio-generation-complete")
        assert [seq for _, seq in far.lifecycle()] == list(range(1, 7))


def test_an_isolated_server_and_one_that_asks_another_machine_share_nothing(url, tmp_path):
    with make_lab(tmp_path / "a", redis=url) as lab, pytest.raises(InvalidRequest, match="from its own process"):
        lab.serve(isolated=True)
    with pytest.raises(InvalidRequest, match="nothing would be encrypted"):
        make_lab(tmp_path / "b", redis="redis://redis.example")


def test_one_server_alone_loads_nothing_of_this():
    """python-socketio itself imports the client library where that is installed."""
    code = """
import sys, harmonia_lab.lab
assert "redis" not in sys.modules
import harmonia_lab.server.server_thread
assert not [name for name in sys.modules if name.startswith("harmonia_lab.") and "shared" in name]
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_server_that_stops_as_it_was_meant_to_leaves_its_songs_at_once(url, start):
    one, other = start("a", url, metadata=Writer(gate=threading.Event())), start("b", url)
    job = one.lab.submit("A small boat.", seconds=2)
    until(lambda: job.status == "processing")
    one.lab.shared.lease.stop()  # as at the exit of `harmonia serve`, which cancels no song
    until(lambda: other.lab.journal.state(job.id).status == "failed")
    assert other.lab.journal.submissions.deaths(job.id) == 0
