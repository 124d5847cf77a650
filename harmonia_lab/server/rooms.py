"""Rooms: who is in them, and who may enter.

Owns membership, the right to a generation, and reservations of ids that nobody uses yet. What is said in a room is
`delivery.py`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from harmonia_lab.errors import ErrorCode, InvalidRequest, Refused
from harmonia_lab.events.state import GenerationState
from harmonia_lab.server.auth import Identity
from harmonia_lab.server.connected_client import Client

__all__ = ["RESERVED_S", "Access", "Rooms"]

RESERVED_S = 60.0
"""How long an id that nobody uses stays reserved for who joined it."""

MAX_RESERVED = 100
"""Ids that one user may have reserved."""

MAX_ROOMS = 2000
"""That one socket may be in."""


class Rooms:
    """Membership. A room exists while somebody is in it. changes: how often somebody entered or left."""

    def __init__(self) -> None:
        self.changes = 0
        self._members: dict[str, set[Client]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def enter(self, client: Client, room: str) -> None:
        """Raises Refused (RATE_LIMITED) where the socket is in too many."""
        if len(client.rooms) >= MAX_ROOMS and room not in client.rooms:
            raise Refused(f"This socket is in {MAX_ROOMS} rooms already.", code=ErrorCode.RATE_LIMITED)
        self.changes += 1
        client.rooms.add(room)
        self._members.setdefault(room, set()).add(client)

    def leave(self, client: Client, room: str) -> None:
        """Fine for a room that it is not in."""
        self.changes += 1
        client.rooms.discard(room)
        members = self._members.get(room)
        if members is not None:
            members.discard(client)
            if not members:
                del self._members[room]

    def leave_all(self, client: Client) -> None:
        for room in list(client.rooms):
            self.leave(client, room)

    def members(self, rooms: Iterable[str]) -> set[Client]:
        """Who is in any of them, each once."""
        found: set[Client] = set()
        for room in rooms:
            found |= self._members.get(room, set())
        return found


class Access:
    """The right to a generation: its owner's and the admins'. Nobody learns that somebody else's exists."""

    def __init__(
        self, standing: Callable[[str], GenerationState | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._standing, self._clock = standing, clock
        self._reserved: dict[str, tuple[str, float]] = {}

    def to(self, generation_id: str, who: Identity) -> GenerationState:
        """Where it stands. Raises Refused (NOT_FOUND) where it is not there, or not for `who`."""
        standing = self._standing(generation_id)
        if standing is None or not may_see(who, standing.owner):
            raise not_found(generation_id)
        return standing

    def to_join(self, generation_id: str, who: Identity) -> GenerationState | None:
        """The same; an id that nobody uses is reserved for `who`, and None comes back."""
        standing = self._standing(generation_id)
        if standing is not None:
            return self.to(generation_id, who)
        if self.holder(generation_id) not in (None, who.user):
            raise not_found(generation_id)
        self._reserve(generation_id, who)
        return None

    def to_start(self, generation_id: str, user: str) -> None:
        """Raises InvalidRequest where somebody else has reserved it: as if it were in use."""
        if self.holder(generation_id) not in (None, user):
            raise InvalidRequest(f"The generation id {generation_id} is in use.", hint="Choose another, or none.")

    def holder(self, generation_id: str) -> str | None:
        """Who has reserved it."""
        user, until = self._reserved.get(generation_id, (None, 0.0))
        return user if until > self._clock() else None

    def _reserve(self, generation_id: str, who: Identity) -> None:
        now = self._clock()
        self._reserved = {i: (user, until) for i, (user, until) in self._reserved.items() if until > now}
        own = sum(user == who.user for user, _ in self._reserved.values())
        if own >= MAX_RESERVED and generation_id not in self._reserved:
            raise Refused("Too many generations are reserved for you.", code=ErrorCode.RATE_LIMITED)
        self._reserved[generation_id] = (who.user, now + RESERVED_S)


def may_see(who: Identity, owner: str) -> bool:
    return who.user == owner or who.admin


def not_found(generation_id: str) -> Refused:
    return Refused(f"There is no generation {generation_id}.", code=ErrorCode.NOT_FOUND)
