"""How many cores this process may use, as each system tells it. Owns nothing else; imports nothing heavy."""

from __future__ import annotations

import os
import sys

__all__ = ["usable_cores"]


def usable_cores() -> int:
    """Return the number of logical cores that this process may run on; where the system doesn't limit processes to
    some (macOS), of all."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    if sys.platform == "win32":
        import psutil  # noqa: PLC0415 - not needed on the others

        return len(psutil.Process().cpu_affinity() or ()) or 1
    return os.cpu_count() or 1
