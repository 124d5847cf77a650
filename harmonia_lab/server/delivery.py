"""Which sockets get an event, and when: each lifecycle event once and in order, progress as fast as a socket takes it.

Owns that guarantee. Before a socket gets a new event, it gets the earlier lifecycle events that it was not sent, read
from the journal; so replay and live events meet without a gap and without a duplicate. `broadcast.py` writes the bytes.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from harmonia_lab.errors import StorageError
from harmonia_lab.protocol.events import (
    FAMILIES,
    AudioGenerationComplete,
    Channel,
    FamilyEvent,
    JobCompletedEvent,
    WireEvent,
    for_admin,
    linked,
    rooms_of,
)
from harmonia_lab.server.auth import Identity
from harmonia_lab.server.broadcast import Wire, WritableSocket
from harmonia_lab.server.connected_client import ConnectedClient
from harmonia_lab.server.encoding import EncodedMessage
from harmonia_lab.server.room_expiry import RoomExpiry
from harmonia_lab.server.rooms import Rooms, may_see
from harmonia_lab.server.signed_urls import SignedUrls
from harmonia_lab.store.journal_core import JournalCore
from harmonia_lab.store.metrics import Metrics

__all__ = ["Delivery", "MissedEvent"]

MAX_CHANNELS = 10_000
"""Channels of which a socket's last `seq` is remembered."""

EVENTS_WITH_URL = (AudioGenerationComplete, JobCompletedEvent)
"""Events with the song's URL, which is different for each client."""

RETRY_S = 0.05
"""How often pending progress is tried again, in seconds."""

_log = logging.getLogger(__name__)


class MissedEvent(NamedTuple):
    """seq: of the lifecycle event. message: it, as the client gets it."""

    seq: int
    message: EncodedMessage


@dataclass
class _Audience:
    """The clients that get an event. For progress it is kept until a lifecycle event, a replay, a change of any room's
    members, or a new token may change it.

    seq: the channel's last lifecycle event. changes: `Rooms.changes`. sockets: of clients that were sent that event and
    all progress since. others: clients that need a check at each event, because they poll or lag.
    """

    seq: int
    changes: int
    sockets: list[WritableSocket]
    others: list[ConnectedClient]


class Delivery:
    """Callable: `delivery(event, published_at)` sends an event to its rooms. Everything but `read_missed` runs in the
    event loop, and never waits."""

    def __init__(
        self,
        *,
        wire: Wire,
        rooms: Rooms,
        journal: JournalCore,
        metrics: Metrics,
        urls: SignedUrls,
        expiry: RoomExpiry | None = None,
    ) -> None:
        self._wire, self._rooms, self._journal, self._metrics, self._urls = wire, rooms, journal, metrics, urls
        self._expiry = expiry
        self._lagging: dict[ConnectedClient, None] = {}
        """Clients with pending progress, in order. A dict, because sets have no order."""
        self._audiences: dict[Channel, _Audience] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, event: FamilyEvent, published_at: float | None = None) -> None:
        """published_at: seconds of the monotonic clock."""
        if self._expiry is not None:
            self._expiry.observe(event)
        state = self._journal.state(event.generation_id)
        if state is None:
            return
        encoded = EncodedEvent(event, state.owner, self._urls)
        audience = self._audience(encoded)
        sent = self._write_progress(audience, encoded)
        send = self._send_lifecycle if event.delivery == "lifecycle" else self._send_if_idle
        for client in audience.others:
            sent += send(client, encoded)
        if audience.others and event.delivery == "progress":
            self._promote(audience, encoded.channel)
        if sent:
            self._metrics.sent(sent, 0.0 if published_at is None else time.monotonic() - published_at)

    def catch_up(self, client: ConnectedClient, channel: Channel, owner: str) -> int:
        """Send the lifecycle events of `channel` that the client was not sent. Return how many."""
        return self.send_missed(client, channel, self.read_missed(client, channel, owner))

    def read_missed(self, client: ConnectedClient, channel: Channel, owner: str) -> list[MissedEvent]:
        """Read and encode the lifecycle events that the client was not sent. Any thread may call this.

        For long lyrics a thread must: they take a millisecond for each event.
        """
        try:
            missed = self._journal.replay(channel.generation_id, channel.family, client.last_seq.get(channel, 0))
        except StorageError as error:
            _log.warning("A replay failed. %s", error)
            return []
        return [
            MissedEvent(event.seq, EncodedEvent(event, owner, self._urls).for_client(client).prepared())
            for event in missed
        ]

    def send_missed(self, client: ConnectedClient, channel: Channel, missed: list[MissedEvent]) -> int:
        """Send those events that the client was not sent meanwhile. Return how many."""
        self._audiences.pop(channel, None)
        last = client.last_seq.get(channel, 0)
        news = [event for event in missed if event.seq > last]
        for event in news:
            self._wire.send(client, event.message)
            _set_last_seq(client, channel, event.seq)
        return len(news)

    def send_direct(self, client: ConnectedClient, event: WireEvent) -> None:
        """Send an event about the connection to its socket alone."""
        self.send_message(client, EncodedMessage.of(event))

    def send_message(self, client: ConnectedClient, message: EncodedMessage) -> None:
        """As `send_direct`, of an event that is encoded already."""
        self._wire.send(client, message)

    def forget(self, client: ConnectedClient) -> None:
        """Drop the pending progress of a client that has disconnected."""
        self._lagging.pop(client, None)

    def invalidate_audiences(self, generation_id: str | None = None) -> None:
        """Compute audiences anew at their next event, of one generation or all: somebody may see more or less now."""
        if generation_id is None:
            self._audiences.clear()
        else:
            for family in FAMILIES:
                self._audiences.pop(Channel(family, generation_id), None)

    def _audience(self, encoded: EncodedEvent) -> _Audience:
        event, channel, changes = encoded.event, encoded.channel, self._rooms.changes
        if event.delivery == "progress":
            kept = self._audiences.get(channel)
            if kept is not None and kept.seq == event.seq and kept.changes == changes:
                return kept
        members = self._rooms.members(rooms_of(event, encoded.owner))
        # A client that joined while the id was reserved for it may not be the one that used the id afterwards.
        visible_to = [client for client in members if may_see(client.identity, encoded.owner)]
        if len(visible_to) < len(members):
            shared = self._shares(event.generation_id)
            visible_to += [
                client
                for client in members
                if client.identity.user in shared and not may_see(client.identity, encoded.owner)
            ]
        audience = _Audience(event.seq, changes, [], visible_to)
        if event.delivery == "progress":
            self._audiences[channel] = audience
        elif event.delivery == "lifecycle":
            self._audiences.pop(channel, None)
        return audience

    def _shares(self, generation_id: str) -> Collection[str]:
        """Return the users with whom a generation is shared. While the journal can't be read, there are none."""
        try:
            return self._journal.shares.of(generation_id)
        except StorageError as error:
            _log.warning("Shares could not be read. %s", error)
            return ()

    def _write_progress(self, audience: _Audience, encoded: EncodedEvent) -> int:
        """Write to the idle sockets and move busy ones to `others`. Return how many messages were sent.

        Most messages that a server sends go this way, without a check of each client.
        """
        if not audience.sockets:
            return 0
        busy = self._wire.write(audience.sockets, encoded.plain)
        sent = len(audience.sockets) - len(busy)
        if busy:
            audience.sockets = [socket for socket in audience.sockets if socket.client not in busy]
            audience.others += busy
        return sent

    def _promote(self, audience: _Audience, channel: Channel) -> None:
        """Move the clients that have had everything from `others` to `sockets`."""
        others, audience.others = audience.others, []
        for client in others:
            up_to_date = client.last_seq.get(channel, 0) == audience.seq and channel not in client.pending
            socket = self._wire.writable_socket(client) if up_to_date else None
            if socket is not None:
                audience.sockets.append(socket)
            else:
                audience.others.append(client)

    def _send_lifecycle(self, client: ConnectedClient, encoded: EncodedEvent) -> int:
        """Send what the client missed, then the event, unless that was among it. Return how many messages were sent."""
        channel, seq, sent = encoded.channel, encoded.event.seq, 0
        if seq > client.last_seq.get(channel, 0) + 1:
            sent = self.catch_up(client, channel, encoded.owner)
        if seq <= client.last_seq.get(channel, 0):
            return sent
        latest = client.pending.pop(channel, None)
        if latest is not None and not sent:  # after a replay, the pending progress would go back in time
            self._wire.send(client, latest)
        _set_last_seq(client, channel, seq)
        self._wire.send(client, encoded.for_client(client))
        return sent + 1

    def _send_if_idle(self, client: ConnectedClient, encoded: EncodedEvent) -> int:
        """Send progress or a preview if the socket is idle; else keep the progress, as the latest, or drop the preview.
        Return how many messages were sent."""
        channel, seq, sent = encoded.channel, encoded.event.seq, 0
        if seq > client.last_seq.get(channel, 0):
            sent = self.catch_up(client, channel, encoded.owner)
        if seq < client.last_seq.get(channel, 0):
            return sent  # the event is older than what was replayed
        if self._wire.is_idle(client):
            client.pending.pop(channel, None)
            self._wire.send(client, encoded.for_client(client))
            return sent + 1
        is_preview = encoded.event.delivery == "preview"
        if is_preview or channel in client.pending:
            self._metrics.dropped()
        if not is_preview:
            client.pending[channel] = encoded.for_client(client)
            self._lagging[client] = None
            self._schedule_pending()
        return sent

    def _schedule_pending(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(RETRY_S, self._send_pending)

    def _send_pending(self) -> None:
        """Send the latest progress to the lagging sockets that have become idle."""
        self._timer = None
        for client in [client for client in self._lagging if self._wire.is_idle(client)]:
            del self._lagging[client]
            for message in client.pending.values():
                self._wire.send(client, message)
            client.pending.clear()
        if self._lagging:
            self._schedule_pending()


def _set_last_seq(client: ConnectedClient, channel: Channel, seq: int) -> None:
    client.last_seq[channel] = seq
    if len(client.last_seq) > MAX_CHANNELS:
        del client.last_seq[next(iter(client.last_seq))]


_LINK = f"link-{secrets.token_hex(16)}"
"""Stands for a song's URL in an encoded event. Nobody else knows it, so no other text of an event holds it."""


class EncodedEvent:
    """One event in the versions that clients get, each encoded once; into those, each reader's own link is put."""

    def __init__(self, event: FamilyEvent, owner: str, urls: SignedUrls) -> None:
        self.event, self.channel, self.owner = event, event.channel, owner
        self._urls = urls
        self._has_url = isinstance(event, EVENTS_WITH_URL)
        self._versions: dict[bool, EncodedMessage] = {}
        self._linked: dict[tuple[bool, str, Identity], EncodedMessage] = {}

    @functools.cached_property
    def plain(self) -> EncodedMessage:
        """The event as it was emitted. Of an event without a URL, every client gets this."""
        return EncodedMessage.of(self.event)

    def for_client(self, client: ConnectedClient) -> EncodedMessage:
        if not self._has_url:
            return self.plain
        generation_id = self.event.generation_id
        for_admins = client.identity.user != self.owner and f"job:{generation_id}" not in client.rooms
        if for_admins not in self._versions:
            event = linked(self.event, _LINK)
            self._versions[for_admins] = EncodedMessage.of(for_admin(event) if for_admins else event)
        key = (for_admins, client.base_url, client.identity)
        if key not in self._linked:
            url = self._urls.audio(client.base_url, generation_id, client.identity)
            self._linked[key] = self._versions[for_admins].replaced(_LINK, url)
        return self._linked[key]
