"""One connection to a server, from its handshake to its end. It is never used again.

Owns what Socket.IO means here: a refused handshake, commands and their answers, events decoded. Coming back after the
end is `client.py`'s.

python-socketio would reconnect by itself, but not after a server closed the connection (the end of a token), not with
a word about it to who waits for an answer, and not where the cut falls into the handshake.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import aiohttp
import socketio
from pydantic import ValidationError
from socketio.exceptions import SocketIOError

from harmonia_lab.errors import Disconnected, HarmoniaError, InvalidRequest, error_of
from harmonia_lab.protocol.codec import decode_event
from harmonia_lab.protocol.commands import Ack, ErrorAck, WireCommand
from harmonia_lab.protocol.events import ErrorInfo, ServerEvent

__all__ = ["Connection", "fail"]

TLS_CLOSE_S = 0.25
CLOSE_S = 2.0
"""For saying goodbye; a server that has gone does not answer."""

A = TypeVar("A", bound=Ack)
_log = logging.getLogger(__name__)


class Connection:
    """over: set at its end, whoever ended it."""

    def __init__(self, hear: Callable[[ServerEvent], None], lost: Callable[[Connection, str], None]) -> None:
        """hear: called with each event, in order. lost: called once at the end, with the reason."""
        self.over = asyncio.Event()
        self._hear, self._lost = hear, lost
        self._reason = "transport error"
        self._answers: set[asyncio.Future[object]] = set()
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._under_tls: socket.socket | None = None

    async def open(
        self,
        url: str,
        token: str,
        *,
        session: aiohttp.ClientSession,
        path: str,
        transports: Sequence[str],
        within: float,
    ) -> None:
        """within: seconds. Raises what the server says (Refused, for a bad token), or Disconnected."""
        self._io = io = socketio.AsyncClient(
            reconnection=False,
            handle_sigint=False,
            http_session=session,
            websocket_extra_options={"timeout": aiohttp.ClientWSTimeout(ws_close=CLOSE_S / 2)},
        )
        # Plain functions: python-socketio starts a task for each message, and only what never waits stays in order.
        io.on("*", self._heard)
        io.on("connect", self._welcomed)
        io.on("connect_error", self._refused)
        io.on("disconnect", self._leaving)
        self._entered = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(within):
                # python-socketio's own wait would not notice a cut in the handshake.
                await io.connect(
                    url, auth={"token": token}, transports=list(transports), socketio_path=path, wait=False
                )
                self._socket = io.eio.ws
                if self._socket is not None and self._socket.get_extra_info("ssl_object") is not None:
                    self._under_tls = self._socket.get_extra_info("socket")
                io.eio.read_loop_task.add_done_callback(self._ended)
                await self._entered
        except BaseException as error:
            await self.close()
            if isinstance(error, HarmoniaError) or not isinstance(error, Exception):
                raise
            why = f"no answer within {within:g} s" if isinstance(error, TimeoutError) else str(error)
            raise Disconnected(f"{url} cannot be reached: {why}.", hint="Is the server running?") from error

    async def ask(self, command: WireCommand, ack: type[A]) -> A:
        """Raises Disconnected where the connection ends before the answer, and whatever the server answers."""
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()

        def answered(*reply: object) -> None:
            if not answer.done():
                answer.set_result(reply[0] if reply else None)

        self._answers.add(answer)
        try:
            payload = command.to_wire() if command.payload else None
            try:
                if self.over.is_set():
                    raise _gone()
                await self._io.emit(command.name, payload, callback=answered)
            except SocketIOError:
                await self.over.wait()
                raise _gone() from None
            return _read(command, ack, await answer)
        finally:
            self._answers.discard(answer)

    async def close(self) -> None:
        """Also for one that has ended: python-engineio leaves its socket open where the server was silent for long."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_S):
                await self._io.disconnect()
        loops = [task for task in (self._io.eio.read_loop_task, self._io.eio.write_loop_task) if task is not None]
        for task in loops:
            task.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        if self._socket is not None:
            with contextlib.suppress(Exception):
                await self._socket.close()
            await self._end_of_tls()

    async def _end_of_tls(self) -> None:
        """TLS says goodbye, which aiohttp does not wait for; it takes some turns of a loop that may be about to end."""
        if self._under_tls is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TLS_CLOSE_S):
                while self._under_tls.fileno() >= 0:  # noqa: ASYNC110 - a socket that is closed tells nobody
                    await asyncio.sleep(0.001)

    def _heard(self, name: str, payload: object = None, *_: object) -> None:
        try:
            event = decode_event(name, payload)
        except InvalidRequest as error:
            _log.debug("Not understood, and left alone: %s", error)
            return
        self._hear(event)

    def _welcomed(self) -> None:
        if not self._entered.done():
            self._entered.set_result(None)

    def _refused(self, reason: object = None) -> None:
        info = reason.get("data") if isinstance(reason, dict) else None
        with contextlib.suppress(ValidationError):  # not the server's word, but the transport's: `connect` raises that
            fail(self._entered, _error(ErrorInfo.model_validate(info)))

    def _leaving(self, reason: str) -> None:
        self._reason = reason

    def _ended(self, _: object) -> None:
        self.over.set()
        self._lost(self, self._reason)
        for waiting in (self._entered, *self._answers):
            fail(waiting, _gone())


def fail(waiting: asyncio.Future[Any], error: HarmoniaError) -> None:
    if not waiting.done():
        waiting.set_exception(error)
        waiting.exception()  # perhaps nobody waits: that is no mistake


def _gone() -> Disconnected:
    return Disconnected("The connection ended before the answer.", hint="Ask again.")


def _read(command: WireCommand, ack: type[A], reply: object) -> A:
    given = cast("dict[str, Any]", reply) if isinstance(reply, dict) else {}
    try:
        if given.get("ok") is True:
            return ack.model_validate(given)
        failure = ErrorAck.model_validate(given)
    except ValidationError:
        raise HarmoniaError(f"{command.name} got an answer that is none.", hint="Is it a Harmonia server?") from None
    raise _error(failure.error)


def _error(info: ErrorInfo) -> HarmoniaError:
    return error_of(info.code, info.message, details=info.details)
