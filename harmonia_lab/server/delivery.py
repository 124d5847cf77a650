"""What each socket gets, and when: every lifecycle event once and in order, progress as fast as it can take it.

Owns that promise. One rule keeps it: a socket is sent what it has not had of a generation (from the journal), then what
is new. Replay and live events therefore meet without a gap and without a double. Bytes are `broadcast.py`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

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
from harmonia_lab.server.broadcast import Line, Message, QueueWire
from harmonia_lab.server.connected_client import Client, Lane
from harmonia_lab.server.rooms import Rooms, may_see
from harmonia_lab.store.journal import Journal
from harmonia_lab.store.metrics import Metrics

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


@dataclass
class _Audience:
    """Who hears of a lane's progress, as long as nothing changes that: its next lifecycle event, a replay, somebody
    who enters or leaves a room, another token.

    seq: the lane's last lifecycle event. changes: `Rooms.changes`. lines: of those who had that event and all progress
    since. others: who is looked at each time: they poll, or are behind.
    """

    seq: int
    changes: int
    lines: list[Line]
    others: list[Client]


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
        self._audiences: dict[Lane, _Audience] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, event: FamilyEvent) -> None:
        standing = self._journal.state(event.generation_id)
        if standing is None:
            return
        sheets = _Sheets(event, standing.owner, self.link)
        sent = 0
        if event.delivery == "progress":
            sent = self._spread(event, sheets)
        else:
            if event.delivery == "lifecycle":
                self._audiences.pop(sheets.lane, None)
            for client in self._members(event, sheets):
                # Who joined while the id was only reserved may not be who came to use it.
                if may_see(client.who, standing.owner):
                    sent += self._give(client, event, sheets)
        if sent:
            self._metrics.sent(sent, (utc_now() - event.emitted_at).total_seconds())

    def catch_up(self, client: Client, lane: Lane, owner: str) -> int:
        """Sends what happened in `lane` and `client` has not had; how many events that was."""
        self._audiences.pop(lane, None)
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

    def look_again(self) -> None:
        """Somebody may hear of other things than before."""
        self._audiences.clear()

    def _members(self, event: FamilyEvent, sheets: _Sheets) -> set[Client]:
        return self._rooms.members(rooms_of(event, sheets.owner))

    def _spread(self, event: FamilyEvent, sheets: _Sheets) -> int:
        """Progress, most of what is ever sent: looked at socket by socket only where something may have changed."""
        lane, seq = sheets.lane, event.seq
        audience = self._audiences.get(lane)
        if audience is None or (audience.seq, audience.changes) != (seq, self._rooms.changes):
            audience = _Audience(seq, self._rooms.changes, [], list(self._members(event, sheets)))
            self._audiences[lane] = audience
        sent = 0
        if audience.lines:
            busy = self._wire.write(audience.lines, sheets.plain())
            sent = len(audience.lines) - len(busy)
            if busy:
                audience.lines = [line for line in audience.lines if line.client not in busy]
                audience.others += busy
        if audience.others:
            others, audience.others = audience.others, []
            for client in others:
                if may_see(client.who, sheets.owner):
                    sent += self._give(client, event, sheets)
                    up_to_date = client.had.get(lane, 0) == seq and lane not in client.pending
                    line = self._wire.line(client) if up_to_date else None
                    if line is not None:
                        audience.lines.append(line)
                    else:
                        audience.others.append(client)
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
            self._timer = asyncio.get_running_loop().call_later(CATCH_UP_S, self._try_again)
        return sent

    def _send(self, client: Client, message: Message) -> None:
        self._wire.send(client, message)
        if self._wire.backlog(client) > MAX_BACKLOG:
            self._drop(client)

    def _note(self, client: Client, lane: Lane, seq: int) -> None:
        client.had[lane] = seq
        if len(client.had) > MAX_LANES:
            del client.had[next(iter(client.had))]

    def _try_again(self) -> None:
        """Gives sockets that were behind the latest progress, now that they can take it."""
        self._timer = None
        for client in [client for client in self._behind if self._wire.idle(client)]:
            del self._behind[client]
            for message in client.pending.values():
                self._wire.send(client, message)
            client.pending.clear()
        if self._behind:
            self._timer = asyncio.get_running_loop().call_later(CATCH_UP_S, self._try_again)


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
