"""What this process and its children take: memory, processor time, descriptors, and the GPU's memory.

Owns the readings for `Metrics`, each kept for KEPT_S: to read the memory of a process with gigabytes takes 50 ms.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable

import psutil

from harmonia_lab.engines.gpu_memory import Device
from harmonia_lab.engines.probes import cpu_seconds, measured_gpu
from harmonia_lab.engines.process_tree import descendants, pss_bytes, rss_bytes
from harmonia_lab.store.exposition import MetricFamily, Sample, counts, gauge

__all__ = ["KEPT_S", "ProcessMetrics"]

KEPT_S = 5.0


class ProcessMetrics:
    """A source for `Metrics.add_source`. Any thread may call it; two that call at once read once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._until = 0.0
        self._families: list[MetricFamily] = []

    def __call__(self) -> Iterable[MetricFamily]:
        with self._lock:
            if self._clock() >= self._until:
                self._families = _read()
                self._until = self._clock() + KEPT_S
            return self._families


def _read() -> list[MetricFamily]:
    own = psutil.Process()
    tree = [own.pid, *descendants(own.pid)]
    limit = _descriptor_limit()
    return [
        gauge("process_pss_bytes", "Memory, children included, shared pages counted once.", pss_bytes(tree)),
        gauge("process_resident_bytes", "Resident memory, children included.", rss_bytes(tree)),
        MetricFamily(
            "process_cpu_seconds_total",
            "counter",
            "Processor time, children included.",
            [Sample("", (), round(cpu_seconds(), 3))],
        ),
        gauge("process_open_descriptors", "File descriptors that are open.", _descriptors()),
        gauge("process_max_descriptors", "File descriptors that may be open.", limit),
        counts("process_threads", "Threads.", (), {(): own.num_threads()})._replace(kind="gauge"),
        gauge("process_start_time_seconds", "Start of the process, in seconds since 1970.", own.create_time()),
        gauge("gpu_memory_used_bytes", "Memory of the GPU in use by all processes.", _gpu_bytes()),
    ]


def _descriptors() -> int | None:
    try:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a thousand names, as fast as can be
    except OSError:
        return None


def _descriptor_limit() -> int | None:
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415 - Windows has none

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def _gpu_bytes() -> int | None:
    device = measured_gpu()
    return device.used_bytes() if isinstance(device, Device) else None
