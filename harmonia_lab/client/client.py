"""The guide's WebSocketService: one server, one user, and each lifecycle event of what is joined, once and in order.

Owns the commands, the streams and the history of events. `joined.py` has what is joined, and joins it again after a
lost connection. Whether an event counts is decided by `client/store.py`: a duplicate changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import weakref
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Self

import aiohttp

from harmonia_lab.client.connection import ServerAddress
from harmonia_lab.client.joined import Joined
from harmonia_lab.client.reconnect import Backoff, ReconnectingConnection, Token
from harmonia_lab.client.store import ConnectionEstablished, ConnectionLost, Store
from harmonia_lab.client.streams import E, Stream, ends_metadata
from harmonia_lab.errors import Disconnected, ErrorCode, HarmoniaError, InvalidRequest, Refused
from harmonia_lab.protocol import commands
from harmonia_lab.protocol.events import (
    AudioGenerationProgress,
    Channel,
    Event,
    FamilyEvent,
    GenerationShared,
    JobEvent,
    MetadataGenerationProgress,
    ServerEvent,
    ServerHello,
    TokenExpiring,
)
from harmonia_lab.protocol.models import ShareRole, SongRequest

__all__ = ["Client"]

HELLO_S = 5.0
"""Seconds to wait for `server-hello` after the handshake."""


class Client:
    """For one event loop.

    >>> async with Client(server.url) as client:
    ...     await client.connect(token)
    ...     ack = await client.start("A lighthouse keeper's last night.", seconds=20)
    ...     async for event in client.events(ack.generation_id):
    ...         print(event.name)

    A command waits for a connection and for the server's acknowledgement, together at most `ack_timeout_s`. It raises
    Disconnected if there is none, or the HarmoniaError that the server answers, with its code.
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
        """url: the server's, as `server.url`. transports: "websocket", "polling". session: creates the HTTP session of
        each connection, for proxies and certificates."""
        backoff = backoff or Backoff()
        self.url = url
        self.store = Store()
        """The known state, also while disconnected. The client calls the store's observers in the event loop."""
        self.hello: ServerHello | None = None
        """The server's introduction: its protocol version and features, and the user of the token."""
        self._greeted = asyncio.Event()
        self._connection = ReconnectingConnection(
            ServerAddress(url, path, transports, session, connect_timeout_s),
            backoff,
            ack_timeout_s,
            on_event=self._on_event,
            on_connected=self._on_connected,
            on_lost=self._on_lost,
            on_given_up=self._on_given_up,
        )
        self._rejoining: list[asyncio.Task[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._joined = Joined(self._connection, self.store, self._apply, self._end_streams, backoff.delay_s)
        self._history: dict[Channel, list[FamilyEvent]] = {}
        """The lifecycle events so far, for streams that are opened later."""
        self._streams: weakref.WeakSet[Stream[Any]] = weakref.WeakSet()

    @property
    def connected(self) -> bool:
        return self.store.state.connected

    async def connect(self, token: Token) -> None:
        """Connect, and reconnect from then on; `hello` is known afterwards. Do nothing while it does so already.

        Raise Refused if the token is invalid, Disconnected if the server can't be reached.
        """
        self._greeted = asyncio.Event() if self.hello is None else self._greeted
        await self._connection.connect(token)
        with contextlib.suppress(TimeoutError):  # a server that says no hello can be used all the same
            await asyncio.wait_for(self._greeted.wait(), HELLO_S)

    async def disconnect(self) -> None:
        """Leave everything, end the streams and close the connection. Idempotent."""
        self._joined.clear()
        for stream in tuple(self._streams):
            stream.close()
        await self._connection.disconnect()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.connected:
            self.store(ConnectionLost("client disconnect"))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect()

    # Commands

    async def start(self, story: str | SongRequest, **options: Any) -> commands.StartAck:
        """Start a song and join its generation. options: fields of `SongRequest`, if `story` is a narrative."""
        unknown = options.keys() - SongRequest.model_fields.keys()
        if unknown:
            raise InvalidRequest(f"Unknown: {', '.join(sorted(unknown))}.", details={"fields": sorted(unknown)})
        fields = {"narrative": story} | options if isinstance(story, str) else story.to_wire()
        fields.setdefault("generationId", fields.pop("generation_id", None) or secrets.token_hex(6))
        generation_id = fields["generationId"]
        lost = False
        while True:
            try:
                ack = await self._connection.call(
                    commands.StartGeneration, commands.StartAck, idempotent=False, **fields
                )
            except (Disconnected, InvalidRequest) as error:
                lost = lost or isinstance(error, Disconnected)
                # Either the command or its acknowledgement may have been lost with the connection: joining tells which.
                # If the server received the first command late, the second is refused, because the id is in use.
                if lost and (await self.join(generation_id)).snapshot is not None:
                    ack = commands.StartAck(generation_id=generation_id, job_id=generation_id)
                elif isinstance(error, Disconnected):
                    continue
                else:
                    raise
            self._joined.add(Channel("generation", generation_id))
            return ack

    async def join(self, generation_id: str) -> commands.JoinAck:
        """Receive the events of a generation, from its first on."""
        ack = await self._joined.join(generation_id)
        self._joined.add(Channel("generation", generation_id))
        return ack

    async def leave(self, generation_id: str) -> commands.GenerationAck:
        """Receive no more events of a generation."""
        self._joined.discard(Channel("generation", generation_id))
        return await self._connection.call(
            commands.LeaveGeneration, commands.GenerationAck, generation_id=generation_id
        )

    async def cancel(self, generation_id: str) -> commands.GenerationAck:
        """Cancel a generation."""
        return await self._connection.call(
            commands.CancelGeneration, commands.GenerationAck, generation_id=generation_id
        )

    async def retry(self, generation_id: str) -> commands.GenerationAck:
        """Try a failed generation again. After Disconnected, look at its state before you call this again: the server
        may have received the command."""
        return await self._connection.call(
            commands.RetryGeneration, commands.GenerationAck, idempotent=False, generation_id=generation_id
        )

    async def share(self, generation_id: str, user: str, role: ShareRole = "viewer") -> commands.ShareAck:
        """Let `user` join, hear and download a generation of one's own; as "controller", cancel and retry it too."""
        return await self._connection.call(
            commands.ShareGeneration, commands.ShareAck, generation_id=generation_id, user_id=user, role=role
        )

    async def unshare(self, generation_id: str, user: str) -> commands.ShareAck:
        """Take a generation back from `user`, at once."""
        return await self._connection.call(
            commands.UnshareGeneration, commands.ShareAck, generation_id=generation_id, user_id=user
        )

    async def subscribe_to_job(self, job_id: str) -> commands.JobAck:
        """Receive the events of a job, from its first on."""
        ack = await self._joined.subscribe(job_id)
        self._joined.add(Channel("job", job_id))
        return ack

    async def unsubscribe_from_job(self, job_id: str) -> commands.JobAck:
        """Receive no more events of a job, unless they come with the user's or all jobs."""
        self._joined.discard(Channel("job", job_id))
        return await self._connection.call(commands.UnsubscribeJob, commands.JobAck, job_id=job_id)

    async def subscribe_to_user_jobs(self) -> commands.JobsAck:
        """Receive the events of all jobs of the user, from now on."""
        return await self._joined.subscribe_to_list(commands.SubscribeUserJobs)

    async def unsubscribe_from_user_jobs(self) -> commands.JobsAck:
        """Receive no more events of the user's jobs, but for those subscribed to one by one."""
        self._joined.discard(commands.SubscribeUserJobs)
        return await self._connection.call(commands.UnsubscribeUserJobs, commands.JobsAck)

    async def subscribe_to_admin_jobs(self) -> commands.JobsAck:
        """Receive the events of all users' jobs, from now on. For the role "admin"."""
        return await self._joined.subscribe_to_list(commands.SubscribeAdminJobs)

    async def unsubscribe_from_admin_jobs(self) -> commands.JobsAck:
        """Receive no more events of all users' jobs."""
        self._joined.discard(commands.SubscribeAdminJobs)
        return await self._connection.call(commands.UnsubscribeAdminJobs, commands.JobsAck)

    # Streams

    def events(self, generation_id: str | None = None) -> Stream[Event]:
        """The events of a joined generation to its end, beginning with the lifecycle events so far.

        None: those of all joined generations, from now on and without an end. The other streams do the same.
        """
        return self._open(Stream(Event, "generation", generation_id))

    def metadata_progress(self, generation_id: str | None = None) -> Stream[MetadataGenerationProgress]:
        """The progress of stage 1, to its end. A slow reader gets the latest."""
        return self._open(Stream(MetadataGenerationProgress, "generation", generation_id, is_last=ends_metadata))

    def audio_progress(self, generation_id: str | None = None) -> Stream[AudioGenerationProgress]:
        """The progress of stage 2, to the end of the generation. A slow reader gets the latest."""
        return self._open(Stream(AudioGenerationProgress, "generation", generation_id))

    def job_events(self, job_id: str | None = None) -> Stream[JobEvent]:
        """As `events`, of subscribed jobs."""
        return self._open(Stream(JobEvent, "job", job_id))

    def everything(self) -> Stream[FamilyEvent]:
        """Every event of what is joined and subscribed to, of both families in the order of arrival, from now on and
        without an end."""
        return self._open(Stream[FamilyEvent]((Event, JobEvent), None))

    def _open(self, stream: Stream[E]) -> Stream[E]:
        if stream.family is not None and stream.generation_id is not None:
            for event in self._history.get(Channel(stream.family, stream.generation_id), ()):
                stream.put(event)
        self._streams.add(stream)
        if self._connection.error is not None:
            stream.close(self._connection.error)
        return stream

    # Callbacks of the connection

    def _on_event(self, event: ServerEvent) -> None:
        if isinstance(event, ServerHello):
            self.hello = event
            self._greeted.set()
        elif isinstance(event, TokenExpiring):
            self._spawn(self._connection.refresh_token())
        elif isinstance(event, GenerationShared):
            self._learn_sharing(event)
        else:
            self._apply(event)

    def _learn_sharing(self, event: GenerationShared) -> None:
        """Store who may use a generation. If it was taken back, leave it and end its streams."""
        self.store(event)
        if event.access is None:
            gone = Refused(f"Generation {event.generation_id} is no longer shared with you.", code=ErrorCode.NOT_FOUND)
            self._joined.drop(Channel("job", event.generation_id), gone)
            self._joined.drop(Channel("generation", event.generation_id), gone)

    def _on_connected(self) -> None:
        self.store(ConnectionEstablished())
        self._rejoining = [self._spawn(work) for work in self._joined.again()]

    def _on_lost(self, reason: str) -> None:
        for task in self._rejoining:
            task.cancel()
        self.store(ConnectionLost(reason))

    def _on_given_up(self, error: HarmoniaError) -> None:
        self.store(ConnectionLost(str(error)))
        for stream in tuple(self._streams):
            stream.close(error)

    def _apply(self, event: FamilyEvent) -> None:
        """Bring `event` to the store and the streams, or request the missing events before it."""
        channel, lifecycle = event.channel, event.delivery == "lifecycle"
        known = self.store.state.cursor(channel).seq
        # A lifecycle event takes the next number; other events carry the number of the lifecycle event before them.
        if event.seq > known + lifecycle:
            if self._joined.should_request(channel, known):
                self._spawn(self._joined.fill_gap(channel))
            return
        if event.delivery != "preview":
            before = self.store.state
            self.store(event)
            if self.store.state is before:
                return
        if lifecycle:
            self._history.setdefault(channel, []).append(event)
        for stream in tuple(self._streams):
            stream.put(event)

    def _end_streams(self, channel: Channel, error: HarmoniaError) -> None:
        for stream in tuple(self._streams):
            if (stream.family, stream.generation_id) == channel:
                stream.close(error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
