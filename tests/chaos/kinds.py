"""The kinds of fault: what is done to a song's world, and what should come of it.

Each fault is a coroutine that gets the world, the song's id, and a generator of random numbers for its moment. It
begins before the song does, may wait for the song to get somewhere (`reach`), and returns the ids of other songs that
it began.
"""

import asyncio
import contextlib
import os
import random
import signal
import socket
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

import aiohttp

from benchmarks.server.websocket import LightSocket
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.testing import Refusal, Reply
from tests.chaos.engines import LET_GO, arm
from tests.chaos.world import ANSWER, PIECE_S, Ear, World, fill

Fault = Callable[[World, str, random.Random], Awaitable[list[str] | None]]

ITSELF, RETRY, NOT = "by itself", "by a retry", "not"


@dataclass(frozen=True)
class Kind:
    """name, what: for the table. recovers: whether the song should be made in the end, and whether without its owner.
    spares: whether the other user's song must be made by itself. lives: whether the process lives through all runs.
    metadata, audio: engines' names. limits: of the stages, seconds. small: which folders lie on a small disk of their
    own. stands_in: what isn't real about it."""

    name: str
    what: str
    fault: Fault
    recovers: Literal["by itself", "by a retry", "not"] = ITSELF
    spares: bool = True
    lives: bool = True
    metadata: str = "chaos"
    audio: str = "chaos"
    limits: dict = field(default_factory=dict)
    small: tuple[str, ...] = ()
    stands_in: str = ""


async def reach(world, song, moment):
    """Wait until the song is that far, 0…1, or over."""
    await world.ann.until(lambda: world.ann.progress(song) >= moment)


# Stage 1: an Ollama-compatible endpoint


def spoilt(fault):
    async def happen(world, _song, draw):
        world.replies.append(Reply(ANSWER, piece_s=PIECE_S, fault=fault, fault_after=draw.random()))

    return happen


async def endpoint_killed(world, _song, draw):
    asked = len(world.ollama.chats)
    while len(world.ollama.chats) == asked:  # noqa: ASYNC110 - the endpoint runs in another thread
        await asyncio.sleep(0.005)
    await asyncio.sleep(draw.random() * PIECE_S * len(ANSWER.split()))
    await asyncio.to_thread(world.ollama.stop)
    await asyncio.sleep(draw.random() * 0.5)
    await asyncio.to_thread(world.ollama.start)


async def endpoint_away(world, song, draw):
    await asyncio.to_thread(world.ollama.stop)
    await world.ann.until(lambda: any(event.family == "generation" for event in world.ann.of(song)))
    await asyncio.sleep(draw.random() * 0.8)
    await asyncio.to_thread(world.ollama.start)


async def endpoint_slow(world, _song, draw):
    world.replies.append(Reply(ANSWER, first_token_s=draw.random(), piece_s=0.005 + 0.02 * draw.random()))


async def endpoint_busy(world, _song, draw):
    refusals = world.refusals[draw.choice(list(world.refusals))]
    busy = Refusal(503, {"error": "server busy, please try again"}, {"Retry-After": str(draw.choice([0, 0, 1]))})
    refusals.extend([busy] * draw.randint(1, 2))


# Stage 2: engines


def engine_fault(kind):
    async def happen(world, _song, draw):
        arm(world.fault_file, kind=kind, after=draw.randrange(2))

    return happen


async def engine_hangs(world, song, draw):
    """The call returns after the song has been given up: what it holds is free again then."""
    arm(world.fault_file, kind="hang", after=draw.randrange(2))
    await world.ann.until_over(song)
    world.fault_file.with_suffix(LET_GO).touch()


async def child_killed(world, song, draw):
    """Kill what the engine has started, at a random moment of the song."""
    await reach(world, song, draw.random() * 0.9)
    for pid in (await world.ask())["children"]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# Disks and the journal


def disk_full(which):
    async def happen(world, song, draw):
        await reach(world, song, draw.random() * 0.98)
        ballast = await asyncio.to_thread(fill, getattr(world, which))
        await asyncio.sleep(0.1 + draw.random() * 0.6)
        ballast.unlink()

    return happen


async def journal_locked(world, song, draw):
    await reach(world, song, draw.random() * 0.98)
    with contextlib.closing(_open_journal(world)) as other:
        other.execute("BEGIN EXCLUSIVE")
        await asyncio.sleep(0.1 + draw.random() * 1.4)
        other.execute("ROLLBACK")


async def journal_damaged(world, song, draw):
    """Damage what the journal holds of another song, and ask for that one meanwhile."""
    await reach(world, song, draw.random() * 0.98)
    with contextlib.closing(_open_journal(world)) as other:
        (older,) = other.execute(
            "SELECT id FROM generations WHERE id LIKE 'calm%' ORDER BY random() LIMIT 1"  # of the warm-up
        ).fetchone()
        column = draw.choice(["job", "request", "progress"])
        other.execute(f"UPDATE generations SET {column} = ? WHERE id = ?", (draw.randbytes(20).hex(), older))
        other.execute("UPDATE events SET payload = '{' WHERE generation = ?", (older,))
        other.commit()
    for command in (world.bob.client.join, world.bob.client.leave):
        with contextlib.suppress(HarmoniaError):
            await command(older)


def _open_journal(world):
    return sqlite3.connect(world.home / "journal.sqlite3", timeout=30.0, isolation_level=None)


# Clients


async def client_vanishes(world, song, draw):
    for _ in range(draw.randint(1, 3)):
        await reach(world, song, draw.random())
        world.ann.proxy.cut()
        await asyncio.sleep(draw.random() * 0.1)


async def client_slow(world, song, draw):
    """A client of the same user asks for everything, and reads nothing until the song is over."""
    await reach(world, song, draw.random() * 0.5)
    slow = await asyncio.to_thread(LightSocket, world.victim.url, world.tokens["ann"])
    slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    try:
        slow.emit(1, "join-generation", {"generationId": song, "afterSeq": 0})
        await world.ann.until_over(song)
        await asyncio.to_thread(slow.receive_until, b'42["audio-generation-complete"')
    finally:
        slow.close()


async def client_floods(world, song, draw):
    """Another user sends thousands of messages at once, over sockets and HTTP."""
    await reach(world, song, draw.random() * 0.9)
    flood = await asyncio.to_thread(LightSocket, world.victim.url, world.tokens["eve"])
    try:
        await asyncio.to_thread(_flood, flood)
        head = {"Authorization": f"Bearer {world.tokens['eve']}"}
        async with aiohttp.ClientSession(headers=head) as session:
            gets = [session.get(f"{world.victim.url}/api/generations") for _ in range(50)]
            for answer in await asyncio.gather(*gets):
                answer.release()
    except OSError:  # the server has closed the flood's connection
        pass
    finally:
        flood.close()


def _flood(socket_):
    for number in range(1500):
        socket_.emit(number, "join-generation", {"generationId": f"no-{number}"})


# Processes


async def server_killed(world, song, draw):
    await reach(world, song, draw.random() * 0.98)
    await asyncio.sleep(draw.random() * 0.05)
    await world.kill(world.victim)
    await world.restart()


async def server_ends(world, song, draw):
    """An orderly end: it cancels its songs."""
    await reach(world, song, draw.random() * 0.98)
    victim = world.victims.pop()
    victim.send(do="close")
    await asyncio.to_thread(victim.__exit__, None, None, None)
    await world.restart()


async def clock_jumps(world, song, draw):
    await reach(world, song, draw.random() * 0.9)
    await world.ask(do="clock", offset_s=draw.choice([-1, 1]) * draw.choice([1.0, 3600.0, 86400.0]))
    await world.ann.until_over(song)
    await world.ask(do="clock", offset_s=0.0)


async def neighbour_killed(world, song, draw):
    """A second process on the same home makes a song for ann, and is killed: the first one says so and goes on."""
    neighbour = await world.start_victim()
    other = f"n{draw.randbytes(5).hex()}"
    async with Ear("ann", neighbour) as there:
        await there.client.start("A lamp burns.", generation_id=other, seconds=1)
        await there.until(lambda: there.progress(other) >= 0.8 * draw.random())
        await world.kill(neighbour)
    await world.ann.client.join(other)
    await world.ann.client.subscribe_to_job(other)
    return [other]


async def cancelled(world, song, draw):
    moment = draw.random()
    await world.ann.until(lambda: world.ann.of(song))
    await reach(world, song, moment)
    with contextlib.suppress(HarmoniaError):  # it has ended
        await world.ann.client.cancel(song)


OLLAMA, QUICK = {"metadata": "ollama"}, {"limits": {"audio_s": 4.0, "unheard_s": 1.0}}
KINDS = {
    kind.name: kind
    for kind in (
        Kind("endpoint killed", "the Ollama server goes in its answer; back within 0.5 s", endpoint_killed, **OLLAMA),
        Kind("endpoint away", "no Ollama server when the song begins; back within 0.8 s", endpoint_away, **OLLAMA),
        Kind("endpoint stalled", "its answer stops", spoilt("stall"), **OLLAMA),
        Kind("endpoint silent", "it never begins an answer", spoilt("hang"), **OLLAMA),
        Kind("endpoint reset", "its connection is reset in the answer", spoilt("reset"), **OLLAMA),
        Kind("endpoint failing", "an error line: the model's runner has stopped", spoilt("error"), **OLLAMA),
        Kind("endpoint junk", "a line of its answer is no JSON", spoilt("junk"), **OLLAMA),
        Kind("endpoint slow", "up to 1 s before the first word, 25 ms between words", endpoint_slow, **OLLAMA),
        Kind("endpoint busy", "HTTP 503 once or twice, at any of its addresses", endpoint_busy, **OLLAMA),
        Kind("engine raises", "stage 2 raises AUDIO_ERROR", engine_fault("raise"), stands_in="raised"),
        Kind("engine out of memory", "stage 2 raises MUSICGEN_MEMORY", engine_fault("memory"), stands_in="raised"),
        Kind("engine's defect", "stage 2 raises what nobody expects", engine_fault("defect"), NOT, stands_in="raised"),
        Kind("engine hangs", "stage 2 sleeps past its limit, deaf to a cancel", engine_hangs, NOT, **QUICK),
        Kind("engine's process killed", "`kill -9` of an engine's child", child_killed, audio="chaos-child"),
        Kind("renderer killed", "`kill -9` of the sketch engine's renderer", child_killed, audio="sketch"),
        Kind("disk full for songs", "for up to 0.7 s", disk_full("songs"), RETRY, spares=False, small=("songs",)),
        Kind("disk full for the home", "for up to 0.7 s", disk_full("home"), RETRY, spares=False, small=("home",)),
        Kind("journal locked", "by another program, for up to 1.5 s", journal_locked),
        Kind("journal damaged", "rows of another song", journal_damaged),
        Kind("client vanishes", "all connections are cut up to three times", client_vanishes),
        Kind("client slow", "a socket that doesn't read", client_slow),
        Kind("client floods", "1,500 messages and 50 requests at once", client_floods),
        Kind("server killed", "`kill -9` of the server", server_killed, RETRY, spares=False, lives=False),
        Kind("server ended", "its lab is closed; another one starts", server_ends, NOT, spares=False, lives=False),
        Kind("clock jumps", "by up to a day, and back", clock_jumps, stands_in="the process's clock is patched"),
        Kind("neighbour killed", "`kill -9` of a second process on one home, which makes a song", neighbour_killed),
        Kind("cancelled", "by its owner, at any moment", cancelled, NOT),
    )
}  # fmt: skip
