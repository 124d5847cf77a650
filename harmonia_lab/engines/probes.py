"""Readings of this machine: what it is, and how much memory a stage took.

Owns no thresholds and draws no conclusions. Where a figure can't be had it is None and a reason stands beside it.
"""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

__all__ = ["MemoryReading", "cpu_seconds", "git_commit", "host", "loaded_torch", "measure_memory"]

SAMPLE_INTERVAL_S = 0.1


@functools.lru_cache(maxsize=1)
def host() -> dict[str, Any]:
    """Name, operating system, processor, cores, memory (bytes), and the GPU as far as an imported torch knows it."""
    return {
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }


@functools.lru_cache(maxsize=1)
def git_commit() -> str | None:
    """The commit that this package's sources are at, `+` added where tracked files differ; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None

    def git(*args: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, timeout=5, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def cpu_seconds() -> float:
    """User and system time of this process and of its children, ended ones included, in seconds."""
    times = os.times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in psutil.Process().children(recursive=True):
        try:
            spent = child.cpu_times()
        except psutil.Error:
            continue  # it ended in between, and is counted among the ended from now on
        total += spent.user + spent.system + spent.children_user + spent.children_system
    return total


@dataclass
class MemoryReading:
    """Filled when the measured block ends. Bytes.

    rss_peak: the highest sum over this process and its children, sampled every 0.1 s.
    gpu_allocated_peak, gpu_reserved_peak: torch's own peaks, reset at the start; None with gpu_reason where there is
    no GPU in use.
    """

    rss_peak: int = 0
    gpu_allocated_peak: int | None = None
    gpu_reserved_peak: int | None = None
    gpu_reason: str | None = None


@contextmanager
def measure_memory() -> Iterator[MemoryReading]:
    """Measures the block. GPU work is synchronised at its end, so that what was launched inside counts inside."""
    reading = MemoryReading()
    cuda = _cuda()
    if cuda is not None:
        cuda.reset_peak_memory_stats()
    stop = threading.Event()
    me = psutil.Process()

    def sample() -> None:
        while True:
            reading.rss_peak = max(reading.rss_peak, _rss(me))
            if stop.wait(SAMPLE_INTERVAL_S):
                return

    sampler = threading.Thread(target=sample, name="harmonia-memory", daemon=True)
    sampler.start()
    try:
        yield reading
    finally:
        stop.set()
        if cuda is not None:
            cuda.synchronize()
            reading.gpu_allocated_peak = cuda.max_memory_allocated()
            reading.gpu_reserved_peak = cuda.max_memory_reserved()
        else:
            reading.gpu_reason = _no_gpu_reason()
        reading.rss_peak = max(reading.rss_peak, _rss(me))


def _rss(process: psutil.Process) -> int:
    total = int(process.memory_info().rss)
    for child in process.children(recursive=True):
        try:
            total += int(child.memory_info().rss)
        except psutil.Error:
            continue  # it ended in between
    return total


def _cuda() -> Any | None:
    torch = loaded_torch()
    return torch.cuda if torch is not None and torch.cuda.is_available() else None


def loaded_torch() -> Any | None:
    """The module torch where it is imported already, and wholly: a reading must not load gigabytes of libraries, and
    must not look into what another thread is just importing."""
    torch = sys.modules.get("torch")
    return None if torch is None or getattr(torch.__spec__, "_initializing", False) else torch


def _no_gpu_reason() -> str:
    return "no engine on this machine uses torch" if "torch" not in sys.modules else "torch sees no CUDA device"


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
