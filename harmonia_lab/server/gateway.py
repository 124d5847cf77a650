"""The commands of clients: one method for each, and an acknowledgement for each.

Owns the meaning of the commands, what they cost their user, and the log of which user sent which command when (level
INFO; no narratives, lyrics or tokens). `sessions.py` has the connections, `rooms.py` decides who may enter a room,
`delivery.py` sends events, and the lab makes the songs.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest, Refused
from harmonia_lab.generation.handle import QueueLimits
from harmonia_lab.log_context import about
from harmonia_lab.protocol import commands, events
from harmonia_lab.protocol.codec import decode
from harmonia_lab.protocol.models import Job, SongRequest, check_contradictions
from harmonia_lab.server.ahead import until_known
from harmonia_lab.server.audit import Audit
from harmonia_lab.server.auth import Identity, Tokens
from harmonia_lab.server.client_address import ClientAddresses
from harmonia_lab.server.connected_client import ConnectedClient
from harmonia_lab.server.delivery import Delivery
from harmonia_lab.server.job_lists import read_page
from harmonia_lab.server.log_limits import OncePerMinute
from harmonia_lab.server.rate_limit import TokenBucket, cost_of
from harmonia_lab.server.room_expiry import RoomExpiry
from harmonia_lab.server.rooms import Access, Rooms
from harmonia_lab.server.served_lab import ServedLab, check_models
from harmonia_lab.server.sessions import Sessions
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.server.sharing import Sharing
from harmonia_lab.server.signed_urls import SignedUrls
from harmonia_lab.server.user_slots import UserSlots
from harmonia_lab.server.webhook import Webhook

__all__ = ["Gateway", "new_generation_id"]

LONG_LYRICS = 4000
"""Characters from which a generation's events are read and encoded in a thread."""

CommandHandler = Callable[[ConnectedClient, Any], Awaitable[commands.Ack]]
_log = logging.getLogger(__name__)


class Gateway(Sessions):
    """Handles connections and commands, in the server's event loop."""

    def __init__(
        self,
        lab: ServedLab,
        settings: ServerSettings,
        tokens: Tokens,
        urls: SignedUrls,
        *,
        rooms: Rooms,
        delivery: Delivery,
        expiry: RoomExpiry,
        close: Callable[[ConnectedClient], None],
        audit: Audit,
        addresses: ClientAddresses,
        webhook: Webhook,
    ) -> None:
        """close: disconnects a client. audit: where connections and commands are logged. webhook: hears of defects."""
        super().__init__(
            settings,
            tokens,
            lab.metrics,
            rooms=rooms,
            delivery=delivery,
            close=close,
            audit=audit,
            addresses=addresses,
        )
        self._lab, self._urls, self._expiry, self.webhook = lab, urls, expiry, webhook
        self.access = Access(lab.journal.state, lab.journal.shares.of, lab.shared)
        self.sharing = Sharing(lab.journal, self.access, rooms, delivery)
        self.slots = UserSlots()
        self.costs = TokenBucket(*settings.rates.costs)
        """By user, over sockets and HTTP."""
        self._messages = TokenBucket(*settings.rates.messages)
        self._throttled = OncePerMinute()
        self.starts = TokenBucket(*settings.rates.starts)
        self._handlers: dict[type[commands.WireCommand], CommandHandler] = {
            commands.JoinGeneration: self._join,
            commands.LeaveGeneration: self._leave,
            commands.StartGeneration: self._start,
            commands.CancelGeneration: self._cancel,
            commands.RetryGeneration: self._retry,
            commands.SubscribeJob: self._subscribe_job,
            commands.UnsubscribeJob: self._unsubscribe_job,
            commands.SubscribeUserJobs: self._subscribe_list,
            commands.UnsubscribeUserJobs: self._unsubscribe_list,
            commands.SubscribeAdminJobs: self._subscribe_list,
            commands.UnsubscribeAdminJobs: self._unsubscribe_list,
            commands.RefreshToken: self._refresh,
            commands.ShareGeneration: self._share,
            commands.UnshareGeneration: self._unshare,
        }

    def close(self) -> None:
        self._expiry.close()
        self.slots.close()

    def close_revoked(self) -> None:
        """Close the sockets and break off the downloads whose tokens were revoked, in whatever process."""
        self._end_revoked()
        self.sharing.downloads.end_unless(lambda _, reader: not self._tokens.is_revoked(reader))

    def check_rate(self, client: ConnectedClient, size: int) -> Refused | None:
        """Count a message of `size` bytes. Return the error if the socket or its user sends too many."""
        if client.identity.is_process_owner:
            return None
        try:
            self._messages.require(client.sid, "messages")
            self.costs.require(client.identity.user, "long messages, or messages with long answers,", 1 + cost_of(size))
        except Refused as error:
            return error
        return None

    async def handle_command(
        self, client: ConnectedClient, data: object, *, has_callback: bool
    ) -> commands.Ack | commands.ErrorAck:
        """Carry out a command and return its acknowledgement; never raise. A command that fails without a callback is
        answered with an event to its sender."""
        name, arguments, command = "", list[Any](), None
        try:
            client.check_open()
            name, arguments = _name_and_arguments(data)
            command = decode(name, *arguments)
            with about(getattr(command, "generation_id", None) or getattr(command, "job_id", None)):
                ack = await self._handlers[type(command)](client, command)
        except HarmoniaError as error:
            failure = error
        except Exception:  # noqa: BLE001 - a client that waits for an acknowledgement gets one
            _log.exception("A defect in the command %s.", name[:40])
            failure = HarmoniaError("A defect in the server.", hint="Its log has the details.")
            self.webhook.tell(failure.code, where="a command")
        else:
            self._lab.metrics.set_rooms(len(self._rooms))
            self._lab.metrics.count("commands_total", command.name, "ok")
            self.audit.command(client, name, command, "ok")
            _log.info("Socket %s: %s.", client.sid, command.name)
            return ack
        return self.refuse(client, name, arguments, failure, has_callback=has_callback, command=command)

    def refuse(
        self,
        client: ConnectedClient,
        name: str,
        arguments: list[Any],
        failure: HarmoniaError,
        *,
        has_callback: bool,
        command: commands.Command | None = None,
    ) -> commands.ErrorAck:
        """Return the acknowledgement of a command that failed. Without a callback, send its sender an event.

        command: None if the message was not read, or could not be.
        """
        self._lab.metrics.failed(failure.code)
        known = name if name in commands.COMMANDS else "unknown"
        self._lab.metrics.count("commands_total", known, failure.code)
        self.audit.command(client, name, command, failure.code)
        limited = failure.code == ErrorCode.RATE_LIMITED
        if not limited or self._throttled.due(client.identity.user) is not None:
            _log.info("Socket %s: %.40r was refused: %s.", client.sid, name, failure.code)
        if not has_callback:
            self._delivery.send_direct(client, self._failure_event(client, name, arguments, failure))
        return commands.ErrorAck(error=events.ErrorInfo.of(failure))

    def _failure_event(
        self, client: ConnectedClient, name: str, arguments: list[Any], error: HarmoniaError
    ) -> events.GenerationError | events.JobFailedEvent:
        """Return the event of the command's family that tells its sender that the command failed."""
        is_job = name.startswith("job")
        value = arguments[0] if arguments else None
        if isinstance(value, dict):
            value = value.get("jobId" if is_job else "generationId")
        about = value[:64] if isinstance(value, str) else ""
        if is_job:
            return events.JobFailedEvent(id=about, error=str(error), code=error.code, recoverable=error.recoverable)
        at_hand = bool(about) and (self._lab.shared is None or self._lab.journal.is_at_hand(about))
        state = self._lab.journal.state(about) if at_hand else None
        stage = state.stage if state is not None and self.access.role(state, client.identity) else "unknown"
        return events.GenerationError(generation_id=about, error=events.ErrorInfo.of(error), stage=stage, final=False)

    async def _join(self, client: ConnectedClient, command: commands.JoinGeneration) -> commands.JoinAck:
        generation_id = command.generation_id
        channel = events.Channel("generation", generation_id)
        await self._admit(client, channel, command.after_seq)
        self._rooms.enter(client, f"generation-{generation_id}")
        replayed = await self._replay(client, channel, command.after_seq)
        state = self._lab.journal.state(generation_id)
        self._expiry.joined(generation_id, state)
        snapshot = None
        if state is not None:
            snapshot = self.sharing.snapshot(state, client.identity)
            snapshot = snapshot.model_copy(update={"job": self._linked(client, state.kept_job)})
        return commands.JoinAck(generation_id=generation_id, snapshot=snapshot, replayed=replayed)

    async def _leave(self, client: ConnectedClient, command: commands.LeaveGeneration) -> commands.GenerationAck:
        self._rooms.leave(client, f"generation-{command.generation_id}")
        client.pending.pop(events.Channel("generation", command.generation_id), None)
        return commands.GenerationAck(generation_id=command.generation_id)

    async def _start(self, client: ConnectedClient, command: commands.StartGeneration) -> commands.StartAck:
        generation_id = command.generation_id or new_generation_id()
        room = f"generation-{generation_id}"
        was_in = room in client.rooms
        self._rooms.enter(client, room)  # before the first event
        try:
            return await self.start(command, generation_id, client.identity)
        except BaseException:
            if not was_in:
                self._rooms.leave(client, room)
            raise

    async def start(
        self, command: commands.StartGeneration, generation_id: str, identity: Identity
    ) -> commands.StartAck:
        """Queue a generation; HTTP calls this too. Raise InvalidRequest or Refused if it can't be queued."""
        # A plain request: what only the command checks is no part of a song's record.
        request = SongRequest(**dict(command) | {"generation_id": generation_id})
        check_models(self._lab, check_contradictions(request))
        if command.generation_id is not None:
            await self.access.ask_others(generation_id, identity.user)
        self.access.check_not_reserved(generation_id, identity.user)
        limits = self._check_start_rate(identity, identity.user)
        if request.audio_options:
            request = await asyncio.to_thread(self._lab.with_sounds, request, identity.user)
        await asyncio.to_thread(self._lab.submit_request, request, user=identity.user, limits=limits)
        return commands.StartAck(generation_id=generation_id, job_id=generation_id)

    async def _cancel(self, client: ConnectedClient, command: commands.CancelGeneration) -> commands.GenerationAck:
        await self.load(client.identity, command.generation_id)
        try:
            self.access.require_control(command.generation_id, client.identity)
        except Refused as error:
            raise Refused(error.message, code=ErrorCode.CANCEL_FAILED, hint=error.hint) from None
        await asyncio.to_thread(self._lab.cancel, command.generation_id)
        return commands.GenerationAck(generation_id=command.generation_id)

    async def _retry(self, client: ConnectedClient, command: commands.RetryGeneration) -> commands.GenerationAck:
        await self.load(client.identity, command.generation_id)
        state = self.access.require_control(command.generation_id, client.identity)
        limits = self._check_start_rate(client.identity, state.owner)
        await asyncio.to_thread(self._lab.retry, command.generation_id, limits=limits)
        return commands.GenerationAck(generation_id=command.generation_id)

    async def _share(self, client: ConnectedClient, command: commands.ShareGeneration) -> commands.ShareAck:
        await self.load(client.identity, command.generation_id)
        return await self.sharing.share(command, client.identity)

    async def _unshare(self, client: ConnectedClient, command: commands.UnshareGeneration) -> commands.ShareAck:
        await self.load(client.identity, command.generation_id)
        return await self.sharing.unshare(command, client.identity)

    async def _subscribe_job(self, client: ConnectedClient, command: commands.SubscribeJob) -> commands.JobAck:
        channel = events.Channel("job", command.job_id)
        await self._admit(client, channel, command.after_seq)
        self._rooms.enter(client, f"job:{command.job_id}")
        await self._replay(client, channel, command.after_seq)
        return self._job_ack(client, command.job_id)

    async def _unsubscribe_job(self, client: ConnectedClient, command: commands.UnsubscribeJob) -> commands.JobAck:
        self._rooms.leave(client, f"job:{command.job_id}")
        await self.load(client.identity, command.job_id)
        return self._job_ack(client, command.job_id)

    async def _subscribe_list(self, client: ConnectedClient, command: commands.JobsCommand) -> commands.JobsAck:
        room, owner = self._job_list(client, command)
        was_in = room in client.rooms
        self._rooms.enter(client, room)  # before the list is read, so that no job is in neither
        try:
            return await self._read_jobs(client, owner)
        except BaseException:
            if not was_in:
                self._rooms.leave(client, room)
            raise

    async def _unsubscribe_list(self, client: ConnectedClient, command: commands.JobsCommand) -> commands.JobsAck:
        room, owner = self._job_list(client, command)
        self._rooms.leave(client, room)
        return await self._read_jobs(client, owner)

    async def _read_jobs(self, client: ConnectedClient, owner: str | None) -> commands.JobsAck:
        jobs = partial(self._lab.journal.jobs, owner)
        page = await self.slots.read(
            client.identity.user, read_page, jobs, self._urls, client.base_url, client.identity, words=owner is not None
        )
        return commands.JobsAck(jobs=page.jobs, next_cursor=page.cursor)

    async def _refresh(self, client: ConnectedClient, command: commands.RefreshToken) -> commands.RefreshAck:
        identity = self._tokens.check(command.token)
        if identity.user != client.identity.user:
            raise Refused("The token is another user's.", hint="Send a token of the connected user, or reconnect.")
        client.identity = identity  # of the same user, so the count of the user's sockets stays
        self._delivery.invalidate_audiences()
        if not identity.is_admin:
            self._rooms.leave(client, "admin:jobs")
        self._schedule_expiry(client)
        return commands.RefreshAck(expires_at=datetime.fromtimestamp(identity.expires_at, UTC))

    async def load(self, identity: Identity, generation_id: str) -> None:
        """Have the journal's state of a generation at hand: what no process works at is read from the disk.

        HTTP calls this too. Raise Refused if the user's token was revoked meanwhile.
        """
        journal = self._lab.journal
        if not journal.is_at_hand(generation_id):
            await self.slots.read(identity.user, journal.state, generation_id)
            self._tokens.check_not_revoked(identity)

    async def _admit(self, client: ConnectedClient, channel: events.Channel, after_seq: int | None) -> None:
        """Raise Refused if the client may not hear the channel; return once what it has of it is known here."""
        user, generation_id = client.identity.user, channel.generation_id
        await self.load(client.identity, generation_id)
        await self.access.ask_others(generation_id, user, reserve=True)
        self.access.require_or_reserve(generation_id, client.identity)
        if after_seq is not None and self._lab.shared is not None:
            await until_known(self._lab.journal, channel, after_seq)
            self.access.require_or_reserve(generation_id, client.identity)  # it may have been taken back meanwhile

    async def _replay(self, client: ConnectedClient, channel: events.Channel, after_seq: int | None) -> int:
        """Send the lifecycle events after `after_seq`, or those that the socket was not sent. Return how many.

        Repeat until none is missing, so that the acknowledgement describes no event that the client was not sent.
        """
        sent, generation_id = 0, channel.generation_id
        while (state := self._lab.journal.state(generation_id)) is not None:
            latest = state.cursor(channel.family).seq
            if after_seq is not None:
                client.last_seq[channel], after_seq = min(after_seq, latest), None
            if client.last_seq.get(channel, 0) >= latest:
                break
            read = self._delivery.read_missed
            if state.metadata is not None and len(state.metadata.lyrics) > LONG_LYRICS:
                missed = await self.slots.read(client.identity.user, read, client, channel, state.owner)
                client.check_open()
                self.access.require(generation_id, client.identity)  # it may have been taken back meanwhile
            else:
                missed = read(client, channel, state.owner)
            if not missed:
                break
            self.charge(client, sum(event.message.size for event in missed))
            sent += self._delivery.send_missed(client, channel, missed)
        if sent:
            self._metrics.count("replays_total")
            self._metrics.count("replayed_events_total", by=sent)
        return sent

    def charge(self, client: ConnectedClient, size: int) -> None:
        """Count `size` bytes that answer a command."""
        if not client.identity.is_process_owner:
            self.costs.charge(client.identity.user, cost_of(size))

    def _job_ack(self, client: ConnectedClient, job_id: str) -> commands.JobAck:
        state = self._lab.journal.state(job_id)
        if state is None or self.access.role(state, client.identity) is None:
            return commands.JobAck(job_id=job_id)
        return commands.JobAck(job_id=job_id, job=self._linked(client, state.kept_job))

    def _job_list(self, client: ConnectedClient, command: commands.JobsCommand) -> tuple[str, str | None]:
        """Return the room that `command` is about, and the owner of its jobs, None for all users.

        Raise Refused if they are an admin's.
        """
        user = client.identity.user
        if isinstance(command, commands.SubscribeUserJobs | commands.UnsubscribeUserJobs):
            return f"user:{user}:jobs", user
        if not client.identity.is_admin:
            raise Refused(
                "Only an admin may see all users' jobs.", hint='Connect with a token that has the role "admin".'
            )
        return "admin:jobs", None

    def _linked(self, client: ConnectedClient, job: Job) -> Job:
        """Return the job with a download URL for the client."""
        return job.linked(self._urls.audio(client.base_url, job.id, client.identity))

    def _check_start_rate(self, identity: Identity, user: str) -> QueueLimits | None:
        """Count a start by `identity` of a song of `user`, and return the queue's limits. The process owner has none.

        Raise Refused (RATE_LIMITED) if the user starts too many songs.
        """
        if identity.is_process_owner:
            return None
        self.starts.require(user, "songs")
        return self._settings.queue


def new_generation_id() -> str:
    return secrets.token_hex(6)


def _name_and_arguments(data: object) -> tuple[str, list[Any]]:
    if not isinstance(data, list) or not data or not isinstance(data[0], str):
        raise InvalidRequest("A message is a list: its name, as text, then its arguments.")
    return data[0], data[1:]
