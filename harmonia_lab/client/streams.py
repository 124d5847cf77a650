"""Events on their way to one reader, which may be slow.

Owns the reader's queue: every lifecycle event, the latest progress event of each channel, and a few previews. Not which
events the client puts into it: that is `client/client.py`'s.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

from harmonia_lab.errors import HarmoniaError
from harmonia_lab.protocol.events import AudioGenerationStarted, Family, FamilyEvent, MetadataGenerationComplete

__all__ = ["E", "Stream", "ends_metadata"]

MAX_PREVIEWS = 64
"""Queued events beyond which previews are dropped: they are large, and the finished song holds the same audio."""

E = TypeVar("E", bound=FamilyEvent)


class Stream(AsyncIterator[E], Generic[E]):
    """`async for event in stream`. It ends with the generation, or when the client disconnects.

    After the queued events, it raises the HarmoniaError that ended the client's connection for good.
    """

    def __init__(
        self,
        types: type[E] | tuple[type[E], ...],
        family: Family | None,
        generation_id: str | None = None,
        is_last: Callable[[FamilyEvent], bool] = lambda event: event.ends,
    ) -> None:
        """family: None for both. generation_id: None for all; the stream then doesn't end with a generation.
        is_last: whether no event of these types follows a lifecycle event, unless the generation is tried again."""
        self.family, self.generation_id = family, generation_id
        self._types, self._is_last = types, is_last
        self._queue: dict[object, E] = {}
        self._numbers = itertools.count()
        self._changed = asyncio.Event()
        self._ended = False
        self._closed = False
        self._error: HarmoniaError | None = None

    def put(self, event: FamilyEvent) -> None:
        """Queue `event` if it is of this stream's generation and types. Never waits."""
        matches = self.family in {None, event.family} and self.generation_id in {None, event.generation_id}
        if self._closed or not matches:
            return
        if event.delivery == "lifecycle" and self.generation_id is not None:
            self._ended = self._is_last(event)  # False again when the generation is tried again
        if isinstance(event, self._types):
            if event.delivery == "progress":
                self._queue.pop(event.channel, None)  # the new event goes to the end
                self._queue[event.channel] = event
            elif event.delivery == "lifecycle" or len(self._queue) < MAX_PREVIEWS:
                self._queue[next(self._numbers)] = event
        self._changed.set()

    def close(self, error: HarmoniaError | None = None) -> None:
        """End the stream after the queued events. error: raised to the reader at the end."""
        self._closed, self._error = True, error
        self._changed.set()

    async def __anext__(self) -> E:
        while not self._queue:
            if self._error is not None:
                raise self._error
            if self._ended or self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._queue.pop(next(iter(self._queue)))


def ends_metadata(event: FamilyEvent) -> bool:
    """Return whether no event of stage 1 follows a lifecycle event, unless the generation is tried again."""
    return isinstance(event, MetadataGenerationComplete | AudioGenerationStarted) or event.ends
