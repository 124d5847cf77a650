"""Sharing: an owner lets other users use a generation, and takes it back.

Owns what a change of shares means for those who are connected: who is told, who leaves which rooms, and which downloads
end. `store/shares.py` keeps the shares, and `rooms.Access` reads them whenever somebody asks for a generation.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator

from aiohttp import web

from harmonia_lab.errors import HarmoniaError, InvalidRequest, Refused
from harmonia_lab.events.state import GenerationState
from harmonia_lab.protocol.commands import ShareAck, ShareGeneration, UnshareGeneration
from harmonia_lab.protocol.events import FAMILIES, Channel, GenerationShared
from harmonia_lab.protocol.models import AccessRole, Share, ShareRole
from harmonia_lab.protocol.snapshot import Snapshot
from harmonia_lab.server.auth import Identity
from harmonia_lab.server.connected_client import ConnectedClient
from harmonia_lab.server.delivery import Delivery
from harmonia_lab.server.encoding import EncodedMessage
from harmonia_lab.server.rate_limit import TokenBucket
from harmonia_lab.server.rooms import Access, Rooms
from harmonia_lab.store.journal_core import JournalCore

__all__ = ["OpenDownloads", "Sharing"]

CHANGES = (1.0, 100)
"""Shares that one user may change: per second on average, and at once."""

_log = logging.getLogger(__name__)


class OpenDownloads:
    """The downloads that are being sent, so that they end when their reader may no longer have them."""

    def __init__(self) -> None:
        self._open: dict[object, tuple[web.Request, str, Identity]] = {}

    @contextlib.contextmanager
    def sending(self, request: web.Request, generation_id: str, reader: Identity) -> Iterator[None]:
        key = object()
        self._open[key] = request, generation_id, reader
        try:
            yield
        finally:
            del self._open[key]

    def end_unless(self, allowed: Callable[[str, Identity], bool]) -> None:
        """Break off every download whose generation and reader are not `allowed`."""
        for request, generation_id, reader in list(self._open.values()):
            if not allowed(generation_id, reader) and request.transport is not None:
                request.transport.abort()


class Sharing:
    """Everything runs in the event loop."""

    def __init__(self, journal: JournalCore, access: Access, rooms: Rooms, delivery: Delivery) -> None:
        self._journal, self._access, self._rooms, self._delivery = journal, access, rooms, delivery
        self._seen = journal.shares.last_change()
        self.changes = TokenBucket(*CHANGES)
        self._catching_up = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.downloads = OpenDownloads()

    async def share(self, command: ShareGeneration, identity: Identity) -> ShareAck:
        """Raise Refused if the generation isn't the user's own, InvalidRequest to share it with its owner."""
        state = self._own(command.generation_id, identity)
        if command.user_id == state.owner:
            raise InvalidRequest("The generation is this user's own.", details={"fields": ["userId"]})
        shares = self._journal.shares
        found = await asyncio.to_thread(shares.add, state.id, command.user_id, command.role)
        await self.catch_up()
        return ShareAck(generation_id=state.id, shares=_listed(found))

    async def unshare(self, command: UnshareGeneration, identity: Identity) -> ShareAck:
        """Raise Refused if the generation isn't the user's own."""
        state = self._own(command.generation_id, identity)
        found = await asyncio.to_thread(self._journal.shares.remove, state.id, command.user_id)
        await self.catch_up()
        return ShareAck(generation_id=state.id, shares=_listed(found))

    def _own(self, generation_id: str, identity: Identity) -> GenerationState:
        state = self._access.require_own(generation_id, identity)
        self.changes.require(identity.user, "changes of shares")  # each may be told to thousands of sockets
        return state

    def shares(self, generation_id: str, identity: Identity) -> list[Share]:
        """Return a generation's shares for its owner or an admin. Raise Refused for anybody else."""
        state, role = self._access.require_role(generation_id, identity)
        if role not in ("owner", "admin"):
            raise Refused("Only its owner sees with whom a generation is shared.")
        return _listed(self._journal.shares.of(state.id))

    def snapshot(self, state: GenerationState, identity: Identity) -> Snapshot:
        """Return the state as this reader gets it; `job.result.outputPath` is still a file's URI."""
        role = self._access.role(state, identity)
        return state.snapshot().model_copy(update={"access": role, "shares": self._shares_for(state.id, role)})

    def catch_up_soon(self) -> None:
        """Start `catch_up`."""
        task = asyncio.ensure_future(self.catch_up())
        self._tasks.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._tasks.discard)

    async def catch_up(self) -> None:
        """Carry out the changes since the last call, in whatever process they were made."""
        async with self._catching_up:
            before = self._seen
            try:
                self._seen, changed = await asyncio.to_thread(self._read_changes, before)
                for state in changed:
                    self._carry_out(state)
            except HarmoniaError as error:
                self._seen = before
                _log.warning("Changed shares could not be read. %s", error)

    def _read_changes(self, before: int) -> tuple[int, list[GenerationState]]:
        """Return the number of the last change, and the generations that changed after `before`, from the disk."""
        last = self._journal.shares.last_change()
        changed = map(self._journal.state, self._journal.shares.changed_after(before))
        return last, [state for state in changed if state is not None]

    def _carry_out(self, state: GenerationState) -> None:
        generation_id = state.id
        self._delivery.invalidate_audiences(generation_id)
        news: dict[AccessRole | None, EncodedMessage] = {}
        # With whom it is shared anew has not joined it yet, but may follow the own jobs.
        listed = (f"user:{user}:jobs" for user in self._journal.shares.of(generation_id))
        for client in self._rooms.members((f"generation-{generation_id}", f"job:{generation_id}", *listed)):
            role = self._access.role(state, client.identity)
            if role is None:
                self._put_out(client, generation_id)
            if role not in news:
                shares = self._shares_for(generation_id, role)
                news[role] = EncodedMessage.of(
                    GenerationShared(generation_id=generation_id, access=role, shares=shares)
                )
            self._delivery.send_message(client, news[role])
        self.downloads.end_unless(
            lambda one, reader: one != generation_id or self._access.role(state, reader) is not None
        )

    def _put_out(self, client: ConnectedClient, generation_id: str) -> None:
        for room in (f"generation-{generation_id}", f"job:{generation_id}"):
            self._rooms.leave(client, room)
        for family in FAMILIES:
            client.pending.pop(Channel(family, generation_id), None)

    def _shares_for(self, generation_id: str, role: AccessRole | None) -> list[Share] | None:
        return _listed(self._journal.shares.of(generation_id)) if role in ("owner", "admin") else None


def _listed(shares: dict[str, ShareRole]) -> list[Share]:
    return [Share(user_id=user, role=role) for user, role in shares.items()]
