"""Staying connected: one connection after the other, so that who asks need not know.

Owns the waits between attempts, tokens and their renewal, and asking again what a cut has swallowed. What is joined
again on a new connection is `client.py`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp

from harmonia_lab.client.connection import Connection, fail
from harmonia_lab.errors import Disconnected, HarmoniaError, Refused
from harmonia_lab.protocol.codec import decode
from harmonia_lab.protocol.commands import Ack, RefreshAck, RefreshToken, WireCommand
from harmonia_lab.protocol.events import ServerEvent

__all__ = ["Backoff", "Link", "Token"]

Token = str | Callable[[], str | Awaitable[str]]
"""A token, or what gets one: called for each connection, and before a token ends. It must not block the event loop."""

A = TypeVar("A", bound=Ack)


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


class Link:
    """In one event loop."""

    def __init__(
        self,
        url: str,
        *,
        heard: Callable[[ServerEvent], None],
        up: Callable[[], None],
        down: Callable[[str], None],
        ended: Callable[[HarmoniaError], None],
        path: str,
        transports: Sequence[str],
        ack_timeout_s: float,
        connect_timeout_s: float,
        backoff: Backoff,
        session: Callable[[], aiohttp.ClientSession],
    ) -> None:
        """heard: told each event, in order. up: told of each connection. down: that one was lost, and why; another is
        on its way. ended: why there will be no other. None of them may wait or raise."""
        self._url = url
        self._heard, self._up, self._down, self._ended = heard, up, down, ended
        self._path, self._transports = path, transports
        self._ack_timeout_s, self._connect_timeout_s = ack_timeout_s, connect_timeout_s
        self._backoff, self._new_session = backoff, session
        self._token: Token = ""
        self._turn = asyncio.Lock()
        self._connection: asyncio.Future[Connection] | None = None
        """Pending while it is being restored; with the error once it was given up; None before `connect`."""
        self._keeper: asyncio.Task[None] | None = None
        self._farewells: set[asyncio.Task[None]] = set()

    @property
    def error(self) -> HarmoniaError | None:
        """Why there is no connection and none will come."""
        if self._connection is None:
            return _not_connected()
        error = self._connection.exception() if self._connection.done() else None
        assert error is None or isinstance(error, HarmoniaError)
        return error

    async def connect(self, token: Token) -> None:
        """Does nothing where it is connected, or about to be again. Raises Refused, Disconnected."""
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
        async with self._turn:
            if self._keeper is None or self._connection is None:
                return
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            connection, self._connection, self._keeper = self._connection, None, None
            if not connection.done():
                fail(connection, Disconnected("The client was disconnected."))
            elif connection.exception() is None:
                await connection.result().close()
            await asyncio.gather(*self._farewells, return_exceptions=True)
            await self._session.close()

    async def ask(self, model: type[WireCommand], ack: type[A], *, again: bool = True, **payload: Any) -> A:
        """again: whether it can be asked again where a cut took the answer."""
        command = decode(model.name, *([payload] if payload else []))
        try:
            async with asyncio.timeout(self._ack_timeout_s):
                while True:
                    if self._connection is None:
                        raise _not_connected()
                    connection = await asyncio.shield(self._connection)
                    try:
                        return await connection.ask(command, ack)
                    except Disconnected:
                        if not again:
                            raise
        except TimeoutError:
            message = f"{model.name} had no answer within {self._ack_timeout_s:g} s."
            raise Disconnected(message, hint="Ask again.") from None

    async def refresh(self) -> None:
        """Where it fails, the server ends the connection, and the next one gets a fresh token."""
        if not isinstance(self._token, str):
            with contextlib.suppress(HarmoniaError):
                await self.ask(RefreshToken, RefreshAck, token=await self._fresh_token())

    async def _keep(self, connection: Connection) -> None:
        try:
            while True:
                await connection.over.wait()
                farewell = asyncio.create_task(connection.close())  # not waited for: the peer may not answer
                self._farewells.add(farewell)
                farewell.add_done_callback(self._farewells.discard)
                connection = await self._reconnect()
        except HarmoniaError as error:
            await asyncio.gather(*self._farewells, return_exceptions=True)
            await self._session.close()  # first: who hears of the end may connect again at once
            assert self._connection is not None
            fail(self._connection, error)
            self._ended(error)

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
        connection = Connection(self._heard, self._lost)
        await connection.open(
            self._url,
            await self._fresh_token(),
            session=self._session,
            path=self._path,
            transports=self._transports,
            within=self._connect_timeout_s,
        )
        assert self._connection is not None
        self._connection.set_result(connection)
        self._up()
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
            raise Disconnected(f"No token could be had: {error}", hint="Is the user still logged in?") from error

    def _lost(self, connection: Connection, reason: str) -> None:
        """Called before whoever waits for an answer on `connection` hears of its end."""
        now = self._connection
        if now is None or not now.done() or now.exception() is not None or now.result() is not connection:
            return
        self._connection = asyncio.get_running_loop().create_future()
        self._down(reason)


def _not_connected() -> Disconnected:
    return Disconnected("There is no connection.", hint="Call connect first.")
