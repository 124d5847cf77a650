"""What else the machine did during an attempt: the processor time of other programs, of the hypervisor, and waiting.

Owns the reading of the kernel's counters, and the arithmetic. In a container they are those of the whole machine.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass

import psutil

__all__ = ["LoadReading", "load_average", "read_load"]

PROC = "/proc"


@dataclass(frozen=True)
class _Processors:
    """Seconds since the machine started, over all its cores. total: busy, stolen and idle together. stolen: None where
    the system doesn't count it."""

    total: float
    busy: float
    stolen: float | None


@dataclass(frozen=True)
class LoadReading:
    """The counters at one moment, None where the system has none. load_1m: the load average. waited_s: for how long
    some task of the machine has waited for a core since it started."""

    at: float
    load_1m: float | None
    processors: _Processors | None
    waited_s: float | None

    def columns(self, earlier: LoadReading, own_cpu_s: float) -> dict[str, float | None]:
        """Return the run log's columns of the time since `earlier`. own_cpu_s: of this program in that time."""
        found: dict[str, float | None] = {"load_1m": earlier.load_1m}
        now, then = self.processors, earlier.processors
        if now is not None and then is not None and now.total > then.total:
            others = now.busy - then.busy - own_cpu_s
            found["others_cpu_share"] = _share(others, now.total - then.total)
            if now.stolen is not None and then.stolen is not None:
                found["cpu_steal_s"] = round(max(0.0, now.stolen - then.stolen), 3)
        if self.waited_s is not None and earlier.waited_s is not None and self.at > earlier.at:
            found["cpu_pressure_share"] = _share(self.waited_s - earlier.waited_s, self.at - earlier.at)
        return found


def read_load() -> LoadReading:
    """Return the counters now; 0.1 ms."""
    average = load_average()
    load_1m = None if average is None else round(average, 2)
    return LoadReading(time.perf_counter(), load_1m, _processors(), _waited_s())


def load_average() -> float | None:
    """Return the load average of the last minute; None on Windows, which has none."""
    if sys.platform != "win32":
        with suppress(OSError):
            return os.getloadavg()[0]
    return None


def _share(part: float, whole: float) -> float:
    return round(min(1.0, max(0.0, part / whole)), 4)


def _processors() -> _Processors | None:
    """Read the first line of /proc/stat (proc_stat(5)), in clock ticks: user, nice, system, idle, iowait, irq, softirq,
    steal. The guests that follow are in user and nice already."""
    if sys.platform != "linux":
        return _processors_elsewhere()
    with suppress(OSError, ValueError), open(f"{PROC}/stat", "rb") as file:  # noqa: PTH123
        ticks = [int(field) / os.sysconf("SC_CLK_TCK") for field in file.readline().split()[1:9]]
        user, nice, system, _, _, irq, softirq, steal = ticks
        return _Processors(sum(ticks), user + nice + system + irq + softirq, steal)
    return None


def _processors_elsewhere() -> _Processors:
    """Read macOS's or Windows' counters by psutil: user, system, idle, and nice on macOS. (On Windows the time of
    interrupts is in system already.)"""
    times = psutil.cpu_times()
    busy = times.user + times.system + getattr(times, "nice", 0.0)
    return _Processors(busy + times.idle, busy, None)


def _waited_s() -> float | None:
    """Read the total of "some" in /proc/pressure/cpu, in microseconds (the kernel's accounting/psi.rst)."""
    with suppress(OSError, ValueError), open(f"{PROC}/pressure/cpu", "rb") as file:  # noqa: PTH123
        some = file.readline()
        return int(some.rpartition(b"total=")[2]) / 1e6 if some.startswith(b"some ") else None
    return None
