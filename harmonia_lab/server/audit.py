"""The audit log: one JSON line for each connection, command and HTTP call, with its outcome.

Owns the file `audit.jsonl` (mode 0600), its rotation, and what a line may hold: moments, addresses, ids and codes. It
never holds narratives, lyrics, titles or tokens: callers pass ids and codes that were checked, and no other text. A
thread writes, so that neither a slow nor a full disk holds up the event loop; lines that can't be written are counted,
and the count is the next line that can.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import sys
import threading
from collections import Counter
from datetime import datetime
from pathlib import Path

from aiohttp import web

from harmonia_lab import locks
from harmonia_lab.protocol import commands
from harmonia_lab.protocol.models import iso_time, utc_now
from harmonia_lab.server.auth import Identity
from harmonia_lab.server.client_address import ClientAddresses
from harmonia_lab.server.connected_client import ConnectedClient
from harmonia_lab.server.rate_limit import TokenBucket
from harmonia_lab.storage import open_private, storage_errors

__all__ = ["AUDIT_FILE", "Audit", "AuditLog"]

AUDIT_FILE = "audit.jsonl"

MAX_QUEUED = 20_000
"""Lines that may wait for the disk: about 5 MB."""

BATCH = 1000
"""Lines that are written at once."""

CLOSE_S = 2.0
"""Seconds that `close` waits for the last lines."""

MAX_VALUE = 128
"""Characters of a value: those of a user's name."""

REFUSALS = (1.0, 100)
"""Lines about what one user or address is refused: per second on average, and at once."""

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")

_log = logging.getLogger(__name__)


class Audit:
    """What is logged of connections, commands and calls. Without a log, nothing is.

    Of what one user, or one address without a token, is refused, only so many lines are written: a flood must not push
    everybody else's out of the files. The next line that is written says how many were not (`unlogged`).
    """

    def __init__(self, log: AuditLog | None, addresses: ClientAddresses) -> None:
        self._log, self._addresses = log, addresses
        self._refusals = TokenBucket(*REFUSALS)
        self._unlogged: Counter[object] = Counter()

    def connection(
        self, what: str, outcome: str, sid: str, identity: Identity | None = None, **facts: str | None
    ) -> None:
        """what: "connect", "disconnect" or "revoked". facts: the client's address, and why."""
        self._record(what, outcome, identity, sid=sid, **facts)

    def refused_connection(self, address: str, code: str, why: str) -> None:
        """Log a TCP connection that was refused, or brought no HTTP, before anything was known of its client."""
        self._record("connect", code, None, address=address, why=why)

    def command(self, client: ConnectedClient, name: str, command: commands.Command | None, outcome: str) -> None:
        """name: as sent; one that we don't know may be any text. command: None if the message could not be read."""
        self._record(
            name if name in commands.COMMANDS else "unknown",
            outcome,
            client.identity,
            sid=client.sid,
            generation=getattr(command, "generation_id", None) or getattr(command, "job_id", None),
            withUser=getattr(command, "user_id", None),
            role=getattr(command, "role", None),
        )

    def call(
        self,
        request: web.Request,
        status: int,
        identity: Identity | None,
        code: str | None,
        with_user: str | None = None,
        sound: str | None = None,
    ) -> None:
        """status: of the answer. identity: of the token or the link. code: of the error, if there is one. with_user:
        another user whom the call is about. sound: the id of the sound that it is about."""
        resource = request.match_info.route.resource
        file = request.match_info.get("name") or request.match_info.get("file")
        method = request.method if request.method in _METHODS else "other"
        self._record(
            f"{method} {resource.canonical if resource else 'unknown'}",
            code or ("ok" if status < 400 else "refused"),
            identity,
            address=self._addresses.of(request),
            status=status,
            generation=request.match_info.get("id"),
            file=file if status < 400 else None,
            withUser=with_user,
            sound=sound,
        )

    def _record(self, what: str, outcome: str, identity: Identity | None, **facts: str | int | None) -> None:
        if self._log is None:
            return
        if identity is not None:  # a token's id can't be used as a token
            facts |= {"user": identity.user, "token": identity.token_id or None}
        if outcome != "ok":
            who = (facts.get("user"), None if identity is not None else facts.get("address"))
            if not self._refusals.take(who):
                self._unlogged[who] += 1
                if len(self._unlogged) > MAX_QUEUED:
                    self._unlogged.clear()
                return
            facts["unlogged"] = self._unlogged.pop(who, 0) or None
        self._log.record(what, outcome, **facts)


class AuditLog:
    """Any thread may call `record`. Several servers may write to one file."""

    def __init__(self, path: Path, *, max_bytes: int, kept: int) -> None:
        """max_bytes: size at which the file is renamed to `audit.jsonl.1`. kept: how many such files are kept.

        Raise StorageError if the file can't be made.
        """
        self.path = path
        self._max_bytes, self._kept = max_bytes, kept
        self._queue: queue.SimpleQueue[dict[str, object] | None] = queue.SimpleQueue()
        self._lost = 0
        self._torn = False
        self._failing = False
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._fd = _open(path)
        self._thread = threading.Thread(target=self._work, name="harmonia-audit", daemon=True)
        self._thread.start()

    def record(self, what: str, outcome: str, **facts: str | int | None) -> None:
        """Log that `what` ended in `outcome`: "ok" or an error code. Facts that are None are left out. Never waits."""
        if self._queue.qsize() >= MAX_QUEUED:
            self._lost += 1
            return
        self._queue.put({"at": utc_now(), "what": what, "outcome": outcome, **facts})

    @property
    def lost(self) -> int:
        """Lines that could not be written so far, and that no line has told of yet."""
        return self._lost

    def close(self) -> None:
        """Write what was recorded, within CLOSE_S seconds, and close the file. Idempotent."""
        self._queue.put(None)
        self._thread.join(CLOSE_S)

    def _work(self) -> None:
        ended = False
        while not ended:
            batch = [self._queue.get()]
            while len(batch) < BATCH and not self._queue.empty():
                batch.append(self._queue.get())
            ended = None in batch
            lines = [_line(facts) for facts in batch if facts is not None]
            try:
                self._write(lines)
                self._failing = False
            except OSError as error:
                self._lost += len(lines)
                if not self._failing:
                    _log.warning(
                        "The audit log %s cannot be written: %s. The server goes on.", self.path, error.strerror
                    )
                self._failing = True
        os.close(self._fd)

    def _write(self, lines: list[str]) -> None:
        """Raise OSError if the disk refuses."""
        self._reopen_or_rotate()
        lost = self._lost
        if lost:
            lines = [_line({"at": utc_now(), "what": "audit", "outcome": "lost", "count": lost}), *lines]
        # A part of a line that a full disk left is ended, so that the next line can be read.
        data = (b"\n" if self._torn else b"") + "".join(lines).encode()
        while data:
            written = os.write(self._fd, data)
            self._torn, data = not data[:written].endswith(b"\n"), data[written:]
        self._lost -= lost

    def _reopen_or_rotate(self) -> None:
        """Write on in the file at `path`: another server may have rotated it, or an operator moved it away."""
        try:
            current = self.path.stat().st_ino
        except FileNotFoundError:
            current = -1
        if current != os.fstat(self._fd).st_ino:
            self._replace_fd()
        if os.fstat(self._fd).st_size < self._max_bytes:
            return
        with locks.guarding(self.path):
            if self.path.exists() and self.path.stat().st_ino == os.fstat(self._fd).st_ino:
                self._rotate()
        self._replace_fd()

    def _rotate(self) -> None:
        if (
            sys.platform == "win32"
        ):  # which moves no file that is open, here or in another server: then at the next line
            os.close(self._fd)
            self._fd = os.open(os.devnull, os.O_WRONLY)
        with contextlib.suppress(PermissionError):
            for number in range(self._kept, 0, -1):
                source = self.path if number == 1 else self._numbered(number - 1)
                if source.exists():
                    source.replace(self._numbered(number))
            if self._kept == 0:
                self.path.unlink()

    def _replace_fd(self) -> None:
        fresh = _open(self.path)
        os.close(self._fd)
        self._fd = fresh

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


def _open(path: Path) -> int:
    descriptor = open_private(path, os.O_WRONLY | os.O_APPEND)
    if sys.platform != "win32":
        os.fchmod(descriptor, 0o600)  # also of a file that was there before
    return descriptor


def _line(facts: dict[str, object]) -> str:
    return json.dumps({name: _value(value) for name, value in facts.items() if value is not None}) + "\n"


def _value(value: object) -> object:
    if isinstance(value, datetime):
        return iso_time(value)
    return value[:MAX_VALUE] if isinstance(value, str) else value
