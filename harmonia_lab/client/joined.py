"""What a client has joined, and joining it again after a lost connection, from the last known event on.

Owns that list, and requests for missing events. `client.py` has the streams that events go to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from harmonia_lab.client.reconnect import ReconnectingConnection
from harmonia_lab.client.store import Store
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.protocol import commands
from harmonia_lab.protocol.events import Channel, FamilyEvent, GenerationShared
from harmonia_lab.protocol.models import Job

__all__ = ["JobList", "Joined"]

JobList = type[commands.SubscribeUserJobs | commands.SubscribeAdminJobs]

_log = logging.getLogger(__name__)


class Joined:
    """For the event loop of its client."""

    def __init__(
        self,
        connection: ReconnectingConnection,
        store: Store,
        apply: Callable[[FamilyEvent], None],
        end_streams: Callable[[Channel, HarmoniaError], None],
        retry_s: float,
    ) -> None:
        """apply: takes an event as if it had just come. end_streams: closes those of a channel. retry_s: seconds
        between attempts at joining again."""
        self._connection, self._store, self._apply = connection, store, apply
        self._end_streams, self._retry_s = end_streams, retry_s
        self._channels: dict[Channel, None] = {}
        """In the order of joining: a set that keeps it."""
        self._job_lists: dict[JobList, dict[str, Job]] = {}
        """Subscriptions to many jobs, each with the jobs by id as the server last listed them."""
        self._requested_after: dict[Channel, int] = {}
        """The `seq` after which missing events were last requested, so that one gap makes one request."""

    def add(self, channel: Channel) -> None:
        self._channels[channel] = None

    def discard(self, joined: Channel | JobList) -> None:
        """Forget it; do nothing if it is not joined."""
        if isinstance(joined, type):
            self._job_lists.pop(joined, None)
        else:
            self._channels.pop(joined, None)

    def clear(self) -> None:
        self._channels.clear()
        self._job_lists.clear()

    def again(self) -> list[Coroutine[Any, Any, None]]:
        """Return the work of joining everything on a new connection."""
        self._requested_after.clear()
        return [self._rejoin(joined) for joined in (*self._channels, *self._job_lists)]

    async def join(self, generation_id: str) -> commands.JoinAck:
        """Have the server send what is missing of a generation, without adding it to what is joined."""
        after = self._store.state.cursor(Channel("generation", generation_id)).seq
        ack = await self._connection.call(
            commands.JoinGeneration, commands.JoinAck, generation_id=generation_id, after_seq=after
        )
        known = ack.snapshot
        if known is not None and known.access is not None:
            self._store(GenerationShared(generation_id=generation_id, access=known.access, shares=known.shares))
        if known is not None and known.progress is not None:
            self._apply(known.progress.data)
        return ack

    async def subscribe(self, job_id: str) -> commands.JobAck:
        """As `join`, of a job."""
        after = self._store.state.cursor(Channel("job", job_id)).seq
        return await self._connection.call(commands.SubscribeJob, commands.JobAck, job_id=job_id, after_seq=after)

    async def subscribe_to_list(self, command: JobList) -> commands.JobsAck:
        """After a lost connection, request the events of the jobs that have changed; the first time, none."""
        ack = await self._connection.call(command, commands.JobsAck)
        before = self._job_lists.get(command)
        if before is not None:
            for job in ack.jobs:
                known = self._store.state.jobs.get(job.id) or before.get(job.id)
                if known is None or known.updated_at != job.updated_at:
                    await self._catch_up(Channel("job", job.id))
        self._job_lists[command] = {job.id: job for job in ack.jobs}
        return ack

    def should_request(self, channel: Channel, known_seq: int) -> bool:
        """Return whether the events after `known_seq` were not requested yet. Once this is True, they count as such."""
        if self._requested_after.get(channel) == known_seq:
            return False
        self._requested_after[channel] = known_seq
        return True

    async def fill_gap(self, channel: Channel) -> None:
        """Request the missing events of a channel. If that fails, the next event requests them again."""
        try:
            await self._catch_up(channel)
        except HarmoniaError as error:
            self._requested_after.pop(channel, None)
            _log.debug("Missing events of %s %s could not be requested: %s", *channel, error)

    def drop(self, joined: Channel | JobList, error: HarmoniaError) -> None:
        """Give up what the server doesn't let the client join any more: the new token may be another user's."""
        what = "a list of jobs" if isinstance(joined, type) else f"{joined.family} {joined.generation_id}"
        _log.warning("The client left %s. %s", what, error)
        self.discard(joined)
        if not isinstance(joined, type):
            self._end_streams(joined, error)

    async def _catch_up(self, channel: Channel) -> None:
        """Have the server send the missed events again. A job that is known from a list isn't left subscribed to."""
        if channel.family == "generation":
            await self.join(channel.generation_id)
            return
        await self.subscribe(channel.generation_id)
        if channel not in self._channels:
            await self._connection.call(commands.UnsubscribeJob, commands.JobAck, job_id=channel.generation_id)

    async def _rejoin(self, joined: Channel | JobList) -> None:
        while True:
            try:
                await (self.subscribe_to_list(joined) if isinstance(joined, type) else self._catch_up(joined))
            except HarmoniaError as error:
                if not error.recoverable:
                    self.drop(joined, error)
                    return
                await asyncio.sleep(self._retry_s)
            else:
                return
