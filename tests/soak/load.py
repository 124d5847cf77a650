"""A mixed load: users who start songs, cancel, share, lose their connection, come back and download, and a slow client.

Owns what they do and what they count. `measure.py` looks at the server meanwhile.
"""

import asyncio
import contextlib
import random
import socket
from collections import Counter

import aiohttp

from benchmarks.server.websocket import LightSocket
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.protocol.events import AudioGenerationComplete
from harmonia_lab.protocol.models import SongRequest
from tests.chaos.world import CALM, Ear

USERS = ("ann", "bob", "cat")
PAUSE_S = (1.0, 6.0)
"""Between two songs of one user."""


class Load:
    """counts: what was done. faults: what should not have been."""

    def __init__(self, world, seed):
        self._world, self._draw = world, random.Random(seed)
        self._ears = {}
        self.counts, self.faults = Counter(), []

    async def run(self, until):
        """Go on until the event `until` is set, and then to the end of what was begun."""
        async with contextlib.AsyncExitStack() as stack:
            for user in USERS:
                self._ears[user] = await stack.enter_async_context(Ear(user, self._world.victim))
            self._session = await stack.enter_async_context(aiohttp.ClientSession())
            work = [self._user(ear, until) for ear in self._ears.values()]
            await asyncio.gather(*work, self._slow_client(until))

    async def _user(self, ear, until):
        number = 0
        while not until.is_set():
            number += 1
            try:
                await self._song(ear, f"{ear.user}-{number}-{self._draw.randbytes(4).hex()}")
            except Exception as error:  # noqa: BLE001 - it is counted, and the load goes on
                self.faults.append(f"{ear.user}'s song {number}: {type(error).__name__}: {error}")
            ear.forget()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(until.wait(), self._draw.uniform(*PAUSE_S))

    async def _song(self, ear, song):
        draw = self._draw
        request = {"metadata": CALM} if draw.random() < 0.3 else {"narrative": "A lamp burns."}
        await ear.client.start(SongRequest(generation_id=song, seconds=1, **request))
        self.counts["songs"] += 1
        if draw.random() < 0.2:
            await self._share(ear, song)
        if draw.random() < 0.2:
            await ear.until(lambda: ear.progress(song) >= draw.random())
            ear.proxy.cut()
            self.counts["connections cut"] += 1
        if draw.random() < 0.2:
            await ear.until(lambda: ear.progress(song) >= 0.5 * draw.random())
            with contextlib.suppress(HarmoniaError):  # it has ended
                await ear.client.cancel(song)
                self.counts["cancels"] += 1
        if not await ear.until_over(song):
            self.faults.append(f"{song} had not ended in time")
        if ear.ends(song) != [1, 1]:
            self.faults.append(f"{song} has {ear.ends(song)} ends")
        done = [event for event in ear.lifecycle(song) if isinstance(event, AudioGenerationComplete)]
        if done and draw.random() < 0.5:
            await self._download(done[0])
        await ear.client.leave(song)

    async def _share(self, ear, song):
        other = self._ears[self._draw.choice([user for user in USERS if user != ear.user])]
        await ear.client.share(song, other.user)
        await other.client.join(song)
        self.counts["shares and joins"] += 1
        if self._draw.random() < 0.5:
            await ear.client.unshare(song, other.user)
        else:
            await other.client.leave(song)

    async def _download(self, done):
        async with self._session.get(done.audio_url) as answer:
            data = await answer.read()
        self.counts["downloads"] += 1
        if answer.status != 200 or len(data) != done.file_size:
            self.faults.append(f"{done.generation_id}: a download answered {answer.status} with {len(data)} bytes")

    async def _slow_client(self, until):
        """Read a few bytes ten times a second; come back when the server has closed the connection."""
        world = self._world
        while not until.is_set():
            slow = await asyncio.to_thread(LightSocket, world.victim.url, world.tokens["ann"])
            self.counts["slow connections"] += 1
            slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.socket.setblocking(False)
            slow.emit(1, "jobs:subscribe:user", None)
            with contextlib.suppress(OSError):
                while not until.is_set():
                    await asyncio.sleep(0.1)
                    with contextlib.suppress(BlockingIOError):
                        if not slow.socket.recv(200):
                            break
            slow.close()
