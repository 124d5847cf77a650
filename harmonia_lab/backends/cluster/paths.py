"""Paths of the lab's machine that a worker is told: believed where the same file or folder is there.

Owns what is compared: names and sizes, and what is in small files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harmonia_lab.errors import AudioError, ErrorCode

__all__ = ["check_paths", "paths_in", "stamp"]

SMALL_BYTES = 2**16
"""Up to this size, the content counts; of larger files, the first as many bytes."""


def stamp(path: Path) -> str | None:
    """Return what tells a file or a folder from others; None if there is nothing at the path."""
    digest = hashlib.sha256()
    try:
        files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
        for file in files:
            digest.update(f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode())
            with file.open("rb") as content:
                digest.update(content.read(SMALL_BYTES))
    except OSError:
        return None
    return digest.hexdigest() if files else None


def paths_in(value: Any) -> dict[str, str]:
    """Return path → stamp of each text in JSON values that names an absolute path which is here."""
    return {text: found for text in set(_texts(value)) if (found := stamp(Path(text))) is not None}


def check_paths(paths: Mapping[str, str]) -> None:
    """Raise AudioError (AUDIO_UNAVAILABLE) for a path that is another thing here, or nothing."""
    for path, expected in paths.items():
        if stamp(Path(path)) != expected:
            raise AudioError(
                f"{path} of the lab's machine is not the same on this worker.",
                code=ErrorCode.AUDIO_UNAVAILABLE,
                hint="Put it at the same path on every worker, or name a model by its name.",
                details={"path": path},
            )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if len(value) < 4096 and "\0" not in value and Path(value).is_absolute():
            yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
