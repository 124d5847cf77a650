"""`Client` for programs without an event loop.

Owns the thread that runs the event loop, and waiting for results from other threads. Not what the commands and streams
do: that is `client/client.py`'s.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, wait
from types import TracebackType
from typing import Any, Self, TypeVar

from harmonia_lab.client.client import Client
from harmonia_lab.client.reconnect import Token
from harmonia_lab.client.store import Store
from harmonia_lab.client.streams import Stream
from harmonia_lab.errors import Disconnected
from harmonia_lab.protocol import commands
from harmonia_lab.protocol.events import (
    AudioGenerationProgress,
    Event,
    FamilyEvent,
    JobEvent,
    MetadataGenerationProgress,
    ServerHello,
)
from harmonia_lab.protocol.models import ShareRole, SongRequest

__all__ = ["BlockingClient"]

POLL_S = 1.0
"""How often a waiting thread checks whether the event loop still runs."""

E = TypeVar("E", bound=FamilyEvent)
T = TypeVar("T")


class BlockingClient:
    """The methods of `Client`, which wait for their result; streams are iterators. Any thread may call them.

    >>> with BlockingClient(server.url) as client:
    ...     client.connect(token)
    ...     ack = client.start("A lighthouse keeper's last night.", seconds=20)
    ...     for event in client.events(ack.generation_id):
    ...         print(event.name)

    The event loop's thread lives from `connect` to `disconnect`. Observers of `store` and the token function run in it.
    """

    def __init__(self, url: str, **options: Any) -> None:
        """As `Client`."""
        self._client = Client(url, **options)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return self._client.url

    @property
    def store(self) -> Store:
        """As `Client.store`."""
        return self._client.store

    @property
    def hello(self) -> ServerHello | None:
        """As `Client.hello`."""
        return self._client.hello

    @property
    def connected(self) -> bool:
        return self._client.connected

    def connect(self, token: Token) -> None:
        """As `Client.connect`."""
        try:
            with self._lock:
                if self._thread is None:
                    self._start()
            self._wait(self._client.connect(token))
        except BaseException:
            self.disconnect()
            raise

    def disconnect(self) -> None:
        """As `Client.disconnect`; the thread ends."""
        with self._lock:
            # In this order, a call after an interrupt completes what the interrupted call has left undone.
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._stop.set)
                self._loop = None
            if self._thread is not None:
                self._thread.join()
                self._thread = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()

    # Commands

    def start(self, story: str | SongRequest, **options: Any) -> commands.StartAck:
        """As `Client.start`."""
        return self._wait(self._client.start(story, **options))

    def join(self, generation_id: str) -> commands.JoinAck:
        """As `Client.join`."""
        return self._wait(self._client.join(generation_id))

    def leave(self, generation_id: str) -> commands.GenerationAck:
        """As `Client.leave`."""
        return self._wait(self._client.leave(generation_id))

    def cancel(self, generation_id: str) -> commands.GenerationAck:
        """As `Client.cancel`."""
        return self._wait(self._client.cancel(generation_id))

    def retry(self, generation_id: str) -> commands.GenerationAck:
        """As `Client.retry`."""
        return self._wait(self._client.retry(generation_id))

    def share(self, generation_id: str, user: str, role: ShareRole = "viewer") -> commands.ShareAck:
        """As `Client.share`."""
        return self._wait(self._client.share(generation_id, user, role))

    def unshare(self, generation_id: str, user: str) -> commands.ShareAck:
        """As `Client.unshare`."""
        return self._wait(self._client.unshare(generation_id, user))

    def subscribe_to_job(self, job_id: str) -> commands.JobAck:
        """As `Client.subscribe_to_job`."""
        return self._wait(self._client.subscribe_to_job(job_id))

    def unsubscribe_from_job(self, job_id: str) -> commands.JobAck:
        """As `Client.unsubscribe_from_job`."""
        return self._wait(self._client.unsubscribe_from_job(job_id))

    def subscribe_to_user_jobs(self) -> commands.JobsAck:
        """As `Client.subscribe_to_user_jobs`."""
        return self._wait(self._client.subscribe_to_user_jobs())

    def unsubscribe_from_user_jobs(self) -> commands.JobsAck:
        """As `Client.unsubscribe_from_user_jobs`."""
        return self._wait(self._client.unsubscribe_from_user_jobs())

    def subscribe_to_admin_jobs(self) -> commands.JobsAck:
        """As `Client.subscribe_to_admin_jobs`."""
        return self._wait(self._client.subscribe_to_admin_jobs())

    def unsubscribe_from_admin_jobs(self) -> commands.JobsAck:
        """As `Client.unsubscribe_from_admin_jobs`."""
        return self._wait(self._client.unsubscribe_from_admin_jobs())

    # Streams

    def events(self, generation_id: str | None = None) -> Iterator[Event]:
        """As `Client.events`."""
        return self._iterate(lambda: self._client.events(generation_id))

    def metadata_progress(self, generation_id: str | None = None) -> Iterator[MetadataGenerationProgress]:
        """As `Client.metadata_progress`."""
        return self._iterate(lambda: self._client.metadata_progress(generation_id))

    def audio_progress(self, generation_id: str | None = None) -> Iterator[AudioGenerationProgress]:
        """As `Client.audio_progress`."""
        return self._iterate(lambda: self._client.audio_progress(generation_id))

    def job_events(self, job_id: str | None = None) -> Iterator[JobEvent]:
        """As `Client.job_events`."""
        return self._iterate(lambda: self._client.job_events(job_id))

    def everything(self) -> Iterator[FamilyEvent]:
        """As `Client.everything`."""
        return self._iterate(self._client.everything)

    # The event loop in its thread

    def _start(self) -> None:
        loop, stop = asyncio.new_event_loop(), asyncio.Event()

        async def run() -> None:
            await stop.wait()
            await self._client.disconnect()

        def work() -> None:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(run())

        self._loop, self._stop = loop, stop
        thread = threading.Thread(target=work, name="harmonia-client", daemon=True)
        thread.start()
        self._thread = thread  # not before it runs: an interrupt may come at any time, and `disconnect` joins it

    def _iterate(self, open_stream: Callable[[], Stream[E]]) -> Iterator[E]:
        async def opened() -> Stream[E]:
            return open_stream()

        return self._events(self._wait(opened()))  # opened now: a generator would wait for its first event

    def _events(self, stream: Stream[E]) -> Iterator[E]:
        while True:
            try:
                yield self._wait(stream.__anext__())
            except StopAsyncIteration:
                return
            except Disconnected:
                if self._loop is None:  # `disconnect` was called
                    return
                raise

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`, run in the event loop. An interrupt (KeyboardInterrupt) cancels it."""
        loop = self._loop
        if loop is None or loop.is_closed():
            work.close()
            raise Disconnected("There is no connection.", hint="Call connect first.")
        try:
            outcome = asyncio.run_coroutine_threadsafe(work, loop)
        except RuntimeError:  # the loop was closed since the check
            work.close()
            raise _disconnected() from None
        try:
            while not wait([outcome], POLL_S).done:
                if loop.is_closed() and outcome.cancel():  # the loop ended before it started the work
                    work.close()
                    break
            return outcome.result()
        except CancelledError:
            raise _disconnected() from None
        except BaseException:
            outcome.cancel()
            raise


def _disconnected() -> Disconnected:
    return Disconnected("The client was disconnected.")
