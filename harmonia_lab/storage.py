"""What the operating system's file errors mean to a user, and the folder where state lives.

Owns the mapping from OSError to StorageError and the place of `HARMONIA_HOME`. It writes nothing itself.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harmonia_lab.errors import ErrorCode, StorageError

__all__ = ["home_folder", "storage_errors"]


def home_folder() -> Path:
    """Where the run log and learnt state live: `HARMONIA_HOME`, or the per-user state folder of the platform."""
    given = os.environ.get("HARMONIA_HOME")
    if given:
        return Path(given).expanduser().absolute()
    import platformdirs  # noqa: PLC0415 - only needed where nothing is set

    return platformdirs.user_state_path("harmonia-lab", appauthor=False)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns an OSError from writing at `path` into a StorageError that says what to do."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        details = {"path": str(where), "errno": errno.errorcode.get(error.errno or 0, "")}
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageError(
                f"The disk is full: {where} could not be written.",
                code=ErrorCode.STORAGE_FULL,
                hint="Free some space, or choose a folder on another disk.",
                details=details,
            ) from error
        raise StorageError(
            f"{where} cannot be written: {error.strerror or error}.",
            hint="Choose another folder, or change the permissions of this one.",
            details=details,
        ) from error
