"""A connection that is restored whenever it is lost.

Owns the waits between attempts, the token and its renewal, and sending a command again after a lost connection. Not
what is joined again on a new connection: that is `client/client.py`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from harmonia_lab.client.connection import Connection, ServerAddress, fail_future
from harmonia_lab.errors import Disconnected, HarmoniaError, Refused
from harmonia_lab.protocol.codec import decode
from harmonia_lab.protocol.commands import Ack, RefreshAck, RefreshToken, WireCommand
from harmonia_lab.protocol.events import ServerEvent

__all__ = ["Backoff", "ReconnectingConnection", "Token"]

Token = str | Callable[[], str | Awaitable[str]]
"""A token, or a function that returns one. The client calls the function for each connection and before a token
expires. The function must not block the event loop."""

A = TypeVar("A", bound=Ack)


@dataclass(frozen=True)
class Backoff:
    """The guide's waits between attempts. delay_s: the first; each is twice the one before, up to max_s. factor: the
    random part of each wait (0 to 1), so that clients don't all return at once. attempts: None never gives up."""

    delay_s: float = 1.0
    max_s: float = 5.0
    factor: float = 0.5
    attempts: int | None = None

    def waits(self) -> Iterator[float]:
        """Seconds to wait before each attempt."""
        for attempt in itertools.count() if self.attempts is None else range(self.attempts):
            wait_s = self.delay_s * 2.0 ** min(attempt, 32)
            yield min(self.max_s, wait_s * random.uniform(1 - self.factor, 1 + self.factor))  # noqa: S311 - no secret


class ReconnectingConnection:
    """For one event loop from `connect` to `disconnect`."""

    def __init__(
        self,
        address: ServerAddress,
        backoff: Backoff,
        ack_timeout_s: float,
        *,
        on_event: Callable[[ServerEvent], None],
        on_connected: Callable[[], None],
        on_lost: Callable[[str], None],
        on_given_up: Callable[[HarmoniaError], None],
    ) -> None:
        """on_event: called with each event, in order. on_connected: called for each new connection. on_lost: called
        with the reason when a connection is lost and will be restored. on_given_up: called with the error when it won't
        be. None of them may block or raise."""
        self._address, self._backoff, self._ack_timeout_s = address, backoff, ack_timeout_s
        self._on_event, self._on_connected = on_event, on_connected
        self._on_lost, self._on_given_up = on_lost, on_given_up
        self._token: Token = ""
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
        self._connection: asyncio.Future[Connection] | None = None
        """None before `connect`, pending while the connection is being restored, failed once that was given up."""
        self._maintenance: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def error(self) -> HarmoniaError | None:
        """Why there is no connection and none will come; None if there is one or it is being restored."""
        if self._connection is None:
            return _not_connected()
        error = self._connection.exception() if self._connection.done() else None
        assert error is None or isinstance(error, HarmoniaError)
        return error

    @property
    def _lock(self) -> asyncio.Lock:
        """The lock of the running event loop: a `BlockingClient` that connects again does it in another loop."""
        return self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())

    async def connect(self, token: Token) -> None:
        """Connect, unless a connection exists or is being restored. Raise Refused or Disconnected."""
        async with self._lock:
            if self._maintenance is not None and not self._maintenance.done():
                return
            self._token = token
            self._connection = asyncio.get_running_loop().create_future()
            try:
                connection = await self._open()
            except BaseException:
                self._connection = None
                raise
            self._maintenance = asyncio.create_task(self._maintain(connection))

    async def disconnect(self) -> None:
        """Close the connection. A cancel meanwhile is raised once that is done: or else a socket would stay open."""
        ending = asyncio.create_task(self._disconnect())
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            await asyncio.wait({ending})
            raise

    async def _disconnect(self) -> None:
        async with self._lock:
            if self._maintenance is None or self._connection is None:
                return
            # First: a connection that is lost from here on is closed below, and not replaced.
            connection, self._connection = self._connection, None
            self._maintenance.cancel()
            await asyncio.gather(self._maintenance, return_exceptions=True)
            self._maintenance = None
            if not connection.done():
                fail_future(connection, Disconnected("The client was disconnected."))
            elif connection.exception() is None:
                await connection.result().close()
            await asyncio.gather(*self._closing, return_exceptions=True)

    async def call(self, model: type[WireCommand], ack: type[A], *, idempotent: bool = True, **payload: Any) -> A:
        """Send a command and return its acknowledgement. idempotent: whether the command may be sent again if the
        connection was lost before the acknowledgement."""
        command = decode(model.name, *([payload] if payload else []))
        try:
            async with asyncio.timeout(self._ack_timeout_s):
                while True:
                    if self._connection is None:
                        raise _not_connected()
                    connection = await asyncio.shield(self._connection)
                    try:
                        return await connection.call(command, ack)
                    except Disconnected:
                        if not idempotent:
                            raise
        except TimeoutError:
            message = f"{model.name} had no answer within {self._ack_timeout_s:g} s."
            raise Disconnected(message, hint="Ask again.") from None

    async def refresh_token(self) -> None:
        """Send a fresh token. If that fails, the server closes the connection, and the next one gets a fresh token."""
        if not isinstance(self._token, str):
            with contextlib.suppress(HarmoniaError):
                await self.call(RefreshToken, RefreshAck, token=await self._fresh_token())

    async def _maintain(self, connection: Connection) -> None:
        try:
            while True:
                try:
                    await connection.closed.wait()
                finally:  # also if `disconnect` cancels this task before it has noticed the end
                    if connection.closed.is_set():
                        self._close(connection)
                connection = await self._reconnect()
        except HarmoniaError as error:
            await asyncio.gather(*self._closing, return_exceptions=True)
            assert self._connection is not None
            fail_future(self._connection, error)
            self._on_given_up(error)

    def _close(self, connection: Connection) -> None:
        """In a task of its own: a peer that doesn't answer must not delay the next connection."""
        task = asyncio.create_task(connection.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

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
            return await self._open_once()
        except Refused:
            if isinstance(self._token, str):
                raise
            return await self._open_once()  # with a fresh token

    async def _open_once(self) -> Connection:
        token = await self._fresh_token()
        connection = Connection(self._on_event, self._on_closed)
        await connection.open(self._address, token)
        assert self._connection is not None
        self._connection.set_result(connection)
        self._on_connected()
        return connection

    async def _fresh_token(self) -> str:
        if isinstance(self._token, str):
            return self._token
        try:
            token = self._token()
            return await token if inspect.isawaitable(token) else token
        except HarmoniaError:
            raise
        except Exception as error:
            raise Disconnected(f"The token function failed: {error}", hint="Is the user still logged in?") from error

    def _on_closed(self, connection: Connection, reason: str) -> None:
        """Called before the commands that wait for an answer on `connection` fail, so that they wait for the next."""
        now = self._connection
        if now is None or not now.done() or now.exception() is not None or now.result() is not connection:
            return
        self._connection = asyncio.get_running_loop().create_future()
        self._on_lost(reason)


def _not_connected() -> Disconnected:
    return Disconnected("There is no connection.", hint="Call connect first.")
