"""The processes of this program: which ones there are, and the memory that they take.

Owns the reading, from `/proc` where there is one, else by psutil. `probes.py` decides when, and keeps the peaks.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterable
from contextlib import suppress

import psutil

__all__ = ["descendants", "peak_rss_bytes", "pss_bytes", "rss_bytes", "uss_bytes"]

PROC = "/proc"
_GONE = (FileNotFoundError, ProcessLookupError)


def descendants(pid: int) -> list[int]:
    """Return the ids of the processes that `pid` started and that still run, and of theirs.

    The kernel lists a process's children only where it was built to; psutil reads the parent of every process of the
    machine instead, which costs thirty times as much. A child that exits meanwhile can hide another from the kernel's
    list (proc_pid_children(5)), so a figure that must be complete needs psutil.
    """
    if not os.path.exists(f"{PROC}/{pid}/task/{pid}/children"):  # noqa: PTH110 - as below
        with suppress(psutil.Error):
            return [child.pid for child in psutil.Process(pid).children(recursive=True)]
        return []
    found, parents = [], [pid]
    while parents:
        children = _children(parents.pop())
        found += children
        parents += children
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with suppress(*_GONE):
        # Strings, not `Path`: ten times a second, for each thread of a program that may have a hundred.
        for thread in os.listdir(f"{PROC}/{pid}/task"):  # noqa: PTH208
            with suppress(*_GONE), open(f"{PROC}/{pid}/task/{thread}/children", "rb") as file:  # noqa: PTH123
                children += map(int, file.read().split())
    return children


def rss_bytes(pids: Iterable[int]) -> int:
    """Return the sum of the processes' resident memory, in which a page that they share counts for each of them."""
    total = 0
    for pid in pids:
        try:
            with open(f"{PROC}/{pid}/statm", "rb") as file:  # noqa: PTH123
                total += int(file.read().split()[1]) * mmap.PAGESIZE
        except OSError:  # it has ended meanwhile, or there is no /proc
            with suppress(psutil.Error):
                total += psutil.Process(pid).memory_info().rss
    return total


def peak_rss_bytes() -> int:
    """Return the highest resident memory of this process so far."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # noqa: PLC0415 - Windows has none

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # getrusage(2): bytes on macOS, kibibytes on Linux


def pss_bytes(pids: Iterable[int]) -> int | None:
    """Return the processes' proportional set size: a page counts once, divided among all processes that map it.

    None where the kernel doesn't tell, or not of each of them. 1 ms for a small process, 50 ms for one with gigabytes.
    """
    total = 0
    for pid in pids:
        try:
            with open(f"{PROC}/{pid}/smaps_rollup", "rb") as file:  # noqa: PTH123
                total += next(int(line.split()[1]) for line in file if line.startswith(b"Pss:")) * 1024
        except (*_GONE, StopIteration):
            if not os.path.exists(f"{PROC}/self/smaps_rollup"):  # noqa: PTH110 - it is the kernel, not the process
                return None
        except OSError:
            return None
    return total


def uss_bytes(pids: Iterable[int]) -> int | None:
    """Return the memory that none of the processes shares (USS), summed: what macOS and Windows tell instead of PSS.

    None where the system doesn't tell that of one of them that runs.
    """
    total = 0
    for pid in pids:
        try:
            total += psutil.Process(pid).memory_full_info().uss
        except psutil.NoSuchProcess:
            continue
        except (psutil.Error, AttributeError):
            return None
    return total
