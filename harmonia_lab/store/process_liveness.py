"""Which processes that share a journal are alive.

Owns a folder with one locked file for each process. The operating system releases the lock when the process exits, also
after `kill -9`. Process ids are not used, because the system gives them out again.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harmonia_lab.storage import storage_errors

__all__ = ["LivenessLock"]


class LivenessLock:
    """A file that is locked while this process lives."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with storage_errors(folder):
            folder.mkdir(mode=0o700, exist_ok=True)
            while True:
                self.name = secrets.token_hex(8)
                self._fd = os.open(folder / self.name, os.O_CREAT | os.O_RDWR, 0o600)
                fcntl.flock(self._fd, fcntl.LOCK_EX)
                if (folder / self.name).exists():
                    break
                os.close(self._fd)  # another process reaped the file before it was locked

    def known(self) -> list[str]:
        """Return the names of all processes that have not been reaped, living ones included."""
        with storage_errors(self._folder):
            return sorted(file.name for file in self._folder.iterdir())

    @contextmanager
    def reap(self, name: str) -> Iterator[bool]:
        """Yield whether the process `name` has exited. If so, other processes see it as alive until the block ends."""
        file = self._folder / name
        with storage_errors(file):
            fd = os.open(file, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            yield False
            return
        try:
            yield True
            file.unlink(missing_ok=True)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Release the lock, and delete the file. Idempotent."""
        if self._fd >= 0:
            (self._folder / self.name).unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1
