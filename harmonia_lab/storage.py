"""Bytes on a disk, for good or with an error that says what to do; and the folder where state lives.

Owns the one way in which the package writes whole files, what the operating system's refusals are called, the place of
`HARMONIA_HOME`, and where a child process finds the package. Which files there are, and in which order they appear, is
the business of whoever calls.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harmonia_lab.errors import ErrorCode, StorageError

__all__ = ["cached_digest", "home_folder", "package_environment", "storage_error", "storage_errors", "write_bytes"]


def home_folder() -> Path:
    """Where the run log and learnt state live: `HARMONIA_HOME`, or the per-user state folder of the platform."""
    given = os.environ.get("HARMONIA_HOME")
    if given:
        return Path(given).expanduser().absolute()
    import platformdirs  # noqa: PLC0415 - only needed where nothing is set

    return platformdirs.user_state_path("harmonia-lab", appauthor=False)


def package_environment() -> dict[str, str]:
    """The environment in which a child process finds this very package, also where it is not installed (a checkout)."""
    environment = dict(os.environ)
    root = Path(__file__).parent.parent
    if root.name not in {"site-packages", "dist-packages"}:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), environment.get("PYTHONPATH")]))
    return environment


def write_bytes(path: Path, data: bytes | bytearray | memoryview) -> None:
    """Write a file and wait until it is on the disk; where that fails, nothing half-written stays.

    Raises StorageError: STORAGE_FULL, STORAGE_UNWRITABLE.
    """
    with storage_errors(path), path.open("wb") as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def cached_digest(path: Path) -> str:
    """Return the file's SHA-256, hex. It is read again only when its size or time has changed. Raises OSError.

    For files that engines read (sound banks, models), not for those that a song's record is checked against.
    """
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=32)
def _digest(path: Path, _size: int, _mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns an OSError from writing at `path` into the StorageError that says what to do."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, path) from error


def storage_error(error: OSError, path: Path) -> StorageError:
    """The StorageError for what the operating system said about `path`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"The disk is full: {path} could not be written.",
            code=ErrorCode.STORAGE_FULL,
            hint=f"Free some space there, or choose a folder on another disk (df -h {path.parent}).",
            details={"path": str(path)},
        )
    if error.errno == errno.ENOENT and not path.parent.exists():
        reason = f"there is no folder {path.parent}"
    else:
        reason = (error.strerror or str(error)).lower()
    return StorageError(
        f"{path} cannot be written: {reason}.",
        code=ErrorCode.STORAGE_UNWRITABLE,
        hint="Set HARMONIA_HOME to a folder that you may write to."
        if path.is_relative_to(home_folder())
        else "Choose a folder that you may write to.",
        details={"path": str(path)},
    )
