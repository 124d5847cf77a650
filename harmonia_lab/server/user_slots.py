"""How much of the server one user may take at once, over all sockets and HTTP.

Owns the two queues of each user: commands that are carried out at the same time, and reading in a thread. So what many
sockets of one user ask for at once delays that user, and hardly anybody else.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["UserSlots"]

COMMANDS_AT_ONCE = 4
READERS = 2
"""Threads. More would not read faster, since they share the interpreter's lock with the event loop."""

T = TypeVar("T")


class _Slots:
    def __init__(self) -> None:
        self.commands = asyncio.Semaphore(COMMANDS_AT_ONCE)
        self.reading = asyncio.Lock()


class UserSlots:
    """`async with slots.command(user)`, `await slots.read(user, function, …)`."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="harmonia-reader")
        self._by_user: weakref.WeakValueDictionary[str, _Slots] = weakref.WeakValueDictionary()
        """Kept as long as a command uses them."""

    def command(self, user: str) -> _Turn:
        """Return a context in which at most COMMANDS_AT_ONCE of the user's commands are at the same time."""
        return _Turn(self._of(user))

    async def read(self, user: str, function: Callable[..., T], *arguments: object) -> T:
        """Return what `function` returns, called in a thread: one call of each user at a time."""
        slots = self._of(user)
        async with slots.reading:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _of(self, user: str) -> _Slots:
        slots = self._by_user.get(user)
        if slots is None:
            slots = self._by_user[user] = _Slots()
        return slots


class _Turn:
    """Holds the user's slots while one is taken."""

    def __init__(self, slots: _Slots) -> None:
        self._slots = slots

    async def __aenter__(self) -> None:
        await self._slots.commands.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._slots.commands.release()
