"""The guide's WebSocketService: one server, one user, and every lifecycle event of what was joined, once and in order.

Owns what is joined, and joins it again after a cut from where it stopped; and the state of what is known meanwhile
(`store`). Whether an event counts is the store's to say: what comes twice changes nothing, and what comes too early is
asked for again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import weakref
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Self

import aiohttp

from harmonia_lab.client.reconnect import Backoff, Link, Token
from harmonia_lab.client.store import Action, ConnectionEstablished, ConnectionLost, Store
from harmonia_lab.client.streams import Stream, is_end
from harmonia_lab.errors import Disconnected, HarmoniaError, InvalidRequest
from harmonia_lab.protocol import commands as say
from harmonia_lab.protocol.events import (
    AudioGenerationProgress,
    Channel,
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

__all__ = ["Client"]

Lane = tuple[Family, str]
"""family, generation id: what is numbered by itself."""

_log = logging.getLogger(__name__)


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
        self._retry_s = (backoff or Backoff()).delay_s
        self._link = Link(
            url,
            heard=self._hear,
            up=self._up,
            down=self._down,
            ended=self._ended,
            path=path,
            transports=transports,
            ack_timeout_s=ack_timeout_s,
            connect_timeout_s=connect_timeout_s,
            backoff=backoff or Backoff(),
            session=session,
        )
        self._back: list[asyncio.Task[None]] = []
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
        await self._link.connect(token)

    async def disconnect(self) -> None:
        """Leaves everything and closes. Streams end. Calling it twice is fine."""
        self._rooms.clear()
        self._lists.clear()
        for stream in tuple(self._streams):
            stream.close()
        await self._link.disconnect()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.connected:
            self._note(ConnectionLost("client disconnect"))

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
        cut = False
        while True:
            try:
                ack = await self._link.ask(say.StartGeneration, say.StartAck, again=False, **fields)
            except (Disconnected, InvalidRequest) as error:
                cut = cut or isinstance(error, Disconnected)
                # A cut may have swallowed the command or the answer. Joining says which; where the server was still at
                # the first command, the second finds its id in use.
                if cut and (await self.join(lane[1])).snapshot is not None:
                    ack = say.StartAck(generation_id=lane[1], job_id=lane[1])
                elif isinstance(error, Disconnected):
                    continue
                else:
                    raise
            self._rooms[lane] = None
            return ack

    async def join(self, generation_id: str) -> say.JoinAck:
        """Hears of a generation, from its first event on."""
        ack = await self._join(generation_id)
        self._rooms["generation", generation_id] = None
        return ack

    async def leave(self, generation_id: str) -> say.GenerationAck:
        self._rooms.pop(("generation", generation_id), None)
        return await self._link.ask(say.LeaveGeneration, say.GenerationAck, generation_id=generation_id)

    async def cancel(self, generation_id: str) -> say.GenerationAck:
        return await self._link.ask(say.CancelGeneration, say.GenerationAck, generation_id=generation_id)

    async def retry(self, generation_id: str) -> say.GenerationAck:
        """Tries again what failed. Where it raises Disconnected, look at what comes of it before trying again."""
        return await self._link.ask(say.RetryGeneration, say.GenerationAck, again=False, generation_id=generation_id)

    async def subscribe_to_job(self, job_id: str) -> say.JobAck:
        ack = await self._subscribe(job_id)
        self._rooms["job", job_id] = None
        return ack

    async def unsubscribe_from_job(self, job_id: str) -> say.JobAck:
        self._rooms.pop(("job", job_id), None)
        return await self._link.ask(say.UnsubscribeJob, say.JobAck, job_id=job_id)

    async def subscribe_to_user_jobs(self) -> say.JobsAck:
        """Hears of all of one's own jobs that go on from now."""
        return await self._watch(say.SubscribeUserJobs)

    async def unsubscribe_from_user_jobs(self) -> say.JobsAck:
        self._lists.pop(say.SubscribeUserJobs, None)
        return await self._link.ask(say.UnsubscribeUserJobs, say.JobsAck)

    async def subscribe_to_admin_jobs(self) -> say.JobsAck:
        """Hears of everybody's jobs that go on from now. For the role "admin"."""
        return await self._watch(say.SubscribeAdminJobs)

    async def unsubscribe_from_admin_jobs(self) -> say.JobsAck:
        self._lists.pop(say.SubscribeAdminJobs, None)
        return await self._link.ask(say.UnsubscribeAdminJobs, say.JobsAck)

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

    def everything(self) -> Stream[FamilyEvent]:
        """Every event of all that is joined and subscribed to, both families in one order, from now on, without an
        end."""
        return self._stream(Stream[FamilyEvent]((Event, JobEvent), None), None)

    def _stream(self, stream: Stream[Any], generation_id: str | None) -> Stream[Any]:
        for family in ("generation", "job"):
            for event in self._heard.get((family, generation_id or ""), ()):
                stream.put(event)
        self._streams.add(stream)
        if self._link.error is not None:
            stream.close(self._link.error)
        return stream

    # What the link tells

    def _hear(self, event: ServerEvent) -> None:
        if isinstance(event, ServerHello):
            self.hello = event
        elif isinstance(event, TokenExpiring):
            self._spawn(self._link.refresh())
        else:
            self._take(event)

    def _up(self) -> None:
        """Everything is joined again, on each connection."""
        self._fetched.clear()
        self._note(ConnectionEstablished())
        rooms: list[Lane | type[say.WireCommand]] = [*self._rooms, *self._lists]
        self._back = [self._spawn(self._come_back_to(room)) for room in rooms]

    def _down(self, reason: str) -> None:
        for task in self._back:
            task.cancel()
        self._note(ConnectionLost(reason))

    def _ended(self, error: HarmoniaError) -> None:
        self._note(ConnectionLost(str(error)))
        for stream in tuple(self._streams):
            stream.close(error)

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
            self._note(event)
            if self.store.state is before:
                return
        if lifecycle:
            self._heard.setdefault(lane, []).append(event)
        for stream in tuple(self._streams):
            stream.put(event)

    def _note(self, action: Action) -> None:
        try:
            self.store(action)
        except Exception:  # noqa: BLE001 - an observer is somebody else's code
            _log.exception("An observer of the store has failed.")

    def _had(self, lane: Lane) -> int:
        return self.store.state.cursor(Channel(*lane)).seq

    # From where we are

    async def _join(self, generation_id: str) -> say.JoinAck:
        after = self._had(("generation", generation_id))
        ack = await self._link.ask(say.JoinGeneration, say.JoinAck, generation_id=generation_id, after_seq=after)
        if ack.snapshot is not None and ack.snapshot.progress is not None:
            self._take(ack.snapshot.progress.data)
        return ack

    async def _subscribe(self, job_id: str) -> say.JobAck:
        return await self._link.ask(say.SubscribeJob, say.JobAck, job_id=job_id, after_seq=self._had(("job", job_id)))

    async def _watch(self, command: type[say.WireCommand]) -> say.JobsAck:
        """The first time, jobs that have ended are old news; after a cut, whatever has changed since is fetched."""
        ack = await self._link.ask(command, say.JobsAck)
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
            await self._link.ask(say.UnsubscribeJob, say.JobAck, job_id=lane[1])

    async def _fill_gap(self, lane: Lane) -> None:
        try:
            await self._catch_up(lane)
        except HarmoniaError as error:
            self._fetched.pop(lane, None)  # the next event tries again
            _log.debug("%s %s was not fetched: %s", *lane, error)

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
                await asyncio.sleep(self._retry_s)
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

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _stage_1_is_over(event: FamilyEvent) -> bool:
    return isinstance(event, MetadataGenerationComplete) or event.name == "audio-generation-started" or is_end(event)
