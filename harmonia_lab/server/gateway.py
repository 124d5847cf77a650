"""What clients may ask, and what is done about it: one method for each command, and an answer to each.

Owns the handshake, the end of a token, the meaning of the commands, and the log of who said what when (level INFO, no
words, no tokens). Who may enter where is `rooms.py`'s, what goes out is `delivery.py`'s, making songs is the lab's.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from aiohttp import web
from socketio.exceptions import ConnectionRefusedError as Refusal

from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest, Refused
from harmonia_lab.events.fanout import Fanout
from harmonia_lab.generation.handle import QueueLimits
from harmonia_lab.protocol import commands as say
from harmonia_lab.protocol.codec import decode, error_ack
from harmonia_lab.protocol.events import ErrorInfo, GenerationError, JobFailedEvent, ServerHello, TokenExpiring, User
from harmonia_lab.protocol.models import Job, SongRequest, check_contradictions
from harmonia_lab.server.auth import Identity, Tokens
from harmonia_lab.server.connected_client import Client, Lane
from harmonia_lab.server.delivery import Delivery
from harmonia_lab.server.rate_limit import Buckets
from harmonia_lab.server.rooms import Access, Rooms, may_see
from harmonia_lab.server.settings import ServerSettings
from harmonia_lab.store.journal import Journal
from harmonia_lab.store.metrics import Metrics

__all__ = ["FEATURES", "WARNING_S", "Gateway", "Studio"]

FEATURES = ["acks", "replay", "start-generation", "retry-generation", "refresh-token", "jobs", "downloads"]
"""What this server can do beyond the guide."""

WARNING_S = 60.0
"""How long before the end of a token its socket is warned; for short-lived ones, half of their life."""

REFUSED_S = 0.02
"""How long a message beyond the limit waits for its refusal, and those behind it for their turn."""

_HOST = re.compile(r"[A-Za-z0-9._\-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")

_log = logging.getLogger(__name__)


class Studio(Protocol):
    """Where songs are made, as far as a server needs it; `Lab` is one. Methods may block; any thread may call them."""

    events: Fanout
    metrics: Metrics

    @property
    def journal(self) -> Journal: ...

    def offers(self) -> tuple[str, str]:
        """Names of the language model and of the audio model that songs are made with."""
        ...

    def submit_request(self, request: SongRequest, *, user: str, limits: QueueLimits | None) -> Any: ...

    def cancel(self, generation_id: str) -> None: ...

    def retry(self, generation_id: str, *, limits: QueueLimits | None) -> Any: ...


class Gateway:
    """Lives in the server's event loop."""

    def __init__(
        self,
        studio: Studio,
        settings: ServerSettings,
        tokens: Tokens,
        *,
        rooms: Rooms,
        access: Access,
        delivery: Delivery,
        close: Callable[[Client], None],
    ) -> None:
        """close: ends a connection."""
        self.clients: dict[str, Client] = {}
        self._studio, self._settings, self._tokens = studio, settings, tokens
        self._rooms, self._access, self._delivery = rooms, access, delivery
        self._close = close
        self.url = ""
        """Of this server, for clients that don't say how they reached it."""
        self._messages = Buckets(*settings.rates.messages)
        self._starts = Buckets(*settings.rates.starts)
        self._methods: dict[type[say.WireCommand], Callable[[Client, Any], Awaitable[say.Ack]]] = {
            say.JoinGeneration: self._join,
            say.LeaveGeneration: self._leave,
            say.StartGeneration: self._start,
            say.CancelGeneration: self._cancel,
            say.RetryGeneration: self._retry,
            say.SubscribeJob: self._subscribe_job,
            say.UnsubscribeJob: self._unsubscribe_job,
            say.SubscribeUserJobs: self._subscribe_user,
            say.UnsubscribeUserJobs: self._unsubscribe_user,
            say.SubscribeAdminJobs: self._subscribe_admin,
            say.UnsubscribeAdminJobs: self._unsubscribe_admin,
            say.RefreshToken: self._refresh,
        }

    async def connect(self, sid: str, eio_sid: str, engine: Any, request: web.Request, auth: object) -> None:
        """Raises socketio's ConnectionRefusedError: the client sees `connect_error` with the reason."""
        token = auth.get("token") if isinstance(auth, dict) else None
        if token is None:
            token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            who = self._tokens.check(token)
        except Refused as error:
            self._studio.metrics.failed(error.code)
            _log.info("A connection from %s was refused: %s", request.remote, error.message)
            raise Refusal(str(error), ErrorInfo.of(error).to_wire()) from None
        client = Client(sid, eio_sid, engine, who, self.base_url(request))
        self.clients[eio_sid] = client
        self._studio.metrics.connected()
        _log.info("Socket %s: %s has connected.", sid, who.user)

    def greet(self, client: Client) -> None:
        if client.greeted:
            return
        client.greeted = True
        who = client.who
        hello = ServerHello(
            protocol_version=say.PROTOCOL_VERSION, features=FEATURES, user=User(id=who.user, roles=list(who.roles))
        )
        self._delivery.tell(client, hello)
        self._watch_token(client)

    def disconnect(self, eio_sid: str) -> None:
        client = self.clients.pop(eio_sid, None)
        if client is None:
            return
        for timer in client.timers:
            timer.cancel()
        self._rooms.leave_all(client)
        self._delivery.forget(client)
        self._studio.metrics.disconnected()
        self._studio.metrics.set_rooms(len(self._rooms))

    async def answer(self, client: Client, data: object, *, wanted: bool) -> dict[str, Any]:
        """The acknowledgement. Where none is `wanted` and the command fails, the sender is told by an event."""
        name, arguments = "", list[Any]()
        try:
            await self._check_rate(client)
            name, arguments = _parts(data)
            command = decode(name, *arguments)
            done = await self._methods[type(command)](client, command)
            self._studio.metrics.set_rooms(len(self._rooms))
            _log.info("Socket %s: %s.", client.sid, command.name)
            return done.to_wire()
        except HarmoniaError as error:
            failure = error
        except Exception:  # noqa: BLE001 - whoever waits for an answer gets one
            _log.exception("A defect: %s was not answered.", name[:40])
            failure = HarmoniaError("A defect in the server.", hint="Its log says which.")
        self._studio.metrics.failed(failure.code)
        _log.info("Socket %s: %.40r was refused: %s.", client.sid, name, failure.code)
        if not wanted:
            self._delivery.tell(client, self._complaint(client, name, arguments, failure))
        return error_ack(failure)

    def _complaint(
        self, client: Client, name: str, arguments: list[Any], error: HarmoniaError
    ) -> GenerationError | JobFailedEvent:
        given = arguments[0] if arguments else None
        if isinstance(given, dict):
            given = given.get("jobId" if name.startswith("job") else "generationId")
        about = given[:64] if isinstance(given, str) else ""
        if name.startswith("job"):
            return JobFailedEvent(id=about, error=str(error), code=error.code, recoverable=error.recoverable)
        standing = self._studio.journal.state(about) if about else None
        stage = standing.stage if standing is not None and may_see(client.who, standing.owner) else "unknown"
        return GenerationError(generation_id=about, error=ErrorInfo.of(error), stage=stage, final=False)

    async def _join(self, client: Client, command: say.JoinGeneration) -> say.JoinAck:
        generation_id = command.generation_id
        self._access.to_join(generation_id, client.who)
        self._rooms.enter(client, f"generation-{generation_id}")
        replayed = self._replay(client, ("generation", generation_id), command.after_seq)
        standing = self._studio.journal.state(generation_id)
        snapshot = None
        if standing is not None:
            snapshot = standing.snapshot()
            snapshot = snapshot.model_copy(update={"job": self._linked(client, standing.kept_job)})
        return say.JoinAck(generation_id=generation_id, snapshot=snapshot, replayed=replayed)

    async def _leave(self, client: Client, command: say.LeaveGeneration) -> say.GenerationAck:
        self._rooms.leave(client, f"generation-{command.generation_id}")
        client.pending.pop(("generation", command.generation_id), None)
        return say.GenerationAck(generation_id=command.generation_id)

    async def _start(self, client: Client, command: say.StartGeneration) -> say.StartAck:
        generation_id = command.generation_id or secrets.token_hex(6)
        room = f"generation-{generation_id}"
        was_in = room in client.rooms
        fields = {name: getattr(command, name) for name in SongRequest.model_fields}
        self._rooms.enter(client, room)  # before the first event
        try:
            await self.start(SongRequest(**fields | {"generation_id": generation_id}), client.who)
        except BaseException:
            if not was_in:
                self._rooms.leave(client, room)
            raise
        return say.StartAck(generation_id=generation_id, job_id=generation_id)

    async def start(self, request: SongRequest, who: Identity) -> None:
        """The same for HTTP. request: with its generation id."""
        assert request.generation_id is not None
        self._check_offers(check_contradictions(request))
        self._access.to_start(request.generation_id, who.user)
        limits = self._take_start(who, who.user)
        await asyncio.to_thread(self._studio.submit_request, request, user=who.user, limits=limits)

    async def _cancel(self, client: Client, command: say.CancelGeneration) -> say.GenerationAck:
        try:
            self._access.to(command.generation_id, client.who)
        except Refused as error:
            raise Refused(error.message, code=ErrorCode.CANCEL_FAILED) from None
        await asyncio.to_thread(self._studio.cancel, command.generation_id)
        return say.GenerationAck(generation_id=command.generation_id)

    async def _retry(self, client: Client, command: say.RetryGeneration) -> say.GenerationAck:
        standing = self._access.to(command.generation_id, client.who)
        limits = self._take_start(client.who, standing.owner)
        await asyncio.to_thread(self._studio.retry, command.generation_id, limits=limits)
        return say.GenerationAck(generation_id=command.generation_id)

    async def _subscribe_job(self, client: Client, command: say.SubscribeJob) -> say.JobAck:
        self._access.to_join(command.job_id, client.who)
        self._rooms.enter(client, f"job:{command.job_id}")
        self._replay(client, ("job", command.job_id), command.after_seq)
        return self._job_ack(client, command.job_id)

    async def _unsubscribe_job(self, client: Client, command: say.UnsubscribeJob) -> say.JobAck:
        self._rooms.leave(client, f"job:{command.job_id}")
        return self._job_ack(client, command.job_id)

    async def _subscribe_user(self, client: Client, command: say.SubscribeUserJobs) -> say.JobsAck:
        del command
        self._rooms.enter(client, f"user:{client.who.user}:jobs")
        return self._jobs_ack(client)

    async def _unsubscribe_user(self, client: Client, command: say.UnsubscribeUserJobs) -> say.JobsAck:
        del command
        self._rooms.leave(client, f"user:{client.who.user}:jobs")
        return self._jobs_ack(client)

    async def _subscribe_admin(self, client: Client, command: say.SubscribeAdminJobs) -> say.JobsAck:
        del command
        ack = self._admin_jobs_ack(client)
        self._rooms.enter(client, "admin:jobs")
        return ack

    async def _unsubscribe_admin(self, client: Client, command: say.UnsubscribeAdminJobs) -> say.JobsAck:
        del command
        self._rooms.leave(client, "admin:jobs")
        return self._admin_jobs_ack(client)

    async def _refresh(self, client: Client, command: say.RefreshToken) -> say.RefreshAck:
        who = self._tokens.check(command.token)
        if who.user != client.who.user:
            raise Refused("The token is another user's.")
        client.who = who
        self._delivery.look_again()
        if not who.admin:
            self._rooms.leave(client, "admin:jobs")
        self._watch_token(client)
        return say.RefreshAck(expires_at=datetime.fromtimestamp(who.expires_at, UTC))

    def _replay(self, client: Client, lane: Lane, after_seq: int | None) -> int:
        """Up to where it stands now, so that the answer speaks of nothing that the client has not had."""
        sent = 0
        journal, (family, generation_id) = self._studio.journal, lane
        while (standing := journal.state(generation_id)) is not None:
            latest = standing.generation_cursor.seq if family == "generation" else standing.job_cursor.seq
            if after_seq is not None:
                client.had[lane], after_seq = min(after_seq, latest), None
            if client.had.get(lane, 0) >= latest:
                break
            more = self._delivery.catch_up(client, lane, standing.owner)
            if not more:
                break
            sent += more
        return sent

    def _job_ack(self, client: Client, job_id: str) -> say.JobAck:
        standing = self._studio.journal.state(job_id)
        if standing is None or not may_see(client.who, standing.owner):
            return say.JobAck(job_id=job_id)
        return say.JobAck(job_id=job_id, job=self._linked(client, standing.kept_job))

    def _jobs_ack(self, client: Client) -> say.JobsAck:
        jobs = self._studio.journal.jobs(owner=client.who.user)
        return say.JobsAck(jobs=[self._linked(client, job) for job in jobs])

    def _admin_jobs_ack(self, client: Client) -> say.JobsAck:
        if not client.who.admin:
            raise Refused("Only an admin may see everybody's jobs.")
        jobs = self._studio.journal.jobs()
        return say.JobsAck(jobs=[self._linked(client, job).for_admin() for job in jobs])

    def _linked(self, client: Client, job: Job) -> Job:
        return job.linked(self._delivery.link(client, job.id, job.user_id))

    def _check_offers(self, request: SongRequest) -> None:
        """A name from the wire chooses among what is here; it is never a path, and never something to fetch."""
        model, audio_model = self._studio.offers()
        wanted = (request.model or "").replace("minstral3", "ministral-3")
        if wanted and wanted != model:
            raise InvalidRequest("There is no such model here.", hint=f"Known: {model}.", details={"fields": ["model"]})
        if request.audio_model and request.audio_model != audio_model:
            raise InvalidRequest(
                "There is no such audio model here.", hint=f"Known: {audio_model}.", details={"fields": ["audioModel"]}
            )

    async def _check_rate(self, client: Client) -> None:
        if not client.who.owner and not self._messages.take(client.sid):
            # A socket's commands are read one after the other: who goes on regardless is read more slowly, and keeps
            # neither the processor nor the other sockets' turn.
            await asyncio.sleep(REFUSED_S)
            raise Refused("Too many messages in too short a time.", code=ErrorCode.RATE_LIMITED)

    def _take_start(self, who: Identity, user: str) -> QueueLimits | None:
        """How long the queue may be for `who`, whose song is `user`'s. Limits are for clients, not for the owner."""
        if who.owner:
            return None
        if not self._starts.take(user):
            raise Refused("Too many songs in too short a time.", code=ErrorCode.RATE_LIMITED, hint="Wait a moment.")
        return self._settings.queue

    def _watch_token(self, client: Client) -> None:
        for timer in client.timers:
            timer.cancel()
        loop = asyncio.get_running_loop()
        left_s = client.who.expires_at - time.time()
        warn_in = max(left_s - WARNING_S, left_s / 2)
        client.timers = [loop.call_later(warn_in, self._warn, client), loop.call_later(left_s, self._close, client)]

    def _warn(self, client: Client) -> None:
        self._delivery.tell(client, TokenExpiring(expires_at=datetime.fromtimestamp(client.who.expires_at, UTC)))

    def base_url(self, request: web.Request) -> str:
        """As the client reached the server, so that its links work where it is."""
        if self._settings.public_url is not None:
            return self._settings.public_url.rstrip("/")
        host = request.headers.get("Host", "")
        return f"{self._settings.scheme}://{host}" if _HOST.fullmatch(host) else self.url


def _parts(data: object) -> tuple[str, list[Any]]:
    """name, arguments."""
    if not isinstance(data, list) or not data or not isinstance(data[0], str):
        raise InvalidRequest("A message starts with its name.")
    return data[0], data[1:]
