"""The worker's end of the connection to the lab whose song it makes.

Owns one thread with an event loop, what was sent and not acknowledged yet, and how long a lab may be away. Messages of
a worker, by the key that they have:

    claim     who asks to make the song (`begun`: has it, with its files); the first on each connection, with `secret`
              and `name`, the task's
    event     name of an event, with `payload`; progress and previews are not acknowledged
    began     the row of an attempt that begins; row: of one that has ended
    late      a stage that has reached its limit
    finished  a file that another attempt may use, in pieces; archive: the song's folder, the same way
    end       completed, failed, cancelled or interrupted: the last

All but progress and previews have a number `n`, and are sent again on the next connection until the lab has
acknowledged them. Of the lab:

    go        the song; then `piece`s of files that it needs, then `begin`; again after a cut before that
    wait      another claim is heard still; over: there is nothing to make, or not any more
    again     the last number that it has, on a later connection
    ack       a number; cancel: a reason
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any, Literal

from harmonia_lab.backends.cluster.frames import BEAT_S, SILENCE_S, Frame, pack, read

__all__ = ["WorkerLine"]

Kind = Literal["lifecycle", "progress", "preview"]

ORPHAN_S = 40.0
"""Seconds without the lab after which its song is ended: nobody would hear it."""
AGAIN_S, WAIT_S, CONNECT_S = 0.3, 0.2, 5.0
UNSENT_PREVIEWS = 4
UNACKED_BYTES = 16 * 2**20


class WorkerLine:
    """`claim`, `send` and `finish` are for the thread that makes the song."""

    def __init__(
        self,
        address: tuple[str, int],
        tls: ssl.SSLContext | None,
        hello: Mapping[str, Any],
        *,
        on_piece: Callable[[str, int, bytes], None],
        on_cancel: Callable[[str], None],
    ) -> None:
        """hello: secret, name, and as `claim` what the worker is. on_piece: gets the name of a file that the lab sends,
        an offset, and the bytes from there; 0 begins the file anew. on_cancel: gets the reason; "lost" where the lab is
        gone, or has given the song to another worker. Both are called in the line's thread, and must be quick."""
        self._address, self._tls = address, tls
        self._hello = dict(hello) | {"claim": dict(hello["claim"]) | {"process": secrets.token_hex(8)}}
        self._on_piece, self._on_cancel = on_piece, on_cancel
        self._changed = threading.Condition()
        self._go: dict[str, Any] | None = None
        self._answered = self._over = self._closed = False
        self._number = 0
        self._unacked: OrderedDict[int, bytes] = OrderedDict()
        self._unsent: deque[tuple[Kind, bytes]] = deque()
        self._loop = asyncio.new_event_loop()
        self._wake = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="harmonia-line", daemon=True)
        self._thread.start()

    def claim(self) -> dict[str, Any] | None:
        """Return the song to make, once the files that it needs are here; None if there is nothing to make."""
        with self._changed:
            self._changed.wait_for(lambda: self._answered or self._over)
            return None if self._over else self._go

    def send(self, head: Mapping[str, Any], body: bytes = b"", kind: Kind = "lifecycle") -> None:
        """Send a message, in order. Progress takes the place of progress that was not sent yet; previews that can't be
        sent are dropped; all else waits, for as long as the lab has much of it to acknowledge."""
        with self._changed:
            if self._over:
                return
            if kind == "lifecycle":
                self._changed.wait_for(lambda: self._over or sum(map(len, self._unacked.values())) < UNACKED_BYTES)
                self._number += 1
                data = pack({**head, "n": self._number}, body)
                self._unacked[self._number] = data
            else:
                data = pack(head, body)
                if kind == "progress" and self._unsent and self._unsent[-1][0] == "progress":
                    self._unsent.pop()
                if kind == "preview" and sum(each[0] == "preview" for each in self._unsent) >= UNSENT_PREVIEWS:
                    return
            self._unsent.append((kind, data))
        self._call(self._wake.set)

    def finish(self) -> bool:
        """Wait until the lab has everything; return whether it has. False once it wants nothing more, or is gone."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or not self._unacked)
            return not self._over

    def close(self) -> None:
        """Close the connection. Idempotent."""
        with self._changed:
            self._closed = self._over = True
            self._changed.notify_all()
        self._call(self._wake.set)

    def _call(self, function: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(function)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._keep_connected())
        finally:
            self._end("lost")
            self._loop.close()

    async def _keep_connected(self) -> None:
        heard = time.monotonic()
        while not self._over and time.monotonic() - heard < ORPHAN_S:
            try:
                connecting = asyncio.open_connection(*self._address, ssl=self._tls)
                reader, writer = await asyncio.wait_for(connecting, CONNECT_S)
            except (OSError, TimeoutError):
                await asyncio.sleep(AGAIN_S)
                continue
            heard = time.monotonic()
            try:
                heard = await self._talk(reader, writer)
            except OSError:
                pass
            finally:
                writer.close()
            if not self._over:
                await asyncio.sleep(AGAIN_S)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> float:
        """Return when the lab was heard last."""
        writer.write(self._claim())
        sending = asyncio.create_task(self._beat(writer))
        heard = time.monotonic()
        try:
            while not self._over:
                try:
                    message = await asyncio.wait_for(read(reader), SILENCE_S)
                except TimeoutError:
                    break
                if message is None:
                    break
                heard = time.monotonic()
                if self._take(message, writer):
                    sending.cancel()  # the beats, which are part of what follows
                    sending = asyncio.create_task(self._send_all(writer))
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await sending
        return heard

    def _claim(self) -> bytes:
        return pack(self._hello | {"claim": self._hello["claim"] | {"begun": self._answered}})

    def _take(self, message: Frame, writer: asyncio.StreamWriter) -> bool:
        """Do what a message says. Return whether the lab takes messages from now on."""
        head, body = message
        if "over" in head:
            self._end("lost")
        elif "wait" in head:
            self._loop.call_later(WAIT_S, writer.write, self._claim())
        elif "go" in head:
            self._go = head["go"]
        elif "piece" in head:
            self._on_piece(str(head["piece"]), int(head["offset"]), body)
        elif "cancel" in head:
            self._on_cancel(str(head["cancel"]))
        elif "ack" in head:
            self._forget(int(head["ack"]))
        elif "begin" in head or "again" in head:
            self._forget(int(head.get("again", 0)))
            with self._changed:
                self._unsent = deque(("lifecycle", data) for data in self._unacked.values())
                self._answered = True
                self._changed.notify_all()
            return True
        return False

    def _forget(self, number: int) -> None:
        with self._changed:
            while self._unacked and next(iter(self._unacked)) <= number:
                self._unacked.popitem(last=False)
            self._changed.notify_all()

    def _end(self, reason: str) -> None:
        with self._changed:
            was_over, self._over = self._over, True
            self._changed.notify_all()
        if not was_over:
            self._on_cancel(reason)

    async def _beat(self, writer: asyncio.StreamWriter) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            writer.write(pack({}))

    async def _send_all(self, writer: asyncio.StreamWriter) -> None:
        while not self._closed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), BEAT_S)
            if not self._wake.is_set():
                writer.write(pack({}))
            self._wake.clear()
            while (data := self._next()) is not None:
                writer.write(data)
                await writer.drain()
        writer.close()

    def _next(self) -> bytes | None:
        with self._changed:
            return self._unsent.popleft()[1] if self._unsent else None
