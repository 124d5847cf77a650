"""Names of files beside others: of working files, locks, what is put aside. Owns that file systems take them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["MOST_NAME_BYTES", "beside", "shortened"]

MOST_NAME_BYTES = 255
"""Most bytes of a name, in UTF-8: the limit of ext4, XFS and APFS. (NTFS takes 255 characters.)"""


def beside(path: Path, end: str) -> Path:
    """Return a hidden file beside `path`, which has its name, cut where it would be too long, and then `end`."""
    return path.with_name(f".{shortened(path.name.removeprefix('.'), len(end) + 1)}{end}")


def shortened(name: str, more: int) -> str:
    """Return as much of the name as leaves room for `more` bytes."""
    return name.encode()[: MOST_NAME_BYTES - more].decode(errors="ignore")
