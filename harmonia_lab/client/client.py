"""The guide's WebSocketService: one server, one user, and every lifecycle event of what was joined, once and in order.

Owns staying connected: coming back with longer and longer waits, joining everything again from where it stopped, fresh
tokens, and the state of what is known meanwhile (`store`). Whether an event counts is the store's to say: what comes
twice changes nothing, and what comes too early is asked for again.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import logging
import random
import secrets
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp

from harmonia_lab.client.connection import Connection
from harmonia_lab.client.streams import Stream, is_end
from harmonia_lab.errors import Disconnected, HarmoniaError, InvalidRequest, Refused
from harmonia_lab.protocol import commands as say
from harmonia_lab.protocol.codec import decode
from harmonia_lab.protocol.events import (
    AudioGenerationProgress,
    Event,
    Family,
    FamilyEvent,
    JobEvent,
    MetadataGenerationComplete,
    MetadataGenerationProgress,
    ServerEvent,
    ServerHello,
    TokenExpiring,
)
from harmonia_lab.protocol.models import Job, SongRequest
from harmonia_lab.sinks.store import ConnectionEstablished, ConnectionLost, Cursor, Store

__all__ = ["Backoff", "Client", "Token"]

Token = str | Callable[[], str | Awaitable[str]]
"""A token, or what gets one: called for each connection, and before a token ends. It must not block the event loop."""

Lane = tuple[Family, str]
"""family, generation id: what is numbered by itself."""

A = TypeVar("A", bound=say.Ack)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backoff:
    """The guide's waits between attempts. delay_s: the first; each is twice the one before, up to max_s.
    factor: how much of it is left to chance, so that not all come back at once. attempts: None never gives up."""

    delay_s: float = 1.0
    max_s: float = 5.0
    factor: float = 0.5
    attempts: int | None = None

    def waits(self) -> Iterator[float]:
        """Seconds, for each attempt."""
        for attempt in itertools.count() if self.attempts is None else range(self.attempts):
            wait_s = self.delay_s * 2.0 ** min(attempt, 32)
            yield min(self.max_s, wait_s * random.uniform(1 - self.factor, 1 + self.factor))  # noqa: S311 - no secret


class Client:
    """For one event loop.

    >>> async with Client(server.url) as client:
    ...     await client.connect(token)
    ...     ack = await client.start("A lighthouse keeper's last night.", seconds=20)
    ...     async for event in client.events(ack.generation_id):
    ...         print(event.name)

    Commands wait for a connection and for the server's answer, together at most `ack_timeout_s`. They raise
    Disconnected where there is none, and else the HarmoniaError that the server answers, with its code.
    """

    def __init__(
        self,
        url: str,
        *,
        path: str = "socket.io",
        transports: Sequence[str] = ("websocket",),
        ack_timeout_s: float = 5.0,
        connect_timeout_s: float = 20.0,
        backoff: Backoff | None = None,
        session: Callable[[], aiohttp.ClientSession] = aiohttp.ClientSession,
    ) -> None:
        """url: of the server, as `server.url`. transports: "websocket", "polling". session: makes the HTTP session, for
        proxies and certificates."""
        self.url = url
        self.store = Store()
        """What is known, also while disconnected. Observers are called in the event loop."""
        self.hello: ServerHello | None = None
        """How the server introduced itself, and as whom it knows us."""
        self._path, self._transports = path, transports
        self._ack_timeout_s, self._connect_timeout_s = ack_timeout_s, connect_timeout_s
        self._backoff = backoff or Backoff()
        self._new_session = session
        self._session: aiohttp.ClientSession | None = None
        self._token: Token = ""
        self._turn = asyncio.Lock()
        self._connection: asyncio.Future[Connection] | None = None
        """Pending while it is being restored; with the error once it was given up; None before `connect`."""
        self._keeper: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._rooms: dict[Lane, None] = {}
        self._lists: dict[type[say.WireCommand], dict[str, Job]] = {}
        """Subscriptions to many jobs, each with the jobs as they were when it was last answered."""
        self._heard: dict[Lane, list[FamilyEvent]] = {}
        self._fetched: dict[Lane, int] = {}
        self._streams: weakref.WeakSet[Stream[Any]] = weakref.WeakSet()

    @property
    def connected(self) -> bool:
        return self.store.state.connected

    async def connect(self, token: Token) -> None:
        """Connects, and from then on reconnects by itself. Does nothing where that is so already.

        Raises Refused where the token is not good, Disconnected where the server can't be reached.
        """
        async with self._turn:
            if self._keeper is not None and not self._keeper.done():
                return
            self._token = token
            self._session = self._new_session()
            self._connection = asyncio.get_running_loop().create_future()
            try:
                connection = await self._open()
            except BaseException:
                await self._session.close()
                self._connection = None
                raise
            self._keeper = asyncio.create_task(self._keep(connection))

    async def disconnect(self) -> None:
        """Leaves everything and closes. Streams end. Calling it twice is fine."""
        async with self._turn:
            tasks = [*self._tasks, *([self._keeper] if self._keeper is not None else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            connection, self._connection, self._keeper = self._connection, None, None
            self._rooms.clear()
            self._lists.clear()
            for stream in tuple(self._streams):
                stream.close()
            if connection is not None and not connection.done():
                _fail(connection, Disconnected("The client was disconnected."))
            elif connection is not None and connection.exception() is None:
                await connection.result().close()
            if self._session is not None:
                await self._session.close()
            if self.connected:
                self.store(ConnectionLost("client disconnect"))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect()

    # Commands

    async def start(self, story: str | SongRequest, **options: Any) -> say.StartAck:
        """Has a song made, and joins it. options: fields of `SongRequest`, for a story."""
        unknown = options.keys() - SongRequest.model_fields.keys()
        if unknown:
            raise InvalidRequest(f"Unknown: {', '.join(sorted(unknown))}.", details={"fields": sorted(unknown)})
        fields = {"narrative": story} | options if isinstance(story, str) else story.to_wire()
        fields.setdefault("generationId", fields.pop("generation_id", None) or secrets.token_hex(6))
        lane: Lane = ("generation", fields["generationId"])
        try:
            ack = await self._ask(say.StartGeneration, say.StartAck, again=False, **fields)
        except Disconnected:
            # The cut may have swallowed the command or the answer. Joining says which.
            if (await self.join(lane[1])).snapshot is None:
                return await self._ask(say.StartGeneration, say.StartAck, again=False, **fields)
            return say.StartAck(generation_id=lane[1], job_id=lane[1])
        self._rooms[lane] = None
        return ack

    async def join(self, generation_id: str) -> say.JoinAck:
        """Hears of a generation, from its first event on."""
        ack = await self._join(generation_id)
        self._rooms["generation", generation_id] = None
        return ack

    async def leave(self, generation_id: str) -> say.GenerationAck:
        self._rooms.pop(("generation", generation_id), None)
        return await self._ask(say.LeaveGeneration, say.GenerationAck, generation_id=generation_id)

    async def cancel(self, generation_id: str) -> say.GenerationAck:
        return await self._ask(say.CancelGeneration, say.GenerationAck, generation_id=generation_id)

    async def retry(self, generation_id: str) -> say.GenerationAck:
        """Tries again what failed. Where it raises Disconnected, look at what comes of it before trying again."""
        return await self._ask(say.RetryGeneration, say.GenerationAck, again=False, generation_id=generation_id)

    async def subscribe_to_job(self, job_id: str) -> say.JobAck:
        ack = await self._subscribe(job_id)
        self._rooms["job", job_id] = None
        return ack

    async def unsubscribe_from_job(self, job_id: str) -> say.JobAck:
        self._rooms.pop(("job", job_id), None)
        return await self._ask(say.UnsubscribeJob, say.JobAck, job_id=job_id)

    async def subscribe_to_user_jobs(self) -> say.JobsAck:
        """Hears of all of one's own jobs that go on from now."""
        return await self._watch(say.SubscribeUserJobs)

    async def unsubscribe_from_user_jobs(self) -> say.JobsAck:
        self._lists.pop(say.SubscribeUserJobs, None)
        return await self._ask(say.UnsubscribeUserJobs, say.JobsAck)

    async def subscribe_to_admin_jobs(self) -> say.JobsAck:
        """Hears of everybody's jobs that go on from now. For the role "admin"."""
        return await self._watch(say.SubscribeAdminJobs)

    async def unsubscribe_from_admin_jobs(self) -> say.JobsAck:
        self._lists.pop(say.SubscribeAdminJobs, None)
        return await self._ask(say.UnsubscribeAdminJobs, say.JobsAck)

    # Streams

    def events(self, generation_id: str | None = None) -> Stream[Event]:
        """The events of a generation that was joined: the lifecycle events so far, then what comes, to its end.

        None: of all that are joined, from now on, without an end. The same for the other streams.
        """
        return self._stream(Stream(Event, "generation", generation_id), generation_id)

    def metadata_progress(self, generation_id: str | None = None) -> Stream[MetadataGenerationProgress]:
        """To the end of stage 1. Who reads slowly gets the latest."""
        stream = Stream(MetadataGenerationProgress, "generation", generation_id, over=_stage_1_is_over)
        return self._stream(stream, generation_id)

    def audio_progress(self, generation_id: str | None = None) -> Stream[AudioGenerationProgress]:
        """To the end of the generation. Who reads slowly gets the latest."""
        return self._stream(Stream(AudioGenerationProgress, "generation", generation_id), generation_id)

    def job_events(self, job_id: str | None = None) -> Stream[JobEvent]:
        """The same as `events`, of jobs that were subscribed to."""
        return self._stream(Stream(JobEvent, "job", job_id), job_id)

    def _stream(self, stream: Stream[Any], generation_id: str | None) -> Stream[Any]:
        for family in ("generation", "job"):
            for event in self._heard.get((family, generation_id or ""), ()):
                stream.put(event)
        if self._connection is None:
            stream.close(_not_connected())
        elif self._connection.done() and (error := self._connection.exception()) is not None:
            assert isinstance(error, HarmoniaError)
            stream.close(error)
        else:
            self._streams.add(stream)
        return stream

    # What comes in

    def _hear(self, event: ServerEvent) -> None:
        if isinstance(event, ServerHello):
            self.hello = event
        elif isinstance(event, TokenExpiring):
            self._spawn(self._refresh())
        else:
            self._take(event)

    def _take(self, event: FamilyEvent) -> None:
        assert event.family is not None
        lane = (event.family, event.generation_id)
        had = self._had(lane)
        lifecycle = event.delivery == "lifecycle"
        if event.seq > had + lifecycle:
            if self._fetched.get(lane) != had:
                self._fetched[lane] = had
                self._spawn(self._fill_gap(lane))
            return
        if event.delivery != "preview":
            before = self.store.state
            self.store(event)
            if self.store.state is before:
                return
        if lifecycle:
            self._heard.setdefault(lane, []).append(event)
        for stream in tuple(self._streams):
            stream.put(event)

    def _had(self, lane: Lane) -> int:
        return self.store.state.cursors.get(lane, Cursor()).seq

    # Commands, once more from where we are

    async def _ask(self, command: type[say.WireCommand], ack: type[A], *, again: bool = True, **payload: Any) -> A:
        """again: whether it can be asked again where a cut took the answer."""
        given = decode(command.name, *([payload] if payload else []))
        try:
            async with asyncio.timeout(self._ack_timeout_s):
                while True:
                    if self._connection is None:
                        raise _not_connected()
                    connection = await asyncio.shield(self._connection)
                    try:
                        return await connection.ask(given, ack)
                    except Disconnected:
                        if not again:
                            raise
        except TimeoutError:
            message = f"{command.name} had no answer within {self._ack_timeout_s:g} s."
            raise Disconnected(message, hint="Ask again.") from None

    async def _join(self, generation_id: str) -> say.JoinAck:
        after = self._had(("generation", generation_id))
        ack = await self._ask(say.JoinGeneration, say.JoinAck, generation_id=generation_id, after_seq=after)
        if ack.snapshot is not None and ack.snapshot.progress is not None:
            self._take(ack.snapshot.progress.data)
        return ack

    async def _subscribe(self, job_id: str) -> say.JobAck:
        return await self._ask(say.SubscribeJob, say.JobAck, job_id=job_id, after_seq=self._had(("job", job_id)))

    async def _watch(self, command: type[say.WireCommand]) -> say.JobsAck:
        """The first time, jobs that have ended are old news; after a cut, whatever has changed since is fetched."""
        ack = await self._ask(command, say.JobsAck)
        before = self._lists.get(command)
        if before is not None:
            for job in ack.jobs:
                known = self.store.state.jobs.get(job.id) or before.get(job.id)
                if known is None or known.updated_at != job.updated_at:
                    await self._catch_up(("job", job.id))
        self._lists[command] = {job.id: job for job in ack.jobs}
        return ack

    async def _catch_up(self, lane: Lane) -> None:
        """Has what was missed sent again. A job that comes by way of many jobs is not subscribed to by itself."""
        if lane[0] == "generation":
            await self._join(lane[1])
            return
        await self._subscribe(lane[1])
        if lane not in self._rooms:
            await self._ask(say.UnsubscribeJob, say.JobAck, job_id=lane[1])

    async def _fill_gap(self, lane: Lane) -> None:
        try:
            await self._catch_up(lane)
        except HarmoniaError as error:
            self._fetched.pop(lane, None)  # the next event tries again
            _log.debug("%s %s was not fetched: %s", *lane, error)

    async def _refresh(self) -> None:
        """Where it fails, the server ends the connection, and the next one gets a fresh token."""
        if isinstance(self._token, str):
            return
        with contextlib.suppress(HarmoniaError):
            await self._ask(say.RefreshToken, say.RefreshAck, token=await self._fresh_token(self._token))

    # Staying connected

    async def _keep(self, connection: Connection) -> None:
        try:
            while True:
                back = [self._spawn(self._come_back_to(lane)) for lane in self._rooms]
                back += [self._spawn(self._come_back_to(command)) for command in self._lists]
                await connection.over.wait()
                for task in back:
                    task.cancel()
                connection = await self._reconnect()
        except HarmoniaError as error:
            await self._give_up(error)

    async def _reconnect(self) -> Connection:
        last: HarmoniaError = Disconnected("The connection was lost.")
        for wait_s in self._backoff.waits():
            await asyncio.sleep(wait_s)
            try:
                return await self._open()
            except HarmoniaError as error:
                if not error.recoverable:
                    raise
                last = error
        raise last

    async def _open(self) -> Connection:
        try:
            return await self._dial()
        except Refused:
            if isinstance(self._token, str):
                raise
            return await self._dial()  # with a fresh token

    async def _dial(self) -> Connection:
        assert self._session is not None
        assert self._connection is not None
        token = self._token if isinstance(self._token, str) else await self._fresh_token(self._token)
        connection = Connection(self._hear, self._lost)
        await connection.open(
            self.url,
            token,
            session=self._session,
            path=self._path,
            transports=self._transports,
            within=self._connect_timeout_s,
        )
        self._fetched.clear()
        self._connection.set_result(connection)
        self.store(ConnectionEstablished())
        return connection

    async def _fresh_token(self, source: Callable[[], str | Awaitable[str]]) -> str:
        try:
            token = source()
            return await token if inspect.isawaitable(token) else token
        except HarmoniaError:
            raise
        except Exception as error:
            raise Disconnected(f"No token could be had: {error}", hint="Is the user still logged in?") from error

    def _lost(self, connection: Connection, reason: str) -> None:
        """Called before whoever waits for an answer on `connection` hears of its end."""
        now = self._connection
        if now is None or not now.done() or now.exception() is not None or now.result() is not connection:
            return
        self._connection = asyncio.get_running_loop().create_future()
        self.store(ConnectionLost(reason))

    async def _come_back_to(self, room: Lane | type[say.WireCommand]) -> None:
        while True:
            try:
                if isinstance(room, type):
                    await self._watch(room)
                else:
                    await self._catch_up(room)
            except HarmoniaError as error:
                if not error.recoverable:
                    self._shut_out(room, error)
                    return
                await asyncio.sleep(self._backoff.delay_s)
            else:
                return

    def _shut_out(self, room: Lane | type[say.WireCommand], error: HarmoniaError) -> None:
        """What was ours is no longer, or somebody else's: the token says so."""
        _log.warning("Could not come back. %s", error)
        if isinstance(room, type):
            self._lists.pop(room, None)
            return
        self._rooms.pop(room, None)
        for stream in tuple(self._streams):
            if stream.lane == room:
                stream.close(error)

    async def _give_up(self, error: HarmoniaError) -> None:
        assert self._session is not None
        await self._session.close()  # first: who hears of the end may connect again at once
        if self._connection is not None:
            _fail(self._connection, error)
        self.store(ConnectionLost(str(error)))
        for stream in tuple(self._streams):
            stream.close(error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _not_connected() -> Disconnected:
    return Disconnected("There is no connection.", hint="Call connect first.")


def _fail(connection: asyncio.Future[Connection], error: HarmoniaError) -> None:
    connection.set_exception(error)
    connection.exception()  # perhaps nobody waits for it: that is no mistake


def _stage_1_is_over(event: FamilyEvent) -> bool:
    return isinstance(event, MetadataGenerationComplete) or event.name == "audio-generation-started" or is_end(event)
