"""Writes files durably or raises an error that says what to do; finds the folder of the package's state.

Owns how the package writes whole files, how it reports the operating system's errors, the default of `HARMONIA_HOME`,
and the environment in which a child process finds the package. Callers own file names and the order of writes.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harmonia_lab.errors import ErrorCode, StorageError

__all__ = [
    "cached_digest",
    "home_folder",
    "locked",
    "package_environment",
    "replace_bytes",
    "storage_error",
    "storage_errors",
    "write_bytes",
]


def home_folder() -> Path:
    """Return the folder of the run log and other state: `HARMONIA_HOME`, or the platform's per-user state folder."""
    given = os.environ.get("HARMONIA_HOME")
    if given:
        return Path(given).expanduser().absolute()
    import platformdirs  # noqa: PLC0415 - needed only without HARMONIA_HOME

    return platformdirs.user_state_path("harmonia-lab", appauthor=False)


def package_environment() -> dict[str, str]:
    """Return the environment in which a child process imports this very package, also from a checkout."""
    environment = dict(os.environ)
    root = Path(__file__).parent.parent
    if root.name not in {"site-packages", "dist-packages"}:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), environment.get("PYTHONPATH")]))
    return environment


def write_bytes(path: Path, data: bytes | bytearray | memoryview) -> None:
    """Write a file and wait until it is on the disk; if that fails, delete the part that was written.

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


@contextmanager
def locked(lock: Path, refusal: str) -> Iterator[None]:
    """Hold a lock file inside the block. The system releases it when this process ends, however that happens.

    Raises StorageError with the message `refusal` if another process holds it, or where it can't be written.
    """
    with storage_errors(lock):
        file = lock.open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StorageError(refusal, hint="Wait for its end, or name another folder.") from None
        yield


def replace_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: a reader, or a full disk, finds the file of before. Raises as `write_bytes`."""
    part = path.with_name(f".{path.name}.partial")
    write_bytes(part, data)
    with storage_errors(path):
        part.replace(path)


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
    """Turn an OSError from writing at `path` into a StorageError that says what to do."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, path) from error


def storage_error(error: OSError, path: Path) -> StorageError:
    """Return the StorageError for an operating system's error at `path`."""
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
