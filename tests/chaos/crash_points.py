"""Crash points: what the disk holds before and after each write, copied as a crash would leave it.

Owns the copies. `sys.addaudithook` and SQLite's trace tell of each write before it happens: a file that is opened to be
written, made, moved or deleted, and each begin and end of a transaction. `crash_story.py` has what is done meanwhile,
and what must hold in a copy.
"""

import contextlib
import os
import shutil
import sqlite3
import sys
import threading
from pathlib import Path
from typing import NamedTuple

WRITES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link")
STATEMENTS = ("COMMIT", "BEGIN")


class Torn(NamedTuple):
    """A file that is being written. before: its bytes that were there already."""

    path: str
    before: int


class Watcher:
    """Calls a function before each write in a folder. One a process: an audit hook can't be taken away."""

    def __init__(self):
        self._lock = threading.RLock()
        self._own = threading.local()
        self._folder = self._last_written = None
        sys.addaudithook(self._hook)

    @contextlib.contextmanager
    def watching(self, folder, about_to):
        """about_to: gets each write's name before it happens, and the `Torn` that a crash in the write before may have
        left; None if that wrote to no file."""
        self._about_to, self._last_written, self._folder = about_to, None, str(folder)
        connect, sqlite3.connect = sqlite3.connect, self._connect
        try:
            yield
        finally:
            self._folder, sqlite3.connect = None, connect

    def _connect(self, *arguments, **named):
        database = sqlite3.Connection(*arguments, **named)
        database.set_trace_callback(self._statement)
        return database

    def _hook(self, event, arguments):
        if self._folder is None or getattr(self._own, "busy", False):
            return
        if event in WRITES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            anew = event == "open" and arguments[2] & os.O_TRUNC
            self._write(event, str(arguments[0]), anew=anew)

    def _statement(self, text):
        if self._folder is not None and text.startswith(STATEMENTS) and not getattr(self._own, "busy", False):
            self._write(text.split()[0], f"{self._folder}/home/journal.sqlite3-wal")

    def _write(self, event, path, *, anew=False):
        if not path.startswith(self._folder):
            return
        self._own.busy = True
        try:
            # One thread at a time: another one that is about to write waits until the copy is whole.
            with self._lock:
                last, self._last_written = self._last_written, None
                self._about_to(f"{event} {path.removeprefix(self._folder)}", last)
                # SQLite writes its files by whole pages, and says so only with its transactions.
                if event == "COMMIT" or (event == "open" and not path.endswith(".sqlite3")):
                    self._last_written = Torn(path, 0 if anew else _size(path))
        finally:
            self._own.busy = False


def copied(source, target, torn=None, part=1.0):
    """Copy a tree. torn: of what was added to this file last, only a part is copied."""
    target.mkdir()
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.is_dir():
                copied(Path(entry.path), target / entry.name, torn, part)
            elif not entry.name.endswith("-shm"):  # it is the living processes' own: SQLite makes it from the -wal
                data = Path(entry.path).read_bytes()
                if torn is not None and entry.path == torn.path:
                    data = data[: torn.before + int((len(data) - torn.before) * part)]
                (target / entry.name).write_bytes(data)


def _size(path):
    return os.path.getsize(path) if os.path.exists(path) else 0  # noqa: PTH110, PTH202 - thousands of times


def remove(folder):
    shutil.rmtree(folder, ignore_errors=True)
