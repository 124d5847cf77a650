"""Which processes that share a journal are alive, and what each of those that exited had not written yet.

Owns a folder with one locked file for each process. The operating system releases the lock when the process exits, also
after `kill -9`. Process ids are not used, because the system gives them out again. The file is the process's `Reserve`,
too: `reserve.py` has its content.
"""

from __future__ import annotations

import atexit
import os
import secrets
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harmonia_lab import locks
from harmonia_lab.storage import open_private, storage_errors
from harmonia_lab.store.reserve import Exit, Reserve, read_exit

__all__ = ["LivenessLock", "leave"]


class LivenessLock:
    """A file that is locked while this process lives. reserve: room in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with storage_errors(folder):
            folder.mkdir(mode=0o700, exist_ok=True)
            while True:
                self.name = secrets.token_hex(8)
                self._fd = open_private(folder / self.name, os.O_RDWR)
                locks.lock(self._fd)
                if (folder / self.name).exists():
                    break
                os.close(self._fd)  # another process reaped the file before it was locked
        self.reserve = Reserve(self._fd)
        self._leaving: Callable[[], None] | None = None
        _living.add(self)

    def known(self) -> list[str]:
        """Return the names of all processes that have not been reaped, living ones included."""
        with storage_errors(self._folder):
            return sorted(file.name for file in self._folder.iterdir())

    @contextmanager
    def reap(self, name: str) -> Iterator[Exit | None]:
        """Yield how the process `name` exited; None if it lives. Until the block ends, other processes see it as alive.

        If the block raises, the process stays to be reaped.
        """
        file = self._folder / name
        with storage_errors(file):
            fd = open_private(file, os.O_RDWR)
        try:
            exited = read_exit(fd) if locks.lock(fd, wait=False) else None
            yield exited
        except BaseException:
            os.close(fd)
            raise
        _close(fd, file if exited is not None else None)

    def when_leaving(self, callback: Callable[[], None]) -> None:
        """Call `callback` when this process exits because it was meant to."""
        self._leaving = callback

    def leave(self) -> None:
        """Write down that this process exits because it was meant to. What it was making did not take it down."""
        if self._fd >= 0:
            self.reserve.mark_left()
            if self._leaving is not None:
                leaving, self._leaving = self._leaving, None
                leaving()

    def close(self) -> None:
        """Release the lock; delete the file, unless the reserve still has something to be written. Idempotent."""
        if self._fd >= 0:
            spent = self.reserve.empty
            self.leave()
            self.reserve.close()
            _close(self._fd, self._folder / self.name if spent else None)
            self._fd = -1
            _living.discard(self)

    def forget(self) -> None:
        """In a fork of the process: leave lock and file to the process that it was forked from."""
        if self._fd >= 0:
            self._leaving = None
            self.reserve.forget()
            os.close(self._fd)
            self._fd = -1


def _close(fd: int, delete: Path | None) -> None:
    """Close a file, and delete it if `delete` names it: before it is closed, so that no other process locks it in
    between, where a file can be deleted that is open."""
    if delete is None:
        os.close(fd)
    elif sys.platform != "win32":
        delete.unlink(missing_ok=True)
        os.close(fd)
    else:
        os.close(fd)
        with suppress(PermissionError):  # another process looks at it now, and will delete it
            delete.unlink(missing_ok=True)


_living: weakref.WeakSet[LivenessLock] = weakref.WeakSet()


def _forget() -> None:
    for lock in list(_living):
        lock.forget()
    _living.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@atexit.register
def leave() -> None:
    """Call `LivenessLock.leave` of every lock of this process. For an exit past `atexit`, as by `os._exit`."""
    for lock in list(_living):
        lock.leave()
