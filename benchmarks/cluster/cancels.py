"""Cancels of songs on a cluster, as a client of the lab's server sees them.

Owns the method: MusicGen's tiny shape with random weights, in stems, by two worker processes; a client connected by
Socket.IO; the time from its call of `cancel` to its `generation-cancelled`. Moments, in turns:

    load   the worker's process is a new one, which loads libraries and model for the song
    step   in the middle of the decode loop
    queue  both workers have a song, and this one waits in Dask's queue or the lab's

Afterwards a song is made, so that a worker which has not stopped is noticed.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.cluster.faults import SEED, SONG, WAIT_S, end_of, orphans, processes_here
from harmonia_lab import Lab
from harmonia_lab.audio_engines.musicgen.random_checkpoint import make_checkpoint
from harmonia_lab.client import Client
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.server.settings import RateLimits

__all__ = ["cancels"]

LONG_S = 30.0
"""Seconds of music, so that no song ends by itself before its cancel."""
MOMENTS = ("load", "step", "queue")


def cancels(count: int) -> dict[str, Any]:
    """Cancel `count` songs. Return counts, and times in ms."""
    others = processes_here()
    with tempfile.TemporaryDirectory() as folder:
        model = make_checkpoint(Path(folder) / "model", "tiny", seed=1)
        lab = Lab(
            songs=Path(folder) / "songs",
            home=Path(folder) / "home",
            audio="musicgen",
            audio_model=str(model),
            audio_settings={"arrangement": "stems"},
            cluster="local:2",
        )
        started: set[psutil.Process] = set()
        with lab:
            songs = asyncio.run(_Cancels(lab, started).run(count))
            began = time.perf_counter()
            job = lab.submit(metadata=SONG, seconds=1, seed=1)
            next_song = {"end": end_of(job), "s": round(time.perf_counter() - began, 1)}
            started |= processes_here()
        summaries = {moment: _times([song for song in songs if song["moment"] == moment]) for moment in MOMENTS}
        return {
            "count": len(songs),
            "ends": dict(Counter(song["end"] for song in songs)),
            "terminal_events_a_song": dict(Counter(str(song["terminal_events"]) for song in songs)),
            "all": _times(songs),
            **summaries,
            "next_song": next_song,
            "orphans": orphans(started - others),
            "songs": songs,
        }


def _times(songs: list[dict[str, Any]]) -> dict[str, Any]:
    times = sorted(song["ms"] for song in songs)
    if not times:
        return {"n": 0}
    late = times[min(len(times) - 1, int(0.95 * len(times)))]
    return {"n": len(times), "p50_ms": round(median(times), 1), "p95_ms": late, "max_ms": times[-1]}


class _Cancels:
    def __init__(self, lab: Lab, started: set[psutil.Process]) -> None:
        self._lab, self._started = lab, started
        self._moments = random.Random(SEED)  # noqa: S311 - no secret
        self._number = 0

    async def run(self, count: int) -> list[dict[str, Any]]:
        server = self._lab.serve(port=0, link=False, rates=RateLimits(starts=(50.0, 500)))
        songs = []
        async with Client(server.url) as client:
            await client.connect(server.token())
            for number in range(count):
                moment = MOMENTS[number % len(MOMENTS)]
                songs.append({"moment": moment} | await getattr(self, f"_{moment}")(client))
                self._started |= processes_here()
        server.stop()
        return songs

    async def _load(self, client: Client) -> dict[str, Any]:
        await asyncio.to_thread(self._renew_workers)
        generation_id = await self._begin(client, lambda state: state is not None and state.status == "processing")
        await asyncio.sleep(self._moments.random() * 4.0)
        return await self._cancel(client, generation_id)

    async def _step(self, client: Client) -> dict[str, Any]:
        generation_id = await self._begin(client, lambda state: _fraction(state) > 0)
        await asyncio.sleep(self._moments.random() * 0.3)
        return await self._cancel(client, generation_id)

    async def _queue(self, client: Client) -> dict[str, Any]:
        busy = [await self._begin(client, lambda state: _fraction(state) > 0) for _ in range(2)]
        waits = [await self._begin(client, lambda state: state is not None) for _ in range(2)]
        await asyncio.sleep(0.2 + self._moments.random() * 0.3)
        number = self._moments.randrange(2)
        found = await self._cancel(client, waits[number])
        for generation_id in [waits[1 - number], *busy]:
            await self._cancel(client, generation_id)
        return found

    def _renew_workers(self) -> None:
        cluster = self._lab.cluster
        assert cluster is not None
        before = {facts.get("pid") for facts in cluster.facts().values()}
        for worker in list(cluster.workers(now=True)):
            cluster.restart(worker)
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            pids = {facts.get("pid") for facts in cluster.facts().values()}
            if len(pids) == 2 and None not in pids and not pids & before:
                return
            time.sleep(0.1)
        raise TimeoutError("The workers did not come back.")

    async def _begin(self, client: Client, ready: Any) -> str:
        self._number += 1
        request = SongRequest(metadata=SONG, seconds=LONG_S, seed=self._number)
        generation_id = (await client.start(request)).generation_id
        deadline = time.monotonic() + WAIT_S
        while not ready(self._lab.journal.state(generation_id)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"Song {self._number} did not begin.")
            await asyncio.sleep(0.01)
        return generation_id

    async def _cancel(self, client: Client, generation_id: str) -> dict[str, Any]:
        events = client.events(generation_id)
        ends: list[str] = []

        async def listen() -> float:
            async for event in events:
                if event.ends:
                    ends.append(event.name)
                    return time.perf_counter()
            raise AssertionError("The stream ended without the song's end.")

        listening = asyncio.create_task(listen())
        await asyncio.sleep(0)
        began = time.perf_counter()
        await client.cancel(generation_id)
        ended = await asyncio.wait_for(listening, WAIT_S)
        terminal = sum(event.ends for event in self._lab.journal.replay(generation_id, "generation"))
        return {"ms": round((ended - began) * 1000, 1), "end": ends[0], "terminal_events": terminal}


def _fraction(state: Any) -> float:
    """Return how much of the song is rendered."""
    return 0.0 if state is None or state.rendering is None else float(state.rendering.progress)
