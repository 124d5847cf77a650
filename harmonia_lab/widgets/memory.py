"""How much memory this process uses now, in words. Owns no peaks: those are `engines/probes.py`'s, and the log's."""

from __future__ import annotations

import psutil

from harmonia_lab.engines.probes import loaded_torch

__all__ = ["memory_now"]


def memory_now() -> str:
    """Used by this process with its children, of all there is; and of the GPU, by everybody, where torch uses one."""
    me = psutil.Process()
    used = me.memory_info().rss
    for child in me.children(recursive=True):
        try:
            used += child.memory_info().rss
        except psutil.Error:
            continue  # it ended in between
    words = f"memory {_gigabytes(used)} of {_gigabytes(psutil.virtual_memory().total)}"
    torch = loaded_torch()
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        free, total = torch.cuda.mem_get_info()
        words += f" · GPU {_gigabytes(total - free)} of {_gigabytes(total)}"
    return words


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
