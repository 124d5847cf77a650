"""One fault, once: two users' songs, the fault at its moment, a retry where one is due, and the invariants.

Owns the order of these, and what stands in a run's row.
"""

import asyncio
import contextlib
import random
import time

from harmonia_lab.errors import HarmoniaError
from harmonia_lab.protocol.models import SongRequest
from tests.chaos import invariants
from tests.chaos.kinds import ITSELF, NOT, RETRY
from tests.chaos.world import CALM, PATIENCE_S, World, empty

WARM_UP = 3
SETTLE_S = 5.0
"""For what happens after the last event, such as a client's socket that closes."""


async def runs_of(kind, numbers, seed, done):
    """Run a kind in one world, and call `done` with each row. A world that a hang has spoilt is made anew."""
    numbers = list(numbers)
    while numbers:
        async with World(kind) as world:
            await warm_up(world)
            while numbers:
                row = await run(world, numbers.pop(0), seed)
                done(row)
                if row["spoilt"]:
                    break


async def warm_up(world, songs=WARM_UP):
    for number in range(songs):
        await begin(world.ann, f"warm{number}-{world.mark}", narrative="A lamp burns.")
        await begin(world.bob, f"calm{number}-{world.mark}", metadata=CALM)
        await world.ann.until_over(f"warm{number}-{world.mark}")
        await world.bob.until_over(f"calm{number}-{world.mark}")
        await leave(world, f"warm{number}-{world.mark}", f"calm{number}-{world.mark}")
    world.base = await world.ask()
    if world.kind.small:
        await asyncio.to_thread(empty, world.songs)


async def run(world, number, seed):
    """Return the row of one run."""
    one = _Run(world, random.Random(f"{seed}/{world.kind.name}/{number}"), number)
    await one.go()
    world.ann.forget(), world.bob.forget()
    world.fault_file.unlink(missing_ok=True)
    if world.kind.small:
        await asyncio.to_thread(empty, world.songs)
    return {"kind": world.kind.name, "run": number, **one.row}


class _Run:
    """attempts: how often each song was begun by somebody's wish, by the song's id."""

    def __init__(self, world, draw, number):
        self._world, self._draw = world, draw
        lot = draw.randbytes(5).hex()
        self._song, self._calm = f"a{lot}-{number}", f"b{lot}-{number}"
        self._attempts = {self._song: 1, self._calm: 1}
        self._broken, self._by_itself, self._lost = [], False, world.bob.lost

    async def go(self):
        began = time.monotonic()
        harm = asyncio.create_task(self._world.kind.fault(self._world, self._song, self._draw))
        await asyncio.sleep(0)
        try:
            await self._live_through(harm)
        except Exception as error:  # noqa: BLE001 - the run is broken, whatever it was; the next one goes on
            self._broken.append(f"{type(error).__name__}: {error}")
        harm.cancel()
        await asyncio.wait({harm})
        spoilt = bool(self._broken)
        self._broken += await settled(self._world, self._attempts)
        self._look_at_the_bystander()
        made = status(self._world.ann, self._song) == "completed"
        self.row = {
            "seconds": round(time.monotonic() - began, 2),
            "outcome": (ITSELF if self._by_itself else RETRY) if made else NOT,
            "broken": self._broken,
            "spoilt": spoilt,
        }

    async def _live_through(self, harm):
        """Make both songs, to their end and to the fault's; then try again what failed."""
        ann, bob = self._world.ann, self._world.bob
        songs = [(ann, self._song, {"narrative": "A lamp burns."}), (bob, self._calm, {"metadata": CALM})]
        self._draw.shuffle(songs)
        for ear, generation_id, request in songs:
            await begin(ear, generation_id, **request)
        await self._end(ann, self._song)
        others = await asyncio.wait_for(harm, 2 * PATIENCE_S) or []
        self._attempts |= dict.fromkeys(others, 1)
        await self._end(bob, self._calm)
        for other in others:
            await self._end(ann, other)
        self._by_itself = status(ann, self._song) == "completed"
        for generation_id in list(self._attempts):
            ear = bob if generation_id == self._calm else ann
            self._attempts[generation_id] += await try_again(ear, generation_id)

    async def _end(self, ear, generation_id):
        if not await ear.until_over(generation_id):
            self._broken.append(f"{generation_id} had not ended after {PATIENCE_S:g} s")

    def _look_at_the_bystander(self):
        if not self._world.kind.spares:
            return
        ended, attempts = status(self._world.bob, self._calm), self._attempts[self._calm]
        if attempts > 1 or ended != "completed":
            self._broken.append(f"{self._calm}, another user's song, was {ended} in {attempts} attempts")
        if self._world.bob.lost != self._lost:
            self._broken.append("another user's connection was lost")


async def begin(ear, generation_id, **request):
    """Start a song; again, while the server says that it can't keep it just now."""
    for wait_s in (0.1, 0.2, 0.4, 0.8, 0.0):
        try:
            await ear.client.start(SongRequest(generation_id=generation_id, seconds=1, **request))
        except HarmoniaError as error:
            if not wait_s or not error.code.startswith("STORAGE"):
                raise
            await asyncio.sleep(wait_s)
        else:
            return


async def try_again(ear, generation_id):
    """Retry as a person would, if the song failed and may be tried again. Return the number of retries."""
    state = ear.client.store.state.generations.get(generation_id)
    if state is None or state.status != "failed" or state.failure is None or not state.failure.error.recoverable:
        return 0
    await ear.client.retry(generation_id)
    await ear.until_over(generation_id, attempts=2)
    return 1


def status(ear, generation_id):
    state = ear.client.store.state.generations.get(generation_id)
    return None if state is None else state.status


async def leave(world, *songs):
    for ear in (world.ann, world.bob):
        for song in songs:
            with contextlib.suppress(HarmoniaError):
                await ear.client.leave(song)
                await ear.client.unsubscribe_from_job(song)


async def settled(world, attempts):
    """Return the broken invariants, once nothing changes them any more."""
    with contextlib.suppress(HarmoniaError):
        await leave(world, *attempts)
    deadline = time.monotonic() + SETTLE_S
    while (broken := await look(world, attempts)) and time.monotonic() < deadline:  # noqa: ASYNC110 - a disk is looked at
        await asyncio.sleep(0.2)
    return broken


async def look(world, attempts):
    broken = []
    try:
        for generation_id, count in attempts.items():
            ear = world.bob if generation_id.startswith("b") else world.ann
            found = await asyncio.to_thread(invariants.kept, world.home, world.songs, generation_id)
            broken += invariants.broken_history(found, count)
            broken += invariants.broken_log(found)
            broken += invariants.broken_folder(found)
            broken += invariants.broken_hearing(found, ear.lifecycle(generation_id), ear.user)
        now = await world.ask()
        base = world.base if world.kind.lives else world.base | {"pss": now["pss"], "descriptors": now["descriptors"]}
        broken += invariants.broken_process(base, now)
    except Exception as error:  # noqa: BLE001 - as in `run`
        broken.append(f"{type(error).__name__}: {error}")
    broken += [f"process {pid} is nobody's child" for pid in world.orphans()]
    return broken
