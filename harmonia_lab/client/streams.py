"""Events on their way to one reader, who may be slow.

Owns the waiting line: every lifecycle event, the latest progress of each generation, a few previews. What a reader gets
to hear is the client's business.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

from harmonia_lab.errors import HarmoniaError
from harmonia_lab.protocol.events import (
    AudioGenerationComplete,
    Family,
    FamilyEvent,
    GenerationCancelled,
    GenerationError,
    JobStatusEvent,
)

__all__ = ["Stream", "is_end"]

MAX_PREVIEWS = 64
"""Events that may wait before previews are dropped: those are large, and the song brings the same audio."""

E = TypeVar("E", bound=FamilyEvent)


def is_end(event: FamilyEvent) -> bool:
    """Whether nothing follows `event` in its family, unless the generation is tried again."""
    if isinstance(event, GenerationError):
        return event.final
    if isinstance(event, JobStatusEvent):
        return event.status in {"completed", "failed", "cancelled"}
    return isinstance(event, AudioGenerationComplete | GenerationCancelled)


class Stream(AsyncIterator[E], Generic[E]):
    """`async for event in stream`: it ends with the generation, or when the client disconnects.

    Raises, once what waits has been read, the HarmoniaError that ended the client's connection for good.
    """

    def __init__(
        self,
        wanted: type[E] | tuple[type[E], ...],
        family: Family | None,
        generation_id: str | None = None,
        over: Callable[[FamilyEvent], bool] = is_end,
    ) -> None:
        """family: None hears both, in the order in which they came. generation_id: None hears of all, and does not end
        with one. over: whether nothing wanted follows."""
        self.lane = (family, generation_id)
        self._wanted, self._is_over = wanted, over
        self._waiting: dict[object, E] = {}
        self._numbers = itertools.count()
        self._news = asyncio.Event()
        self._over = False
        self._closed = False
        self._error: HarmoniaError | None = None

    def put(self, event: FamilyEvent) -> None:
        """Takes what it wants. Never waits."""
        family, generation_id = self.lane
        if self._closed or family not in {None, event.family} or generation_id not in {None, event.generation_id}:
            return
        if event.delivery == "lifecycle" and generation_id is not None:
            self._over = self._is_over(event)  # a retry goes on
        if isinstance(event, self._wanted):
            if event.delivery == "progress":
                lane = (event.family, event.generation_id)
                self._waiting.pop(lane, None)
                self._waiting[lane] = event
            elif event.delivery == "lifecycle" or len(self._waiting) < MAX_PREVIEWS:
                self._waiting[next(self._numbers)] = event
        self._news.set()

    def close(self, error: HarmoniaError | None = None) -> None:
        """Nothing comes after what waits. error: why."""
        self._closed, self._error = True, error
        self._news.set()

    async def __anext__(self) -> E:
        while not self._waiting:
            if self._error is not None:
                raise self._error
            if self._over or self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._waiting.pop(next(iter(self._waiting)))
