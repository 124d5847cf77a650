"""What each socket gets, and when: every lifecycle event once and in order, progress as fast as it can take it.

Owns that promise. One rule keeps it: a socket is sent what it has not had of a generation (from the journal), then what
is new. Replay and live events therefore meet without a gap and without a double. Bytes are `broadcast.py`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from harmonia_lab.errors import StorageError
from harmonia_lab.protocol.events import (
    AudioGenerationComplete,
    FamilyEvent,
    JobCompletedEvent,
    WireEvent,
    for_admin,
    linked,
    rooms_of,
    utc_now,
)
from harmonia_lab.server.broadcast import Message, QueueWire
from harmonia_lab.server.clients import Client, Lane
from harmonia_lab.server.rooms import Rooms, may_see
from harmonia_lab.sinks.journal import Journal
from harmonia_lab.sinks.metrics import Metrics

__all__ = ["MAX_BACKLOG", "Delivery", "Link"]

Link = Callable[[Client, str, str], str]
"""(client, generation id, owner) → the song's URL."""

MAX_BACKLOG = 1000
"""Packets that a socket may leave waiting. One that is further behind is closed: it comes back, and gets its replay."""

MAX_LANES = 10_000
"""Of which a socket's place is remembered."""

LINKED = (AudioGenerationComplete, JobCompletedEvent)
"""Events that name the place of the song, which each client reaches in its own way."""

CATCH_UP_S = 0.05
"""How often sockets that were behind are looked at again."""

_log = logging.getLogger(__name__)


class Delivery:
    """Callable: `delivery(event)` sends it to whom it is for. All of it runs in the event loop, and never waits."""

    def __init__(
        self,
        *,
        wire: QueueWire,
        rooms: Rooms,
        journal: Journal,
        metrics: Metrics,
        link: Link,
        drop: Callable[[Client], None],
    ) -> None:
        """drop: closes a socket that has fallen too far behind."""
        self._wire, self._rooms, self._journal, self._metrics = wire, rooms, journal, metrics
        self.link, self._drop = link, drop
        self._behind: dict[Client, None] = {}
        self._settled: dict[Lane, tuple[int, set[Client]]] = {}
        """By lane: the `seq` of its last lifecycle event, and who had that one and all progress since. Emptied by what
        may change either: the next lifecycle event, a replay, a socket that is busy, another token."""
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, event: FamilyEvent) -> None:
        standing = self._journal.standing(event.generation_id)
        if standing is None:
            return
        if event.delivery == "lifecycle":
            self._settled.pop((event.family, event.generation_id), None)
        members = self._rooms.members(rooms_of(event, standing.owner))
        if not members:
            return
        sheets = _Sheets(event, standing.owner, self.link)
        sent = 0
        if event.delivery == "progress":
            sent = self._spread(event, sheets, members)
        else:
            for client in members:
                # Who joined while the id was only reserved may not be who came to use it.
                if may_see(client.who, standing.owner):
                    sent += self._give(client, event, sheets)
        if sent:
            self._metrics.sent(sent, (utc_now() - event.emitted_at).total_seconds())

    def catch_up(self, client: Client, lane: Lane, owner: str) -> int:
        """Sends what happened in `lane` and `client` has not had; how many events that was."""
        self._settled.get(lane, (0, set[Client]()))[1].discard(client)
        try:
            missed = self._journal.replay(lane[1], lane[0], client.had.get(lane, 0))
        except StorageError as error:
            _log.warning("A replay has failed. %s", error)
            return 0
        for event in missed:
            self._send(client, _Sheets(event, owner, self.link).for_client(client))
            self._note(client, lane, event.seq)
        return len(missed)

    def tell(self, client: Client, event: WireEvent) -> None:
        """To one socket, about itself."""
        self._send(client, Message.of(event))

    def forget(self, client: Client) -> None:
        self._behind.pop(client, None)
        self.look_again_at(client)

    def look_again_at(self, client: Client) -> None:
        """It may hear of other things than before."""
        for _, settled in self._settled.values():
            settled.discard(client)

    def _spread(self, event: FamilyEvent, sheets: _Sheets, members: set[Client]) -> int:
        """Progress, most of what is ever sent: looked at socket by socket only where something may have changed."""
        lane, seq = sheets.lane, event.seq
        at, settled = self._settled.get(lane, (-1, set[Client]()))
        if at != seq:
            settled = set()
            self._settled[lane] = (seq, settled)
        ready = members & settled
        sent, busy = self._wire.send_to_idle(ready, sheets.plain())
        settled.difference_update(busy)
        for client in [*(members - ready), *busy]:
            if may_see(client.who, sheets.owner):
                sent += self._give(client, event, sheets)
                if client.had.get(lane, 0) == seq and lane not in client.pending:
                    settled.add(client)
        return sent

    def _give(self, client: Client, event: FamilyEvent, sheets: _Sheets) -> int:
        """How many messages it was."""
        lane, sent = sheets.lane, 0
        lifecycle = event.delivery == "lifecycle"
        had = client.had.get(lane, 0)
        if event.seq > had + lifecycle:
            sent = self.catch_up(client, lane, sheets.owner)
            had = client.had.get(lane, 0)
        if lifecycle:
            if event.seq <= had:
                return sent
            latest = client.pending.pop(lane, None)
            if latest is not None and not sent:  # what it is about to hear the end of
                self._wire.send(client, latest)
            self._note(client, lane, event.seq)
            self._send(client, sheets.for_client(client))
            return sent + 1
        if event.seq < had:
            return sent  # it speaks of a time before what was replayed
        message = sheets.for_client(client)
        if self._wire.idle(client):
            client.pending.pop(lane, None)
            self._wire.send(client, message)
            return sent + 1
        if event.delivery == "preview":
            self._metrics.dropped()
            return sent
        if lane in client.pending:
            self._metrics.dropped()
        client.pending[lane] = message
        self._behind[client] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(CATCH_UP_S, self._look_again)
        return sent

    def _send(self, client: Client, message: Message) -> None:
        self._wire.send(client, message)
        if self._wire.backlog(client) > MAX_BACKLOG:
            self._drop(client)

    def _note(self, client: Client, lane: Lane, seq: int) -> None:
        client.had[lane] = seq
        if len(client.had) > MAX_LANES:
            del client.had[next(iter(client.had))]

    def _look_again(self) -> None:
        """Gives sockets that were behind the latest progress, now that they can take it."""
        self._timer = None
        for client in [client for client in self._behind if self._wire.idle(client)]:
            del self._behind[client]
            for message in client.pending.values():
                self._wire.send(client, message)
            client.pending.clear()
        if self._behind:
            self._timer = asyncio.get_running_loop().call_later(CATCH_UP_S, self._look_again)


class _Sheets:
    """One event in the versions that its readers get, each encoded once."""

    def __init__(self, event: FamilyEvent, owner: str, link: Link) -> None:
        assert event.family is not None
        self.lane: Lane = (event.family, event.generation_id)
        self.owner = owner
        self._event, self._link = event, link
        self._plain = not isinstance(event, LINKED)
        self._sheets: dict[tuple[bool, str], Message] = {}

    def plain(self) -> Message:
        """As it was emitted: what everybody gets of progress."""
        message = self._sheets.get((False, ""))
        if message is None:
            message = self._sheets[False, ""] = Message.of(self._event)
        return message

    def for_client(self, client: Client) -> Message:
        if self._plain:
            return self.plain()
        watching = client.who.user != self.owner and f"job:{self.lane[1]}" not in client.rooms
        key = (watching, client.base_url)
        message = self._sheets.get(key)
        if message is None:
            event = linked(self._event, self._link(client, self.lane[1], self.owner))
            message = self._sheets[key] = Message.of(for_admin(event) if watching else event)
        return message
