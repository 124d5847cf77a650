"""How much memory this process uses now, in words. Owns no peaks: `engines/probes.py` measures them."""

from __future__ import annotations

import os

import psutil

from harmonia_lab.engines.probes import loaded_torch
from harmonia_lab.engines.process_tree import descendants, rss_bytes

__all__ = ["memory_now"]


def memory_now() -> str:
    """Return the memory that this process and its children use, and the machine's; the GPU's too where torch uses one.

    The GPU's figure is the use of the whole device by all processes.
    """
    used = rss_bytes([os.getpid(), *descendants(os.getpid())])
    words = f"memory {_gigabytes(used)} of {_gigabytes(psutil.virtual_memory().total)}"
    torch = loaded_torch()
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        free, total = torch.cuda.mem_get_info()
        words += f" · GPU {_gigabytes(total - free)} of {_gigabytes(total)}"
    elif torch is not None and torch.backends.mps.is_available():  # it shares the machine's memory
        words += f" · Metal {_gigabytes(torch.mps.driver_allocated_memory())}"
    return words


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
