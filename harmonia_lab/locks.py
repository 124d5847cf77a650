"""Locks that the system releases when their process ends, however it ends: none is ever stale, on any system.

Owns how a lock is taken and waited for, and where the lock of a file lies that others read meanwhile (not what it
protects): flock(2) on Linux and macOS; on Windows LockFileEx, by `filelock`.

On Windows a lock keeps everybody else from the byte that it lies on, the file's first one; a file that is open can't be
moved there, and a folder can't be locked. So the lock of such a file or folder is that of a file beside it there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harmonia_lab.file_names import beside

__all__ = ["guarding", "held", "lock", "lock_folder"]

POLL_S = 0.002
"""Between two tries of one that waits, on Windows: a row of the run log takes its lock for a few milliseconds."""


def lock(descriptor: int, *, wait: bool = True) -> bool:
    """Lock the open file. Return False if another process or descriptor has the lock and `wait` is False.

    It is released when the descriptor closes. Raises OSError where the file system has no locks.
    """
    return _take(descriptor, wait)


if sys.platform == "win32":

    def _take(descriptor: int, wait: bool) -> bool:
        from filelock import lock_descriptor  # noqa: PLC0415 - some 20 ms, and few commands lock anything

        return lock_descriptor(descriptor, blocking=wait, poll_interval=POLL_S)
else:
    import fcntl

    def _take(descriptor: int, wait: bool) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True


@contextmanager
def held(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of a file that is there for its lock alone, and yield True; False if another has it and `wait` is
    False. The file is made, and stays: who deleted it would part those who wait for it. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield lock(descriptor, wait=wait)
    finally:
        os.close(descriptor)


@contextmanager
def guarding(path: Path) -> Iterator[None]:
    """Hold the lock of a file that is there and that others read, or move, meanwhile. Raises OSError."""
    if sys.platform == "win32":
        with held(beside(path, ".lock")):
            yield
        return
    descriptor = os.open(path, os.O_RDWR)
    try:
        lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def lock_folder(folder: Path) -> int:
    """Lock a folder for this process, if no other has. Return the descriptor that holds the lock, or else -1: also
    where the file system has no locks."""
    descriptor = -1
    try:
        if sys.platform == "win32":  # its last user's end deletes the file
            descriptor = os.open(beside(folder, ".lock"), os.O_RDWR | os.O_CREAT | os.O_TEMPORARY, 0o600)
        else:
            descriptor = os.open(folder, os.O_RDONLY)
        if lock(descriptor, wait=False):
            return descriptor
    except OSError:
        pass
    if descriptor >= 0:
        os.close(descriptor)
    return -1
