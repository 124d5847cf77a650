"""One Socket.IO connection to a server, from its handshake to its end. A connection is never reused.

Owns the connection's HTTP session, the handshake, commands and their acknowledgements, and the decoding of events. Not
reconnecting, which `client/reconnect.py` does.

python-socketio's own reconnection isn't used: it does not reconnect after the server has closed the connection (as it
does when a token expires), it doesn't fail the commands that wait for an acknowledgement, and it does not notice a
connection that is cut during the handshake.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import aiohttp
import socketio
from pydantic import ValidationError
from socketio.exceptions import SocketIOError

from harmonia_lab.errors import Disconnected, HarmoniaError, InvalidRequest, error_of
from harmonia_lab.protocol.commands import Ack, ErrorAck, WireCommand
from harmonia_lab.protocol.event_codec import decode_event
from harmonia_lab.protocol.events import ErrorInfo, ServerEvent

__all__ = ["Connection", "ServerAddress", "close_socket", "fail_future"]

CLOSE_S = 2.0
"""For the closing handshake: a server that hangs does not answer."""
SOCKET_CLOSE_S = 2.0
"""For the transport to close its socket after the closing handshake: some turns of the loop, on a busy machine too."""

A = TypeVar("A", bound=Ack)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerAddress:
    """Where and how to connect. path: Socket.IO's. transports: "websocket", "polling". session: creates an HTTP
    session, one for each connection. timeout_s: for the handshake."""

    url: str
    path: str
    transports: Sequence[str]
    session: Callable[[], aiohttp.ClientSession]
    timeout_s: float


class Connection:
    """closed: is set when the connection has ended, whichever side ended it."""

    def __init__(self, on_event: Callable[[ServerEvent], None], on_closed: Callable[[Connection, str], None]) -> None:
        """on_event: called with each event, in order. on_closed: called once at the end, with the reason."""
        self.closed = asyncio.Event()
        self._on_event, self._on_closed = on_event, on_closed
        self._reason = "transport error"
        self._acks: set[asyncio.Future[Any]] = set()
        self._handshake: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._websocket: aiohttp.ClientWebSocketResponse | None = None
        self._socket: socket.socket | None = None

    async def open(self, address: ServerAddress, token: str) -> None:
        """Connect and authenticate. Raise the server's error (Refused for an invalid token), or Disconnected."""
        self._session = address.session()
        self._io = io = socketio.AsyncClient(
            reconnection=False,
            handle_sigint=False,
            http_session=self._session,
            websocket_extra_options={"timeout": aiohttp.ClientWSTimeout(ws_close=CLOSE_S / 2)},
        )
        # Plain functions, because python-socketio starts a task for each message: a handler that awaits could overtake.
        io.on("*", self._receive)
        io.on("connect", self._accepted)
        io.on("connect_error", self._rejected)
        io.on("disconnect", self._disconnected)
        # wait=False: python-socketio's own wait does not notice that the connection is cut during the handshake.
        self._opening = asyncio.create_task(
            io.connect(
                address.url,
                auth={"token": token},
                transports=list(address.transports),
                socketio_path=address.path,
                wait=False,
            )
        )
        try:
            async with asyncio.timeout(address.timeout_s):
                await asyncio.shield(self._opening)
                self._websocket = io.eio.ws
                if self._websocket is not None:
                    self._socket = self._websocket.get_extra_info("socket")
                io.eio.read_loop_task.add_done_callback(self._ended)
                await self._handshake
        except BaseException as error:
            await self.close()
            if isinstance(error, HarmoniaError) or not isinstance(error, Exception):
                raise
            why = f"no answer within {address.timeout_s:g} s" if isinstance(error, TimeoutError) else str(error)
            raise Disconnected(f"{address.url} cannot be reached: {why}.", hint="Is the server running?") from error

    async def call(self, command: WireCommand, ack: type[A]) -> A:
        """Send a command and return its acknowledgement. Raise the server's error, or Disconnected if the connection
        ends first."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def acknowledge(*reply: object) -> None:
            if not answer.done():
                answer.set_result(reply[0] if reply else None)

        self._acks.add(answer)
        try:
            payload = command.to_wire() if command.payload else None
            try:
                if self.closed.is_set():
                    raise _connection_lost()
                await self._io.emit(command.name, payload, callback=acknowledge)
            except SocketIOError:
                await self.closed.wait()
                raise _connection_lost() from None
            return _parse(command, ack, await answer)
        finally:
            self._acks.discard(answer)

    async def close(self) -> None:
        """Close the connection, its session and its socket. Needed also after the connection has ended: python-engineio
        leaves the socket open if the server has been silent for too long."""
        transports = _open_transports(self._session)
        try:
            # The task is cancelled in the loop's next turn, after the session has aborted the task's connection. The
            # other way round, the transport would wait for the end of TLS; and if the task went on with a closed
            # session, python-engineio would create a session of its own.
            if self._opening.cancel():
                await self._session.close()
            await _cancel(self._opening)
            await self._close_websocket()
        finally:  # also if this task is cancelled
            # First: with our session closed, python-engineio's loops would open their own, which nobody closes.
            for task in self._loops():
                task.cancel()
            for transport in {*transports, *_open_transports(self._session)}:
                # Closed as it should be by now, or it waits for a peer that takes nothing more: such a transport would
                # outlive the event loop, and be found unclosed later.
                with contextlib.suppress(AttributeError):  # Python 3.11.2's: one of TLS that has met its end already
                    transport.abort()
            await self._session.close()
            await asyncio.sleep(0)  # the turn in which an aborted transport closes its socket

    async def _close_websocket(self) -> None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_S):
                await self._io.disconnect()
        await _cancel(*self._loops())
        if self._websocket is not None:
            with contextlib.suppress(Exception):
                await self._websocket.close()
        if self._socket is not None:
            await close_socket(self._socket)

    def _loops(self) -> list[asyncio.Task[Any]]:
        """Return python-engineio's tasks that read and write, once it has connected."""
        return [task for task in (self._io.eio.read_loop_task, self._io.eio.write_loop_task) if task is not None]

    def _receive(self, name: str, payload: object = None, *_: object) -> None:
        try:
            event = decode_event(name, payload)
        except InvalidRequest as error:
            _log.debug("An event was ignored, because it could not be decoded: %s", error)
            return
        self._on_event(event)

    def _accepted(self) -> None:
        if not self._handshake.done():
            self._handshake.set_result(None)

    def _rejected(self, reason: object = None) -> None:
        info = reason.get("data") if isinstance(reason, dict) else None
        # Without our data, the error is the transport's, and `connect` raises it.
        with contextlib.suppress(ValidationError):
            fail_future(self._handshake, _error_of(ErrorInfo.model_validate(info)))

    def _disconnected(self, reason: str) -> None:
        self._reason = reason

    def _ended(self, _: object) -> None:
        self.closed.set()
        self._on_closed(self, self._reason)
        for future in [self._handshake, *self._acks]:
            fail_future(future, _connection_lost())


def _open_transports(session: aiohttp.ClientSession) -> list[asyncio.Transport]:
    """Return the transports of a session's connections, used and pooled. aiohttp has no public name for them."""
    connector = session.connector
    used = getattr(connector, "_acquired", ())
    pooled = [entry[0] for entries in getattr(connector, "_conns", {}).values() for entry in entries]
    return [protocol.transport for protocol in (*used, *pooled) if protocol.transport is not None]


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def close_socket(sock: socket.socket) -> None:
    """Wait until the websocket's transport has closed its socket, which aiohttp doesn't. Over TLS, or while the peer
    doesn't read, the transport would outlive an event loop that ends now."""
    with contextlib.suppress(OSError, TypeError):  # it is closed; it is uvloop's, which has no shutdown
        sock.shutdown(socket.SHUT_RDWR)
        async with asyncio.timeout(SOCKET_CLOSE_S):
            while sock.fileno() >= 0:  # noqa: ASYNC110 - a socket has no event for its end
                await asyncio.sleep(0.001)


def fail_future(future: asyncio.Future[Any], error: HarmoniaError) -> None:
    """Set the exception of `future`, unless it is done."""
    if not future.done():
        future.set_exception(error)
        future.exception()  # marks it as retrieved: asyncio would log an exception that nobody awaits


def _connection_lost() -> Disconnected:
    return Disconnected("The connection ended before the answer.", hint="Ask again.")


def _parse(command: WireCommand, ack: type[A], reply: object) -> A:
    given = cast("dict[str, Any]", reply) if isinstance(reply, dict) else {}
    try:
        if given.get("ok") is True:
            return ack.model_validate(given)
        failure = ErrorAck.model_validate(given)
    except ValidationError:
        raise HarmoniaError(
            f"The acknowledgement of {command.name} is not in the protocol.", hint="Is it a Harmonia server?"
        ) from None
    raise _error_of(failure.error)


def _error_of(info: ErrorInfo) -> HarmoniaError:
    return error_of(info.code, info.message, details=info.details)
