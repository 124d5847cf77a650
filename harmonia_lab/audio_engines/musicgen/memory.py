"""MusicGen and memory: how much a song needs, how a lack of it is recognised, and what is tried then.

Owns the order of the attempts. Who makes them is `engine.py`.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil

from harmonia_lab.engines.probes import loaded_torch
from harmonia_lab.errors import AudioError, ErrorCode

__all__ = ["Effort", "available_bytes", "efforts", "free_memory", "is_out_of_memory", "out_of_memory"]

SHORTEST_WINDOW_S = 10.0
"""Below that, too little of the past is heard for the music to hang together."""


@dataclass(frozen=True)
class Effort:
    """One way to try. batch: prompts generated at once. window_s: seconds that the model hears at once.

    on_cpu: on the CPU, whatever device was chosen. action: what is different this time, as a status; "" for the first.
    """

    batch: int
    window_s: float
    on_cpu: bool = False
    action: str = ""


def efforts(prompts: int, window_s: float, *, on_gpu: bool) -> Iterator[Effort]:
    """First as it should be; then, while memory is lacking, again after freeing what can be freed, with half the batch
    down to one, with a shorter window (its memory of the past is what grows), and at last on the CPU."""
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
    """Whether Python, torch on the CPU or torch on a GPU says that there is no memory left."""
    if isinstance(error, MemoryError):
        return True
    torch = loaded_torch()
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text.lower())


def out_of_memory(message: str, **details: Any) -> AudioError:
    return AudioError(
        message,
        code=ErrorCode.MUSICGEN_MEMORY,
        hint="Choose a smaller model, a shorter song or arrangement=full; or close what else uses the memory.",
        details=details,
    )


def free_memory() -> None:
    """Gives back what nobody uses: Python's cycles, torch's cached blocks on the GPU, the C library's free heap."""
    gc.collect()
    torch = loaded_torch()
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    with suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)


def available_bytes(device: Any) -> int:
    """What can still be had on a torch device; on a GPU with the blocks that torch holds for reuse."""
    if device.type != "cuda":
        return int(psutil.virtual_memory().available)
    import torch  # noqa: PLC0415

    free: int = torch.cuda.mem_get_info(device)[0]
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
