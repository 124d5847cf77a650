"""What this process knows of the generations in Redis, so that an event loop never has to ask.

Owns the copies, and which of two is newer. `feed.py` keeps them up to date, `redis_journal.py` reads and loads them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from harmonia_lab.events.state import GenerationState
from harmonia_lab.protocol.events import Family, FamilyEvent
from harmonia_lab.protocol.models import ENDED, ShareRole

__all__ = ["Copy", "Mirror"]

COPIES = 1024
"""Generations of which a copy is kept, about 30 kB each: those that were used last."""


@dataclass(frozen=True)
class Copy:
    """One generation as it stood after the change `number`. state: None if there is none of that id. process: the one
    that has it. Never changed: a new one takes its place."""

    number: int
    state: GenerationState | None = None
    process: str = ""
    events: Mapping[Family, Sequence[FamilyEvent]] = field(default_factory=dict)
    shares: Mapping[str, ShareRole] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        return self.state is None or self.state.status in ENDED

    def is_ahead_of(self, other: Copy) -> bool:
        """Whether `other` is this one before its latest events: Redis has lost them, and whoever wrote them will hand
        them in again. (An ended generation that isn't there was deleted.)"""
        if other.state is None:
            return not self.over and any(self.events.values())
        return self.process == other.process and any(
            len(events) > len(other.events.get(family, ())) for family, events in self.events.items()
        )

    def after(self, family: Family, seq: int) -> list[FamilyEvent]:
        """Return the events of a family after `seq`."""
        return [event for event in self.events.get(family, ()) if event.seq > seq]


class Mirror:
    """Every method may be called from any thread, and none waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._copies: OrderedDict[str, Copy] = OrderedDict()

    def get(self, generation_id: str) -> Copy | None:
        with self._lock:
            copy = self._copies.get(generation_id)
            if copy is not None:
                self._copies.move_to_end(generation_id)
            return copy

    def put(self, generation_id: str, copy: Copy) -> Copy:
        """Keep a copy, unless a newer one is there. Return the one that is kept."""
        with self._lock:
            kept = self._copies.get(generation_id)
            if kept is not None and kept.number > copy.number:
                return kept
            self._copies[generation_id] = copy
            self._copies.move_to_end(generation_id)
            if len(self._copies) > COPIES:
                # What is under way stays: its events go to sockets at any moment, which an event loop does.
                del self._copies[next((name for name, one in self._copies.items() if one.over), generation_id)]
            return copy

    def drop(self, generation_id: str) -> None:
        with self._lock:
            self._copies.pop(generation_id, None)

    def set_shares(self, generation_id: str, shares: Mapping[str, ShareRole]) -> None:
        """Have the copy, if there is one, say with whom the generation is shared."""
        with self._lock:
            copy = self._copies.get(generation_id)
            if copy is not None:
                self._copies[generation_id] = replace(copy, shares=shares)

    def renumber(self) -> None:
        """Take every copy for older than whatever comes: the numbers of changes begin anew."""
        with self._lock:
            known = [(name, replace(copy, number=0)) for name, copy in self._copies.items() if copy.state is not None]
            self._copies = OrderedDict(known)
