"""How much memory this process can still have: the machine's, and the limits of its control groups.

Owns the reading of `/proc` and `/sys/fs/cgroup` (the kernel's cgroup-v2 and cgroup-v1 documents). A container or a
cluster's job has less than the machine; psutil tells the machine's alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil

__all__ = ["available_memory"]

_ROOT = Path("/sys/fs/cgroup")


def available_memory(own_groups: Path = Path("/proc/self/cgroup"), root: Path = _ROOT) -> int:
    """Return bytes: the least of what the machine has available and what each control group leaves.

    own_groups, root: where the kernel lists the process's groups, and where it shows them.
    """
    return max(0, min([int(psutil.virtual_memory().available), *_left(own_groups, root)]))


def _left(own_groups: Path, root: Path) -> Iterator[int]:
    try:
        lines = own_groups.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "memory" if controllers else root
        names = (
            ("memory.max", "memory.current") if not controllers else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        )
        group = top / path.lstrip("/")
        # In a container, the path may be the host's: what is mounted at the top is then this group.
        for folder in dict.fromkeys([group, *group.parents, top]):
            if folder == top or top in folder.parents:
                yield from _left_in(folder, *names)


def _left_in(folder: Path, limit_name: str, usage_name: str) -> Iterator[int]:
    try:
        limit, usage = (
            (folder / limit_name).read_text(encoding="utf-8").strip(),
            int((folder / usage_name).read_text(encoding="utf-8")),
        )
        fields = dict(
            line.split()
            for line in (folder / "memory.stat").read_text(encoding="utf-8").splitlines()
            if line.count(" ") == 1
        )
    except (OSError, ValueError):
        return
    if limit.isdigit() and int(limit) < 2**60:  # version 1 writes "no limit" as a number near 2**63
        reclaimable = int(fields.get("total_inactive_file", fields.get("inactive_file", 0)))
        yield int(limit) - usage + reclaimable
