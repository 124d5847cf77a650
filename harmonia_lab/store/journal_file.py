"""The journal's SQLite file: its connections, transactions, and SQLite's errors as ours.

Owns who waits for whom: reads never wait for writes, a transaction that waits for another process's lock keeps no other
thread from its own, and how long each may wait. `journal_rows.py` has the tables.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from harmonia_lab import storage
from harmonia_lab.errors import ErrorCode, StorageError

__all__ = ["COMMAND_PATIENCE_S", "EVENT_PATIENCE_S", "JournalFile"]

COMMAND_PATIENCE_S = 10.0
"""Seconds that a command's write waits for the lock of another process: a thread waits, and somebody for its answer."""

EVENT_PATIENCE_S = 1.0
"""Seconds that an event's write waits: the song goes on then, and what is not written now is written later."""

_READ_PATIENCE_S = 0.25
"""Reads wait for no writer; but a program may lock the whole file, and the event loop reads."""

_TRY_S = 0.05


class JournalFile:
    """Every method may be called from any thread."""

    def __init__(self, path: Path, prepare: Callable[[sqlite3.Connection], None]) -> None:
        """Open the file, or make it, readable by this user alone. prepare: makes the tables, in a transaction."""
        self.path = path
        with storage.storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(storage.open_private(path, os.O_RDWR))
        self._write_lock, self._read_lock, self._list_lock = threading.Lock(), threading.Lock(), threading.Lock()
        with ExitStack() as undo, self._errors():
            self._writer = undo.enter_context(closing(_connect(path)))
            self._reader = undo.enter_context(closing(_connect(path)))
            # Lists read thousands of rows: whoever needs one generation's state meanwhile must not wait for them.
            self._list_reader = undo.enter_context(closing(_connect(path)))
            for connection, patience_s in ((self._writer, _TRY_S), (self._reader, _READ_PATIENCE_S)):
                connection.execute(f"PRAGMA busy_timeout = {round(patience_s * 1000)}")
            with self.writing() as database:
                prepare(database)
            undo.pop_all()

    @contextmanager
    def writing(self, patience_s: float = COMMAND_PATIENCE_S) -> Iterator[sqlite3.Connection]:
        """Run the block in one transaction. Raise StorageError if it can't be begun in time, or can't be written."""
        deadline = time.monotonic() + patience_s
        while True:
            with self._write_lock:
                if self._begun(last=time.monotonic() >= deadline):
                    with storage.changing(self.path), self._errors():
                        try:
                            yield self._writer
                            self._writer.execute("COMMIT")
                        except BaseException:
                            if self._writer.in_transaction:  # a full disk may have rolled it back already
                                self._writer.execute("ROLLBACK")
                            raise
                    return
            time.sleep(_TRY_S / 10)

    def read(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """Return the rows. Raises StorageError."""
        with self._read_lock, self._errors():
            return self._reader.execute(query, values).fetchall()

    def read_many(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """As `read`, on a connection of its own, for queries that may take long."""
        with self._list_lock, self._errors():
            return self._list_reader.execute(query, values).fetchall()

    def shrink(self) -> bool:
        """Give back to the system what deleted rows took up. Return False if another process uses the file now."""
        with self._write_lock:
            try:
                with storage.changing(self.path):
                    self._writer.execute("VACUUM")
            except sqlite3.DatabaseError:
                return False
        return True

    def close(self) -> None:
        """Close the connections. Later calls raise StorageError. Idempotent."""
        with self._write_lock, self._read_lock, self._list_lock:
            for connection in (self._writer, self._reader, self._list_reader):
                connection.close()

    def _begun(self, *, last: bool) -> bool:
        """Begin a transaction. Return False if another process has the lock, but raise StorageError at the last try."""
        with self._errors():
            try:
                self._writer.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if last or not _is_locked(error):
                    raise
                return False
        return True

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn an SQLite error into a StorageError that says what to do."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise _storage_error(error, self.path) from error


def _connect(path: Path) -> sqlite3.Connection:
    # isolation_level None: `writing` begins transactions. check_same_thread: the locks do that.
    database = sqlite3.connect(path, timeout=COMMAND_PATIENCE_S, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA foreign_keys = ON")
    return database


def _is_locked(error: sqlite3.DatabaseError) -> bool:
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _storage_error(error: sqlite3.DatabaseError, path: Path) -> StorageError:
    details = {"path": str(path)}
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return StorageError(
            f"The disk is full: {path} could not be written.",
            code=ErrorCode.STORAGE_FULL,
            hint="Free some space, or set HARMONIA_HOME to a folder on another disk.",
            details=details,
        )
    if _is_locked(error):
        return StorageError(
            f"Another program holds a lock on the journal {path}.",
            code=ErrorCode.STORAGE_LOCKED,
            hint=f"Try again when it has ended. `fuser {path}` tells which it is: a backup, or a database browser.",
            details=details,
        )
    return StorageError(
        f"The journal {path} cannot be used: {error}.",
        hint="Set HARMONIA_HOME to another folder; or move the file away, and lose the list of past songs.",
        details=details,
    )
