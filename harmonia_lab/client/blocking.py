"""`Client` for programs without an event loop.

Owns a thread with a loop in it, and the crossing into it. What can be asked is `Client`'s; nothing is said twice here.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import CancelledError, wait
from types import TracebackType
from typing import Any, Self, TypeVar

from harmonia_lab.client.client import Client
from harmonia_lab.client.reconnect import Token
from harmonia_lab.client.streams import Stream
from harmonia_lab.errors import Disconnected

__all__ = ["BlockingClient"]

POLL_S = 1.0
"""How often whoever waits for the loop looks whether it still runs."""

T = TypeVar("T")


class BlockingClient:
    """Every method of `Client`, waited for; streams are plain iterators. Any thread may call it.

    >>> with BlockingClient(server.url) as client:
    ...     client.connect(token)
    ...     ack = client.start("A lighthouse keeper's last night.", seconds=20)
    ...     for event in client.events(ack.generation_id):
    ...         print(event.name)

    The thread lives from `connect` to `disconnect`. Observers of `store`, and a callable token, run in it.
    """

    def __init__(self, url: str, **options: Any) -> None:
        """As `Client`."""
        self._client = Client(url, **options)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._turn = threading.Lock()

    def connect(self, token: Token) -> None:
        """As `Client.connect`."""
        with self._turn:
            if self._thread is None:
                ready = threading.Event()
                self._thread = threading.Thread(
                    target=asyncio.run, args=(self._live(ready),), name="harmonia-client", daemon=True
                )
                self._thread.start()
                ready.wait()
        try:
            self._wait(self._client.connect(token))
        except BaseException:
            self.disconnect()
            raise

    def disconnect(self) -> None:
        """As `Client.disconnect`; the thread ends."""
        with self._turn:
            loop, self._loop = self._loop, None
            if self._thread is not None and loop is not None:
                loop.call_soon_threadsafe(self._stop.set)
                self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if name.startswith("_") or not inspect.ismethod(found):
            return found

        @functools.wraps(found)
        def call(*args: Any, **options: Any) -> Any:
            answer = self._wait(_called(found, args, options))
            return self._each(answer) if isinstance(answer, Stream) else answer

        return call

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self._client)})

    def _each(self, stream: Stream[Any]) -> Iterator[Any]:
        while True:
            try:
                yield self._wait(stream.__anext__())
            except StopAsyncIteration:
                return
            except Disconnected:
                if self._loop is None:  # here, by `disconnect`
                    return
                raise

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """An interrupt gets through, and ends the work."""
        loop = self._loop
        if loop is None or loop.is_closed():
            work.close()
            raise Disconnected("There is no connection.", hint="Call connect first.")
        try:
            outcome = asyncio.run_coroutine_threadsafe(work, loop)
        except RuntimeError:  # it has been closed since
            work.close()
            raise _ended() from None
        try:
            while not wait([outcome], POLL_S).done:
                if loop.is_closed() and outcome.cancel():  # it ended before it came to this
                    work.close()
                    break
            return outcome.result()
        except CancelledError:
            raise _ended() from None
        except BaseException:
            outcome.cancel()
            raise

    async def _live(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await self._stop.wait()
        await self._client.disconnect()


def _ended() -> Disconnected:
    return Disconnected("The client was disconnected.")


async def _called(method: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    answer = method(*args, **options)
    return await answer if inspect.isawaitable(answer) else answer
