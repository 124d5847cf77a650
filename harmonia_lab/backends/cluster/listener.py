"""The lab's end of its workers' connections.

Owns the port, one thread with an event loop, and who may connect: whoever knows the lab's secret, which tasks carry.
What arrives goes to the inbox of the song that it names; `task.py` reads that.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import queue
import secrets
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Any

from harmonia_lab.backends.cluster.frames import Frame, pack, read
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.waiting import join

__all__ = ["ConnectionEnd", "LineInbox", "Listener"]

HELLO_S = 10.0
"""Seconds that a connection has to say what it is for."""
HELLO_BYTES = 2**16
"""Of what is read from somebody who hasn't shown the secret yet."""
INBOX_MESSAGES = 64
"""With more of one song's unread, nothing further is read from its connection: the worker waits."""
STOP_S = 5.0


class ConnectionEnd:
    """One worker's connection. Methods may be called from any thread."""

    def __init__(self, writer: asyncio.StreamWriter, loop: asyncio.AbstractEventLoop) -> None:
        self._writer, self._loop = writer, loop
        self.heard = time.monotonic()
        """When something came last."""

    def send(self, head: Mapping[str, Any], body: bytes = b"") -> None:
        """Send a message, if the connection stands. It is not waited for."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self.write, pack(head, body))

    def close(self) -> None:
        """Close it, once what was sent is written."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._writer.close)

    def write(self, data: bytes) -> None:
        """Write a packed message, in the loop's thread."""
        if not self._writer.is_closing():
            self._writer.write(data)


LineInbox = queue.SimpleQueue[tuple[ConnectionEnd | None, Frame | None]]
"""Messages of one song, each with its connection; None in place of one at a connection's end, or to wake the reader."""


class Listener:
    """Listens from when it is made until `close`."""

    def __init__(self, host: str, tls: ssl.SSLContext | None) -> None:
        """host: the address to listen at, at a free port. Raises HarmoniaError where that can't be had."""
        self.secret = secrets.token_hex(32)
        self._inboxes: dict[str, LineInbox] = {}
        self._host, self._tls = host, tls
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="harmonia-cluster", daemon=True)
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(STOP_S)
        except OSError as error:
            self.close()
            raise HarmoniaError(f"Workers could not connect to {host}: {error}.") from None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        assert self._server is not None
        return self._host, int(self._server.sockets[0].getsockname()[1])

    def open(self, name: str) -> LineInbox:
        """Take connections for `name`, a generation's id, from now on."""
        inbox = self._inboxes[name] = queue.SimpleQueue()
        return inbox

    def forget(self, name: str) -> None:
        """Take no more connections for `name`: they are told that it is over."""
        self._inboxes.pop(name, None)

    def close(self) -> None:
        """Close the port and all connections. Idempotent."""
        if self._loop.is_closed():
            return
        with contextlib.suppress(RuntimeError, TimeoutError):
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(STOP_S)
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not threading.current_thread():
            join(self._thread, STOP_S)
        if not self._thread.is_alive():
            self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, self._host, 0, ssl=self._tls)

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._open):
            writer.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with contextlib.suppress(asyncio.CancelledError):  # asyncio would write it to the log
                await self._read(reader, writer)
        finally:
            self._open.discard(writer)
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = await asyncio.wait_for(read(reader, HELLO_BYTES), HELLO_S)
        except TimeoutError:
            return
        if first is None or not hmac.compare_digest(str(first[0].get("secret")).encode(), self.secret.encode()):
            return
        connection = ConnectionEnd(writer, self._loop)
        name = str(first[0].get("name"))
        message: Frame | None = first
        while message is not None:
            connection.heard = time.monotonic()
            inbox = self._inboxes.get(name)
            if inbox is None:
                connection.write(pack({"over": True}))
            elif not message[0]:
                connection.write(pack({}))  # a beat
            else:
                inbox.put((connection, message))
                while inbox.qsize() > INBOX_MESSAGES and self._inboxes.get(name) is inbox:
                    await asyncio.sleep(0.005)
                    connection.heard = time.monotonic()
            message = await read(reader)
        if (inbox := self._inboxes.get(name)) is not None:
            inbox.put((connection, None))
