"""Rooms: which clients are in them, and which users may enter.

Owns membership, access to a generation, and reservations of ids that no generation has yet. `delivery.py` sends events
to rooms; `sharing.py` changes with whom a generation is shared.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from harmonia_lab.errors import ErrorCode, InvalidRequest, Refused
from harmonia_lab.events.state import GenerationState
from harmonia_lab.protocol.models import AccessRole, ShareRole
from harmonia_lab.server.auth import Identity
from harmonia_lab.server.connected_client import ConnectedClient
from harmonia_lab.server.rate_limit import rate_limited

if TYPE_CHECKING:
    from harmonia_lab.store.shared.redis_journal import RedisJournal

__all__ = ["RESERVED_S", "Access", "Rooms", "may_see"]

RESERVED_S = 60.0
"""Seconds for which an id that no generation has stays reserved for the user who joined it."""

MAX_RESERVED = 100
"""Ids that one user may have reserved."""

MAX_ROOMS = 2000
"""Rooms that one socket may be in."""


class Rooms:
    """Membership. A room exists while a client is in it. changes: how often a client entered or left a room."""

    def __init__(self) -> None:
        self.changes = 0
        self._members: dict[str, set[ConnectedClient]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def enter(self, client: ConnectedClient, room: str) -> None:
        """Raise Refused if the socket is in MAX_ROOMS already (RATE_LIMITED), or has ended."""
        client.check_open()
        if len(client.rooms) >= MAX_ROOMS and room not in client.rooms:
            raise rate_limited(f"This socket is in {MAX_ROOMS} rooms already.", RESERVED_S)
        self.changes += 1
        client.rooms.add(room)
        self._members.setdefault(room, set()).add(client)

    def leave(self, client: ConnectedClient, room: str) -> None:
        """Leave a room; do nothing if the client isn't in it."""
        self.changes += 1
        client.rooms.discard(room)
        members = self._members.get(room, set())
        members.discard(client)
        if not members:
            self._members.pop(room, None)

    def leave_all(self, client: ConnectedClient) -> None:
        for room in list(client.rooms):
            self.leave(client, room)

    def occupied(self, rooms: Iterable[str]) -> bool:
        """Return whether a client is in any of `rooms`. Any thread may call this."""
        return any(room in self._members for room in rooms)

    def members(self, rooms: Iterable[str]) -> set[ConnectedClient]:
        """Return the clients that are in any of `rooms`."""
        found: set[ConnectedClient] = set()
        return found.union(*(self._members.get(room, ()) for room in rooms))


class Access:
    """Who may use a generation, and as what: its owner, admins, and users with whom it is shared. For anybody else it
    does not exist."""

    def __init__(
        self,
        state: Callable[[str], GenerationState | None],
        shares: Callable[[str], Mapping[str, ShareRole]],
        shared: RedisJournal | None = None,
    ) -> None:
        """state: returns a generation's state by id. shares: returns the roles of the users it is shared with. shared:
        the journal of several servers, which share reservations too."""
        self._state, self._shares, self._shared = state, shares, shared
        self._reserved: dict[str, tuple[str, float]] = {}

    def role(self, state: GenerationState, identity: Identity) -> AccessRole | None:
        """Return as what a user may use a generation; None if not at all."""
        if identity.user == state.owner:
            return "owner"
        return "admin" if identity.is_admin else self._shares(state.id).get(identity.user)

    def require_role(self, generation_id: str, identity: Identity) -> tuple[GenerationState, AccessRole]:
        """Return the generation's state, and as what the user may use it. Raise Refused (NOT_FOUND) if it doesn't exist
        or the user may not."""
        state = self._state(generation_id)
        role = None if state is None else self.role(state, identity)
        if state is None or role is None:
            raise _not_found(generation_id)
        return state, role

    def require(self, generation_id: str, identity: Identity) -> GenerationState:
        """As `require_role`, of which it returns the state."""
        return self.require_role(generation_id, identity)[0]

    def require_control(self, generation_id: str, identity: Identity) -> GenerationState:
        """As `require`. Raise Refused (UNAUTHORIZED) for a viewer."""
        state, role = self.require_role(generation_id, identity)
        if role == "viewer":
            raise Refused(
                f"Generation {generation_id} is shared with you to hear it, not to control it.",
                hint="Ask its owner to share it with you as controller.",
            )
        return state

    def require_own(self, generation_id: str, identity: Identity) -> GenerationState:
        """As `require`. Raise Refused (UNAUTHORIZED) for anybody but the owner."""
        state, role = self.require_role(generation_id, identity)
        if role != "owner":
            raise Refused("Only its owner may share a generation or take it back.")
        return state

    def require_or_reserve(self, generation_id: str, identity: Identity) -> None:
        """Check as `require` does, but reserve an id that no generation has for the user, unless another user has."""
        if self._state(generation_id) is not None:
            self.require(generation_id, identity)
        elif self._reserved_by(generation_id) in (None, identity.user):
            self._reserve(generation_id, identity.user)
        else:
            raise _not_found(generation_id)

    def check_not_reserved(self, generation_id: str, user: str) -> None:
        """Raise InvalidRequest if another user has reserved the id; the error is the same as for an id in use."""
        if self._reserved_by(generation_id) not in (None, user):
            raise InvalidRequest(f"The generation id {generation_id} is in use.", hint="Choose another, or none.")

    async def ask_others(self, generation_id: str, user: str, *, reserve: bool = False) -> None:
        """Learn for whom servers that share the journal have reserved an id that no generation has. reserve: reserve it
        for the user, if it is free. Raise StorageError if they can't be asked."""
        if self._shared is None or (reserve and self._state(generation_id) is not None):
            return
        asks_for = user if reserve else None
        holder = await asyncio.to_thread(self._shared.reserved_for, generation_id, asks_for, RESERVED_S)
        if holder is not None and self._reserved_by(generation_id) != holder and holder != user:
            self._reserved[generation_id] = (holder, time.monotonic() + RESERVED_S)

    def _reserved_by(self, generation_id: str) -> str | None:
        user, until = self._reserved.get(generation_id, (None, 0.0))
        return user if until > time.monotonic() else None

    def _reserve(self, generation_id: str, user: str) -> None:
        now = time.monotonic()
        self._reserved = {i: (holder, until) for i, (holder, until) in self._reserved.items() if until > now}
        own = sum(holder == user for holder, _ in self._reserved.values())
        if own >= MAX_RESERVED and generation_id not in self._reserved:
            raise rate_limited("You have reserved too many generation ids.", RESERVED_S)
        self._reserved[generation_id] = (user, now + RESERVED_S)


def may_see(identity: Identity, owner: str) -> bool:
    """Return whether a user may see a generation of `owner`."""
    return identity.user == owner or identity.is_admin


def _not_found(generation_id: str) -> Refused:
    return Refused(f"There is no generation {generation_id}.", code=ErrorCode.NOT_FOUND)
