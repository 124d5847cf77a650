"""Changes files durably or raises an error that says what to do; finds the folder of the package's state.

Owns how the package writes, moves and deletes whole files and folders, how it reports the operating system's errors,
the default of `HARMONIA_HOME`, and the environment in which a child process finds the package. Callers own file names
and the order of writes.

Every change of a song's folder, of the journal and of the run log passes through `changing`, one change at a time: what
a crash leaves is the state before or after one of them.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harmonia_lab import locks
from harmonia_lab.errors import ErrorCode, StorageError
from harmonia_lab.file_names import beside

__all__ = [
    "absolute",
    "cached_digest",
    "changing",
    "expanded",
    "home_folder",
    "locked",
    "make_folder",
    "move",
    "open_private",
    "others_may_read",
    "package_environment",
    "read_at",
    "remove_tree",
    "replace",
    "replace_bytes",
    "storage_error",
    "storage_errors",
    "write_at",
    "write_bytes",
]

PATIENCE_S = 3.0
"""Seconds that a file is waited for which another program has open, where that keeps it from being moved (Windows): a
virus scanner, a search index or a preview is done by then."""

_RETRY_S = 0.05
_IN_USE = (5, 32, 33)
"""Windows' errors for it: ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION."""

_BINARY = getattr(os, "O_BINARY", 0)  # without it, Windows writes a line's end as two bytes
_CHOOSE_FOLDER = "Choose a folder that you may write to."


def home_folder() -> Path:
    """Return the folder of the run log and other state: `HARMONIA_HOME`, or the platform's per-user state folder.

    Raises StorageError for an account without a home, which has neither.
    """
    given = os.environ.get("HARMONIA_HOME")
    if given:
        return absolute(given)
    import platformdirs  # noqa: PLC0415 - needed only without HARMONIA_HOME

    try:
        found = platformdirs.user_state_path("harmonia-lab", appauthor=False)
    except RuntimeError:  # older versions return a relative path instead
        found = Path("~/.local/state/harmonia-lab")
    if not found.is_absolute():
        raise _homeless(str(found))
    return found


def absolute(path: Path | str) -> Path:
    """Return an absolute path, with `~` as the account's home. Raises StorageError where the account has none."""
    return expanded(path).absolute()


def expanded(path: Path | str) -> Path:
    """Return the path with `~` as the account's home, `~name` as another's. Raises StorageError where there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise _homeless(str(path)) from None


def _homeless(path: str) -> StorageError:
    account = re.match(r"~([^/\\]*)", path)
    who = (
        f"There is no account {account[1]}" if account is not None and account[1] else "This account has no home folder"
    )
    return StorageError(
        f"{who}, so {path} is nowhere.",
        hint="Set HARMONIA_HOME to a folder that you may write to, and name folders without ~ (or set HOME).",
        details={"path": path},
    )


def package_environment() -> dict[str, str]:
    """Return the environment in which a child process imports this very package, also from a checkout."""
    environment = dict(os.environ)
    root = Path(__file__).parent.parent
    if root.name not in {"site-packages", "dist-packages"}:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), environment.get("PYTHONPATH")]))
    return environment


@contextmanager
def changing(path: Path) -> Iterator[None]:
    """Surround one change of what is on the disk: a file written, moved or deleted, a transaction of the journal.

    `path` is what changes. A test that replaces this function sees the state before and after each change, so callers
    name it as `storage.changing`. Raises StorageError for an OSError inside.
    """
    with storage_errors(path):
        yield


def write_bytes(path: Path, data: bytes | bytearray | memoryview) -> None:
    """Write a file and wait until it is on the disk; if that fails, delete the part that was written.

    In a folder that only its user can read, the file is for that user alone, too. Raises StorageError: STORAGE_FULL,
    STORAGE_UNWRITABLE.
    """
    with changing(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, 0o666 & _permissions(path.parent))
        with os.fdopen(descriptor, "wb") as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                path.unlink(missing_ok=True)
                raise


def open_private(path: Path, flags: int) -> int:
    """Return the descriptor of a file, in bytes on every system. If it isn't there, it is made, for this user alone.

    flags: of `os.open`. Raises OSError.
    """
    return os.open(path, flags | os.O_CREAT | _BINARY, 0o600)


def make_folder(path: Path, *, private: bool = False, exist_ok: bool = False) -> None:
    """Make a folder, which may be private to its user; in such a folder every one is. Its parents must be there.

    A folder that is there stays as it is. Raises StorageError.
    """
    with changing(path):
        path.mkdir(mode=0o700 if private else 0o777 & _permissions(path.parent), exist_ok=exist_ok)


def move(path: Path, to: Path) -> None:
    """Rename a file or folder in one step, and wait until that is on the disk. `to` may be an empty folder.

    Raises StorageError; then nothing has moved.
    """
    with changing(to):
        if path.is_dir():
            _sync_folder(path)
        try:
            _patiently(path.rename, to)
        except FileExistsError:  # Windows moves nothing to where anything is
            to.rmdir()  # raises OSError for one that isn't empty
            _patiently(path.rename, to)
        for parent in {path.parent, to.parent}:
            _sync_folder(parent)


def remove_tree(path: Path) -> None:
    """Delete a folder with all that is in it, as far as that is possible. Do nothing if there is none."""
    if path.exists():
        with changing(path):
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def locked(lock: Path, refusal: str) -> Iterator[None]:
    """Hold a lock file inside the block. The system releases it when this process ends, however that happens.

    Raises StorageError with the message `refusal` if another process holds it, or where it can't be written.
    """
    with ExitStack() as stack:
        with storage_errors(lock):
            ours = stack.enter_context(locks.held(lock, wait=False))
        if not ours:
            raise StorageError(refusal, hint="Wait for its end, or name another folder.")
        yield


def replace_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: a reader, or a full disk, finds the file of before. Raises as `write_bytes`."""
    part = beside(path, ".partial")
    write_bytes(part, data)
    with changing(path):
        try:
            replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def replace(path: Path, to: Path) -> None:
    """Move a file to `to`, in place of what is there, in one step. Where a file that is open can't be replaced, it is
    tried for PATIENCE_S. Raises OSError."""
    _patiently(path.replace, to)


def _patiently(move: Callable[[Path], object], to: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            move(to)
        except PermissionError as error:
            if getattr(error, "winerror", None) not in _IN_USE or time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_S)
        else:
            return


def read_at(descriptor: int, count: int, offset: int) -> bytes:
    """Return up to `count` bytes of an open file from `offset` on. Its own position stays as it is."""
    if sys.platform != "win32":
        return os.pread(descriptor, count, offset)
    back = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, offset, os.SEEK_SET)
    found = os.read(descriptor, count)
    os.lseek(descriptor, back, os.SEEK_SET)
    return found


def write_at(descriptor: int, data: bytes, offset: int) -> int:
    """Write into an open file from `offset` on, and return how many bytes were written. No other thread may use the
    descriptor meanwhile: on Windows, this moves its position."""
    if sys.platform != "win32":
        return os.pwrite(descriptor, data, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.write(descriptor, data)


def others_may_read(path: Path) -> bool:
    """Return whether the file's mode lets other accounts read it. On Windows no mode tells, and the answer is False:
    there a file is as private as its folder, and those in a person's profile are theirs alone."""
    return sys.platform != "win32" and bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))


def _permissions(folder: Path) -> int:
    """Return the permission bits of a folder."""
    return folder.stat().st_mode & 0o777


def _sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the file system can tell."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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
    hint = "Set HARMONIA_HOME to a folder that you may write to." if _in_home(path) else _CHOOSE_FOLDER
    if error.errno == errno.ENOENT and not path.parent.exists():
        reason = f"there is no folder {path.parent}"
    elif getattr(error, "winerror", None) in _IN_USE[1:]:
        reason, hint = "another program has it open", "Close it there, and try again."
    else:
        reason = (error.strerror or str(error)).lower()
    return StorageError(
        f"{path} cannot be written: {reason}.",
        code=ErrorCode.STORAGE_UNWRITABLE,
        hint=hint,
        details={"path": str(path)},
    )


def _in_home(path: Path) -> bool:
    with contextlib.suppress(StorageError):
        return path.is_relative_to(home_folder())
    return False
