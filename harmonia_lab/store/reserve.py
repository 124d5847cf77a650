"""The reserve: room on the disk that a process takes beforehand, for what it can't write where it belongs.

Owns the content of one file for each process: a head, which says in which run of the machine the process began and
whether it meant to exit, then entries. `process_liveness.py` owns the files and their locks, `unwritten.py` what is
entered. A file system that allocates room only when data comes (a copying one, such as btrfs) may refuse an entry on a
full disk: then it is in memory alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harmonia_lab.storage import read_at, write_at

__all__ = ["Exit", "Reserve", "read_exit"]

HEAD_BYTES = 256
RESERVE_BYTES = 512 * 1024
"""The last events of dozens of songs."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Exit:
    """How a process exited. died: not because it was meant to, and not with the whole machine. entries: what its
    reserve has, oldest first."""

    died: bool
    entries: list[dict[str, Any]] = field(default_factory=list)


class Reserve:
    """Every method may be called from any thread. None raises an error of the disk."""

    def __init__(self, fd: int) -> None:
        """fd: an empty file, open for reading and writing."""
        self._fd = fd
        self._lock = threading.Lock()
        self._end, self._number, self._full = HEAD_BYTES, 0, False
        with contextlib.suppress(OSError):
            if sys.platform == "linux":
                os.posix_fallocate(fd, 0, HEAD_BYTES + RESERVE_BYTES)
            else:
                write_at(fd, bytes(HEAD_BYTES + RESERVE_BYTES), 0)
        self._write_head(left=False)

    @property
    def empty(self) -> bool:
        return self._end == HEAD_BYTES and not self._full

    def append(self, entry: Mapping[str, Any]) -> bool:
        """Add an entry, and wait until it is on the disk. Return False if that can't be done, now and until `clear`:
        of what comes one after the other, a part in the middle must not be missing."""
        with self._lock:
            line = f"{self._number + 1} {json.dumps(entry, ensure_ascii=False, separators=(',', ':'))}\n".encode()
            self._full = self._full or self._end + len(line) > HEAD_BYTES + RESERVE_BYTES
            if self._full:
                return False
            try:
                written = write_at(self._fd, line, self._end)
                os.fsync(self._fd)
            except OSError:
                written = 0
            if written != len(line):
                self._full = True
                return False
            self._end += len(line)
            self._number += 1
            return True

    def clear(self) -> None:
        """Drop all entries, once they are written where they belong."""
        with self._lock:
            if self._fd < 0:
                return
            if self._end > HEAD_BYTES:
                with contextlib.suppress(OSError):
                    write_at(self._fd, bytes(self._end - HEAD_BYTES), HEAD_BYTES)
            self._end, self._full = HEAD_BYTES, False
            self._number += 1  # an entry of before that is still on the disk is none that follows one of after

    def mark_left(self) -> None:
        """Write down that the process exits because it was meant to."""
        with self._lock:
            self._write_head(left=True)

    def close(self) -> None:
        """Use the file no more: its descriptor may soon be another file's. Idempotent."""
        with self._lock:
            self._fd, self._full = -1, True

    def forget(self) -> None:
        """As `close`, in a fork of the process, where a thread that isn't there may hold the lock."""
        self._lock = threading.Lock()
        self._fd, self._full = -1, True

    def _write_head(self, *, left: bool) -> None:
        head = json.dumps({"boot": _boot_id(), "left": left}).encode()
        with contextlib.suppress(OSError):
            write_at(self._fd, head.ljust(HEAD_BYTES - 1) + b"\n", 0)


def read_exit(fd: int) -> Exit:
    """Return what the file of an exited process says. A damaged one has the entries before the damage."""
    content = read_at(fd, HEAD_BYTES + RESERVE_BYTES, 0)
    try:
        head = json.loads(content[:HEAD_BYTES])
        died = not head["left"] and head["boot"] == _boot_id()
    except (ValueError, LookupError, TypeError):  # an older version's file is empty
        died = False
    entries: list[dict[str, Any]] = []
    last = None
    for line in content[HEAD_BYTES:].split(b"\n")[:-1]:
        number, _, text = line.partition(b" ")
        try:
            if last is not None and int(number) != last + 1:
                break
            last = int(number)
            entries.append(dict(json.loads(text)))
        except (ValueError, TypeError):
            break
    return Exit(died, entries)


def _boot_id() -> str:
    """Return the name of this run of the machine; "" where the system gives it none."""
    with contextlib.suppress(OSError):
        return _BOOT_ID.read_text(encoding="utf-8").strip()
    return ""
