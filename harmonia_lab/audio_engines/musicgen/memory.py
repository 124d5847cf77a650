"""MusicGen and memory: how much is available, how an out-of-memory error is recognised, and what is tried after one.

Owns the order of the attempts. `engine.py` makes them.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from harmonia_lab.engines.memory_limits import available_memory
from harmonia_lab.engines.probes import loaded_torch
from harmonia_lab.errors import AudioError, ErrorCode

__all__ = ["Effort", "available_bytes", "efforts", "free_memory", "is_out_of_memory", "out_of_memory"]

SHORTEST_WINDOW_S = 10.0
"""In a shorter window the model sees too little of the past for coherent music."""


@dataclass(frozen=True)
class Effort:
    """One attempt at a song. batch: prompts generated at once. window_s: seconds of the model's window.

    on_cpu: run on the CPU, whatever device was chosen. action: a status that says what changed; "" for the first.
    """

    batch: int
    window_s: float
    on_cpu: bool = False
    action: str = ""


def efforts(prompts: int, window_s: float, *, on_gpu: bool) -> Iterator[Effort]:
    """Yield the attempts in order, each to be made after the one before ran out of memory.

    As asked for; again after freeing memory; with half the batch, down to one; with a shorter window, since the KV
    cache grows with it; and on the CPU, if the song was to run on a GPU.
    """
    yield Effort(prompts, window_s)
    yield Effort(prompts, window_s, action="Memory ran out: trying again with what could be freed...")
    batch = prompts
    while batch > 1:
        batch = (batch + 1) // 2
        yield Effort(batch, window_s, action=f"Memory ran out: {batch} at a time...")
    shorter = window_s / 2
    if shorter >= SHORTEST_WINDOW_S:
        yield Effort(1, shorter, action=f"Memory ran out: windows of {shorter:g} s...")
    if on_gpu:
        yield Effort(1, window_s, on_cpu=True, action="Memory ran out: on the CPU...")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the error is an out-of-memory error of Python, of torch on the CPU or of torch on a GPU."""
    if isinstance(error, MemoryError):
        return True
    torch = loaded_torch()
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text.lower())


def out_of_memory(message: str, hint: str = "", **details: Any) -> AudioError:
    return AudioError(
        message,
        code=ErrorCode.MUSICGEN_MEMORY,
        hint=hint or "Choose a smaller model, a shorter song or arrangement=full; or close what else uses the memory.",
        details=details,
    )


def free_memory() -> None:
    """Free unused memory: Python's reference cycles, torch's cached blocks on the GPU, the C library's free heap."""
    gc.collect()
    torch = loaded_torch()
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch is not None and torch.backends.mps.is_available():
        torch.mps.empty_cache()
    with suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)


def available_bytes(device: Any) -> int:
    """Return the bytes that can still be allocated on a torch device.

    On a CPU, within the limits of the process's control groups; on a GPU, torch's cached blocks included. Metal takes
    the machine's memory.
    """
    if device.type != "cuda":
        return available_memory()
    import torch  # noqa: PLC0415

    free: int = torch.cuda.mem_get_info(device)[0]
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
