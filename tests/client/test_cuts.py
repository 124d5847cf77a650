"""Cut off at random moments, again and again: no lifecycle event lost or doubled, and progress never goes back.

HARMONIA_CUTS: how many cuts (default 20); a tenth as many `kill -9` come on top.
"""

import asyncio
import contextlib
import os
import random

from harmonia_lab.client import Backoff, Client
from harmonia_lab.errors import Refused
from harmonia_lab.protocol.events import AudioGenerationComplete, GenerationError, JobProgressEvent, ProgressEvent
from harmonia_lab.server.server_thread import new_tokens
from harmonia_lab.server.settings import RateLimits, ServerSettings
from tests.client.proxy import Proxy
from tests.server.conftest import GENERATION, JOB, serving
from tests.server.elsewhere import Elsewhere
from tests.server.engines import Player, Writer
from tests.waiting import until_so

CUTS = int(os.environ.get("HARMONIA_CUTS", "20"))
SEED = 5
FAST = {"rates": RateLimits(starts=(1000.0, 1000), costs=(1e6, 10**6)), "progress_interval_s": 0.01}


def test_over_random_cuts_no_lifecycle_event_is_lost_or_doubled_and_progress_never_goes_back(tmp_path):
    """Cut by the proxy, by the server letting its clients go, and by a server that ends while another takes its place.

    Both families, one of them by the user's room.
    """
    moments = random.Random(SEED)

    async def song(lab, proxy, number, cuts):
        """One song, cut off until it ends; how many cuts that were."""
        made = 0
        async with Client(proxy.url, backoff=Backoff(0.005, 0.02)) as client:
            await client.connect(lambda: lab.server.token("ann"))
            await client.subscribe_to_user_jobs()
            generation_id = f"g{number}"
            # Some cuts fall on the start itself, its answer included.
            starting = asyncio.create_task(client.start("A boat.", generation_id=generation_id, seconds=1))
            events, jobs = client.events(generation_id), client.job_events(generation_id)
            reading = [asyncio.create_task(_all(stream)) for stream in (events, jobs)]
            while made < cuts and not all(task.done() for task in reading):
                await asyncio.sleep(moments.random() * 0.12)
                chance, connections = moments.random(), proxy.made
                if chance < 0.7:
                    proxy.cut()
                elif chance < 0.9:
                    lab.server._loop.call_soon_threadsafe(drop_all, lab.server._app)
                else:
                    await asyncio.to_thread(restart, lab)
                    proxy.port = int(lab.server.url.rpartition(":")[2])
                made += 1
                # Or the next cut might hit nothing.
                await until_so(lambda before=connections: proxy.made > before or all(t.done() for t in reading))
            assert (await starting).generation_id == generation_id
            generation, job = await asyncio.wait_for(asyncio.gather(*reading), 120)
        assert _lifecycle(generation) == GENERATION
        assert _lifecycle(job) == JOB
        overall = [event.overall_progress for event in generation if isinstance(event, ProgressEvent)]
        assert overall == sorted(overall)
        percentages = [event.progress.percentage for event in job if isinstance(event, JobProgressEvent)]
        assert percentages == sorted(percentages)
        return made

    async def main(server):
        async with Proxy(server) as proxy:
            made = number = 0
            while made < CUTS:
                made += await song(server.lab, proxy, number, CUTS - made)
                number += 1
        assert proxy.made > CUTS / 2  # most of the cuts have hit a connection
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with serving(tmp_path, metadata=Writer(steps=20, step_s=0.02), audio=Player(step_s=0.1), **FAST) as server:
        asyncio.run(main(server))


def test_over_random_kills_of_the_serving_process_no_lifecycle_event_is_lost_or_doubled(tmp_path):
    """With cuts in between. What a kill interrupts is tried again, and goes on with its numbers."""
    moments = random.Random(SEED)
    kills = max(2, CUTS // 10)
    (tmp_path / "home").mkdir()
    token = new_tokens(ServerSettings(), tmp_path / "home").issue("ann").token

    async def main():
        interrupted = 0
        async with Killable(tmp_path) as servers, Proxy(servers.latest) as proxy:
            for number in range(kills):
                async with Client(proxy.url, backoff=Backoff(0.005, 0.05)) as client:
                    await client.connect(token)
                    begun = asyncio.Event()
                    disturbing = asyncio.create_task(servers.disturb(proxy, moments, begun))
                    generation, job = await asyncio.wait_for(_song(client, f"g{number}", begun), 120)
                    await disturbing
                interrupted += len(list(_attempts(generation))) - 1
                names = [name for name, _ in _lifecycle(generation)]
                assert names[-2:] == ["audio-generation-started", "audio-generation-complete"]
                for events in (generation, job):
                    assert [seq for _, seq in _lifecycle(events)] == list(range(1, len(_lifecycle(events)) + 1))
                ticks = [event.tick for event in generation if isinstance(event, ProgressEvent)]
                assert ticks == sorted(set(ticks))
                for attempt in _attempts(generation):
                    overall = [event.overall_progress for event in attempt if isinstance(event, ProgressEvent)]
                    assert overall == sorted(overall)
        assert interrupted >= kills / 2  # most of the kills have hit a song

    asyncio.run(main())


class Killable:
    """Serving processes, one after another. latest: the one that lives."""

    def __init__(self, folder):
        self._folder = folder
        self.latest = self._serve()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.latest.kill()

    async def disturb(self, proxy, moments, begun):
        """One kill at a random moment of the song, after some cuts, which may come before it."""
        for _ in range(moments.randrange(4)):
            await asyncio.sleep(moments.random() * 0.1)
            proxy.cut()
        await begun.wait()
        await asyncio.sleep(moments.random() * 0.3)
        await asyncio.to_thread(self.latest.kill)
        self.latest = await asyncio.to_thread(self._serve)
        proxy.port = int(self.latest.url.rpartition(":")[2])

    def _serve(self):
        return Elsewhere(self._folder, steps=20, step_s=0.05, player={"step_s": 0.2})


async def _song(client, generation_id, begun):
    """The events of both families, from before it starts until it is whole, however often it has to be tried.

    begun: set with the first of them.
    """
    await client.subscribe_to_user_jobs()
    jobs, generation = client.job_events(), []
    heard = client.events()
    starting = asyncio.create_task(client.start("A boat.", generation_id=generation_id, seconds=1))
    async for event in heard:
        generation.append(event)
        begun.set()
        if isinstance(event, GenerationError) and event.final:
            assert event.error.code == "INTERRUPTED"
            with contextlib.suppress(Refused):  # it was heard before, and only the answer was lost with a connection
                await client.retry(generation_id)
        if isinstance(event, AudioGenerationComplete):
            break
    await starting
    await client.subscribe_to_job(generation_id)  # what is missing comes before the answer
    jobs.close()
    return generation, [event async for event in jobs]


def _attempts(events):
    attempt = []
    for event in events:
        attempt.append(event)
        if isinstance(event, GenerationError) and event.final:
            yield attempt
            attempt = []
    yield attempt


def restart(lab):
    lab.server.stop()
    lab.serve(port=0, **FAST)


def drop_all(app):
    for eio_sid in list(app.gateway.clients):
        app._sockets.drop(eio_sid)


async def _all(stream):
    return [event async for event in stream]


def _lifecycle(events):
    return [(event.name, event.seq) for event in events if event.delivery == "lifecycle"]
