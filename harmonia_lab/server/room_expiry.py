"""The end of a generation's room: the server takes the sockets out of it, some time after the generation's end.

Owns those times. A generation that is tried again keeps its room, and whoever joins a room later gets as long.
`rooms.py` owns the members.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from harmonia_lab.events.state import GenerationState
from harmonia_lab.protocol.events import Channel, FamilyEvent, GenerationError, JobStatusEvent, LifecycleEvent
from harmonia_lab.server.rooms import Rooms

__all__ = ["RoomExpiry"]


class RoomExpiry:
    """`observe(event)`, `joined(id, state)`, both in the event loop. `due` holds the end of each room, by id."""

    def __init__(
        self,
        rooms: Rooms,
        *,
        kept_s: float,
        failed_kept_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """kept_s, failed_kept_s: seconds after the end, and after a failure that can be tried again."""
        self._rooms, self._kept_s, self._failed_kept_s, self._clock = rooms, kept_s, failed_kept_s, clock
        self.due: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def observe(self, event: FamilyEvent) -> None:
        if isinstance(event, LifecycleEvent):
            if event.ends:
                self._set(event.generation_id, isinstance(event, GenerationError) and event.error.recoverable)
            else:
                self.due.pop(event.generation_id, None)
        elif isinstance(event, JobStatusEvent) and not event.ends:
            self.due.pop(event.generation_id, None)

    def joined(self, generation_id: str, state: GenerationState | None) -> None:
        """Limit the time in a room whose generation has ended, or that no generation has."""
        if state is None or state.generation_cursor.ended:
            failure = None if state is None else state.failure
            self._set(generation_id, failure is not None and failure.error.recoverable)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def sweep(self) -> None:
        """Empty the rooms whose time has come."""
        self._timer = None
        now = self._clock()
        for generation_id in [one for one, due in self.due.items() if due <= now]:
            del self.due[generation_id]
            room = f"generation-{generation_id}"
            for client in list(self._rooms.members([room])):
                self._rooms.leave(client, room)
                client.pending.pop(Channel("generation", generation_id), None)
        self._schedule()

    def _set(self, generation_id: str, recoverable: bool) -> None:
        self.due[generation_id] = self._clock() + (self._failed_kept_s if recoverable else self._kept_s)
        self._schedule()

    def _schedule(self) -> None:
        if self.due and self._timer is None:
            wait_s = max(0.05, min(self.due.values()) - self._clock())
            self._timer = asyncio.get_running_loop().call_later(wait_s, self.sweep)
