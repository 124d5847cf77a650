"""Measurements of this machine: its facts, and the memory that a stage took.

Owns the measuring, not the conclusions. A figure that can't be measured is None, with a reason beside it.
"""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from harmonia_lab.engines import gpu_memory
from harmonia_lab.engines.cores import usable_cores
from harmonia_lab.engines.process_tree import descendants, pss_bytes, rss_bytes, uss_bytes
from harmonia_lab.errors import Cancelled

__all__ = [
    "MemoryReading",
    "MemorySample",
    "cpu_seconds",
    "git_commit",
    "gpu_facts",
    "host",
    "loaded_torch",
    "measure_memory",
    "measured_gpu",
]

SAMPLE_INTERVAL_S = 0.1
PSS_INTERVAL_S = 1.0
PSS_COSTS = 50
"""The next reading of PSS waits for this many times what the last one took: it may cost 2 % of a core, no more."""
MAX_SAMPLES = 200
"""Enough for a curve of a stage's memory, in 5 KB of a song's record."""


def host() -> dict[str, Any]:
    """Return name, operating system, processor, cores and memory (bytes): a new dict, which the caller may change."""
    return dict(_host())


@functools.lru_cache(maxsize=1)
def _host() -> dict[str, Any]:
    return {
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
    }


@functools.lru_cache(maxsize=1)
def git_commit() -> str | None:
    """Return the commit of this package's checkout, with `+` where tracked files differ; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None

    # One command tells both: a process's first event waits for it.
    command = ["git", "-C", str(root), "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.splitlines()
    commit = next((line.split()[2] for line in lines if line.startswith("# branch.oid ")), "(initial)")
    if commit == "(initial)":
        return None
    return commit + ("+" if any(not line.startswith("#") for line in lines) else "")


def cpu_seconds() -> float:
    """Return user and system time of this process and its children, ended ones included, in seconds.

    Windows doesn't tell the time of children that have ended.
    """
    # Both tuples begin with the user and system time of the process, and of its children that have ended.
    total = sum(os.times()[:4])
    for child in psutil.Process().children(recursive=True):  # the kernel's list may miss one (`process_tree.py`)
        with suppress(psutil.Error):  # it has ended meanwhile
            total += sum(child.cpu_times()[:4])
    return total


class MemorySample(NamedTuple):
    """Memory at one moment.

    second: since the start of the reading. rss: bytes of this process and its children. gpu: bytes in use on the whole
    device, by all processes; None without a device.
    """

    second: float
    rss: int
    gpu: int | None


@dataclass
class MemoryReading:
    """The memory that a block took, in bytes; filled while the block runs.

    rss_peak: the highest sum over this process and its children, sampled every 0.1 s; pages that they share count
    for each. pss_peak: the highest without double counting, of all of them but `others`; total_pss_peak: of all of
    them. PSS is read each second or less often, and at the end unless that is a cancel; None where it wasn't, or where
    the system doesn't tell: then uss_peak is the highest sum of memory that no other process shares, of all but
    `others`, and memory_reason says why.
    gpu_allocated_peak, gpu_reserved_peak: torch's own peaks, reset at the start (of Metal, where torch keeps none, the
    highest of what torch and its driver had allocated, sampled every 0.1 s); gpu_used_peak: the highest use of the
    whole device that NVML reported, sampled as often. Without a GPU they are None, and gpu_reason says why.
    ended: when the block's work was done, before the last readings, as `time.perf_counter` counts.
    samples: over time, at most `MAX_SAMPLES`; when there are more, every second one is dropped.
    """

    rss_peak: int = 0
    pss_peak: int | None = None
    total_pss_peak: int | None = None
    uss_peak: int | None = None
    memory_reason: str | None = None
    gpu_allocated_peak: int | None = None
    gpu_reserved_peak: int | None = None
    gpu_used_peak: int | None = None
    gpu_reason: str | None = None
    samples: list[MemorySample] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)
    ended: float = 0.0
    _stride: int = 1
    _count: int = 0

    def take(self, rss: int, gpu: int | None) -> None:
        """Add one sample."""
        self.rss_peak = max(self.rss_peak, rss)
        if gpu is not None:
            self.gpu_used_peak = max(self.gpu_used_peak or 0, gpu)
        if self._count % self._stride == 0:
            if len(self.samples) == MAX_SAMPLES:
                del self.samples[1::2]
                self._stride *= 2
            self.samples.append(MemorySample(round(time.perf_counter() - self.began, 3), rss, gpu))
        self._count += 1

    def take_pss(self, own: int | None, others: int | None) -> None:
        """Add one reading of PSS: of the processes that are measured, and of the other ones."""
        if own is not None and others is not None:
            self.pss_peak = max(self.pss_peak or 0, own)
            self.total_pss_peak = max(self.total_pss_peak or 0, own + others)

    def take_uss(self, own: int | None) -> None:
        """Add one reading of USS, where there is no PSS."""
        self.memory_reason = "the system tells no proportional set size (PSS)"
        if own is not None:
            self.uss_peak = max(self.uss_peak or 0, own)

    def take_metal(self, metal: Any) -> None:
        """Add one reading of Metal's memory. metal: `torch.mps`."""
        self.gpu_allocated_peak = max(self.gpu_allocated_peak or 0, metal.current_allocated_memory())
        self.gpu_reserved_peak = max(self.gpu_reserved_peak or 0, metal.driver_allocated_memory())


@contextmanager
def measure_memory(others: Callable[[], Iterable[int]] = tuple) -> Iterator[MemoryReading]:
    """Measure the block. At its end the GPU is synchronised, so that work launched inside the block counts for it.

    others: returns the ids of child processes that don't work for the block, for `pss_peak`; their children go with
    them.
    """
    reading = MemoryReading()
    cuda = _cuda()
    if cuda is not None:
        cuda.reset_peak_memory_stats()
    gpu = measured_gpu()
    stop = threading.Event()

    def keep_sampling() -> None:
        pss_at = time.perf_counter() + PSS_INTERVAL_S
        while not stop.wait(SAMPLE_INTERVAL_S):
            _sample(reading, gpu)
            if time.perf_counter() >= pss_at:
                cost = _sample_pss(reading, others)
                pss_at = time.perf_counter() + max(PSS_INTERVAL_S, PSS_COSTS * cost)

    _sample(reading, gpu)
    sampler = threading.Thread(target=keep_sampling, name="harmonia-memory", daemon=True)
    sampler.start()
    hurried = False
    try:
        yield reading
    except Cancelled:
        hurried = True  # somebody waits for its end
        raise
    finally:
        stop.set()
        cuda = cuda or _cuda(in_use=True)  # the block may have loaded torch
        _take_peaks(reading, cuda)
        reading.ended = time.perf_counter()
        sampler.join()  # it takes one sample at most; two threads must not sample at once
        reasons = [None if cuda is not None or _metal() else _no_gpu_reason(), gpu if isinstance(gpu, str) else None]
        reading.gpu_reason = "; ".join(reason for reason in reasons if reason) or None
        _sample(reading, gpu)
        if not hurried:
            _sample_pss(reading, others)  # also of a block that took less than a second


def _sample(reading: MemoryReading, gpu: gpu_memory.Device | str) -> None:
    me = os.getpid()
    reading.take(rss_bytes([me, *descendants(me)]), None if isinstance(gpu, str) else gpu.used_bytes())
    if (metal := _metal()) is not None:
        reading.take_metal(metal)


def _sample_pss(reading: MemoryReading, others: Callable[[], Iterable[int]]) -> float:
    """Return how long it took, in seconds."""
    began = time.perf_counter()
    me = os.getpid()
    apart = {pid for other in others() for pid in (other, *descendants(other))}
    tree = {me, *descendants(me)}
    own = pss_bytes(tree - apart)
    reading.take_pss(own, pss_bytes(tree & apart))
    if own is None:
        reading.take_uss(uss_bytes(tree - apart))
    return time.perf_counter() - began


def _take_peaks(reading: MemoryReading, cuda: Any | None) -> None:
    """Wait for the GPU's work, and take torch's own peaks. cuda: `torch.cuda`, if it is in use."""
    if cuda is not None:
        cuda.synchronize()
        reading.gpu_allocated_peak = cuda.max_memory_allocated()
        reading.gpu_reserved_peak = cuda.max_memory_reserved()
    elif (metal := _metal()) is not None:
        metal.synchronize()


def measured_gpu() -> gpu_memory.Device | str:
    """Return the device to sample: torch's current one, if torch uses one. Return a reason where there is none."""
    cuda = _cuda(in_use=True)
    if cuda is None:
        return gpu_memory.device()
    # torch leaves out NVML's prefix.
    return gpu_memory.device(f"GPU-{cuda.get_device_properties(cuda.current_device()).uuid}")


def gpu_facts() -> dict[str, str | None]:
    """Return gpu (its name), gpu_driver, and torch (its version if it is loaded), each None where there is none."""
    torch, gpu = loaded_torch(), measured_gpu()
    named = (None, None) if isinstance(gpu, str) else (gpu.name, gpu.driver)
    return {"gpu": named[0], "gpu_driver": named[1], "torch": None if torch is None else str(torch.__version__)}


def _cuda(*, in_use: bool = False) -> Any | None:
    """Return `torch.cuda`, if torch is loaded and sees a device.

    in_use: only if torch has a CUDA context already. Other questions to torch would create one.
    """
    torch = loaded_torch()
    if torch is None or not torch.cuda.is_available() or (in_use and not torch.cuda.is_initialized()):
        return None
    return torch.cuda


def _metal() -> Any | None:
    """Return `torch.mps`, if torch is loaded and sees a GPU of Apple's."""
    torch = loaded_torch()
    return torch.mps if torch is not None and torch.backends.mps.is_available() else None


def loaded_torch() -> Any | None:
    """Return the module torch if its import is complete. A measurement must not load gigabytes of libraries, nor use a
    module that another thread is still importing."""
    torch = sys.modules.get("torch")
    return None if torch is None or getattr(torch.__spec__, "_initializing", False) else torch


def _no_gpu_reason() -> str:
    return (
        "no engine on this machine uses torch"
        if "torch" not in sys.modules
        else "torch sees no CUDA device and no Metal"
    )


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
