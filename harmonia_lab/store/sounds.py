"""Sounds that a server's users have uploaded, for a song to follow or to continue.

Owns the folder `sounds` in the home folder: one folder for each user, named by a digest of the user's name, with a
file for each sound, named by its id. All are for this system's user alone. What an upload is checked for, and how much
a user may have, is decided in `server/sounds.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harmonia_lab import storage
from harmonia_lab.errors import ErrorCode, Refused
from harmonia_lab.storage import cached_digest, storage_errors

__all__ = ["Sounds", "StoredSound"]

_ID = re.compile(r"sound-[0-9a-f]{24}")
PART = ".partial"

KEPT_S = 7 * 86_400.0
"""Seconds after which a sound is deleted that no song has named since: time enough to try a failed song again."""

ABANDONED_S = 3600.0
"""Seconds after which a part of an upload is one that a killed process left."""


@dataclass(frozen=True)
class StoredSound:
    """size: bytes. kept_until: `KEPT_S` after it was uploaded or a song last named it."""

    id: str
    path: Path
    size: int
    kept_until: datetime


class Sounds:
    """Every method may be called from any thread, and by several processes with one home."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def part(self, user: str) -> Path:
        """Return the file to write an upload to. Raises StorageError."""
        home = self._of(user)
        with storage_errors(home):
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            for folder in (self._folder, home):
                folder.mkdir(mode=0o700, exist_ok=True)
        return home / f"sound-{secrets.token_hex(12)}{PART}"

    def keep(self, part: Path) -> StoredSound:
        """Keep an upload that is whole and was checked. Raises StorageError."""
        path = part.with_suffix("")
        storage.move(part, path)
        return _stored(path)

    def add(self, user: str, source: Path) -> str:
        """Keep a copy of a file of this machine's, once, and return its id. Raises StorageError."""
        part = self.part(user)
        with storage_errors(source):
            sound_id = f"sound-{cached_digest(source)[:24]}"
        try:
            with storage.changing(part):
                shutil.copyfile(source, part)
                part.chmod(0o600)
            storage.move(part, part.with_name(sound_id))
        finally:
            part.unlink(missing_ok=True)
        return sound_id

    def of(self, user: str) -> list[StoredSound]:
        """Return the user's sounds, the latest first."""
        return sorted(_sounds_in(self._of(user)), key=lambda each: each.kept_until, reverse=True)

    def use(self, user: str, sound_id: str) -> Path:
        """Return the file of one of the user's sounds, which is kept from now on as if it had just come.

        Raises Refused (NOT_FOUND) for any other id.
        """
        path = self._path(user, sound_id)
        with contextlib.suppress(OSError):
            path.touch()
        return path

    def remove(self, user: str, sound_id: str) -> None:
        """Delete one of the user's sounds. Raises Refused (NOT_FOUND) for any other id, StorageError."""
        path = self._path(user, sound_id)
        with storage.changing(path):
            path.unlink(missing_ok=True)

    def clean(self) -> int:
        """Delete every user's sounds that are older than `KEPT_S`, and what killed processes left of uploads. Return
        how many files."""
        now, removed = time.time(), 0
        with contextlib.suppress(OSError):
            for path in self._folder.glob("*/sound-*"):
                if now - path.stat().st_mtime > (ABANDONED_S if path.suffix == PART else KEPT_S):
                    path.unlink(missing_ok=True)
                    removed += 1
        return removed

    def _path(self, user: str, sound_id: str) -> Path:
        path = self._of(user) / sound_id
        if not _ID.fullmatch(sound_id) or not path.is_file():
            raise Refused(
                f"There is no sound {sound_id[:40]!r}.",
                code=ErrorCode.NOT_FOUND,
                hint="Upload it (POST /api/sounds), and send the id of the answer.",
            )
        return path

    def _of(self, user: str) -> Path:
        return self._folder / hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _sounds_in(home: Path) -> Iterator[StoredSound]:
    try:
        paths = list(home.iterdir())
    except OSError:  # the user has none
        return
    for path in paths:
        if _ID.fullmatch(path.name):
            with contextlib.suppress(OSError):  # deleted meanwhile
                yield _stored(path)


def _stored(path: Path) -> StoredSound:
    stat = path.stat()
    return StoredSound(path.name, path, stat.st_size, datetime.fromtimestamp(stat.st_mtime + KEPT_S, UTC))
