"""What is kept of songs and of the journal, and for how long: what is deleted, and why.

Owns the rules and the deletions, in the folder of songs alone: finished songs, oldest first, and what dead processes
left there. A folder at which a process works is never deleted (`locks.lock_folder`), nor is one that holds anything
which is no song's, nor one that is a link. Songs in folders of their own (`out=`), batches and studies are their
maker's.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from harmonia_lab import locks, storage
from harmonia_lab.errors import HarmoniaError, InvalidRequest
from harmonia_lab.file_names import beside
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.protocol.models import iso_time, utc_now
from harmonia_lab.store.journal import KEPT_GENERATIONS
from harmonia_lab.store.journal_core import JournalCore

__all__ = ["Deletion", "Housekeeping", "Retention", "StoredFolder", "clean", "last_change", "stored_folders"]

SWEPT_AFTER_S = 86_400.0
"""Age of a folder that a dead process left with nothing of use in it, before it is deleted."""

FRESH_S = 600.0
"""A song that is younger is not deleted by itself: whoever asked for it must have the time to fetch it."""

_PARTIAL = re.compile(r"\.?.+\.partial-(?P<id>.{1,8})", re.DOTALL)
_DELETED = re.compile(r"\..+\.deleted", re.DOTALL)
_PARTS = {
    "song.flac", "song.mid", "overview.png", "lyrics.txt", "metadata.json", "plan.json", "transcript.jsonl", "run.json",
    "stems", "finished",
}  # fmt: skip
_OF_USE = ("metadata.json", "finished/stage-1.json", "finished/*/*.wav", "stems/*.flac", "song.flac")

StoredKind = Literal["song", "partial", "deleted"]


@dataclass(frozen=True)
class Retention:
    """Limits; None is no limit. max_songs, max_days, max_bytes: of the folder of songs: how many finished songs, their
    age, and the space of all that is in it. Beyond these, the oldest are deleted. journal_generations, journal_days:
    ended generations that the journal keeps, and their age; a song's folder stays when its generation is deleted."""

    max_songs: int | None = None
    max_days: float | None = None
    max_bytes: int | None = None
    journal_generations: int = KEPT_GENERATIONS
    journal_days: float | None = None

    def __post_init__(self) -> None:
        """Raise InvalidRequest for a number below 0."""
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None and not value >= 0:
                raise InvalidRequest(f"{each.name} must be 0 or more.", details={"fields": [each.name]})


@dataclass(frozen=True)
class StoredFolder:
    """size: bytes of its files. changed_at: seconds since 1970; of a song, when it was finished."""

    path: Path
    kind: StoredKind
    size: int
    changed_at: float


@dataclass(frozen=True)
class Deletion:
    folder: StoredFolder
    reason: str


@dataclass
class Housekeeping:
    """What `clean` has done, or would do. kept: folders that stay. left: why a folder stays that should have gone.
    generations: how many the journal has deleted."""

    deleted: list[Deletion] = field(default_factory=list)
    kept: list[StoredFolder] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    generations: int = 0


def clean(
    songs: Path, journal: JournalCore, retention: Retention, *, fresh_s: float = 0.0, dry_run: bool = False
) -> Housekeeping:
    """Delete what `retention` doesn't keep, and what dead processes left that is of no use. Return what was done.

    fresh_s: seconds for which a finished song stays in any case. dry_run: delete nothing. Raises StorageError if the
    journal can't be read or written, or the folder can't be read.
    """
    done = Housekeeping()
    busy = {generation_id[:8] for generation_id in journal.unfinished()}
    stored = sorted(stored_folders(songs), key=lambda folder: folder.changed_at)
    for deletion in _chosen(stored, retention, time.time(), fresh_s):
        why_not = _why_not(deletion.folder, busy)
        if why_not is None and not dry_run:
            why_not = _delete(deletion.folder)
        if why_not is None:
            done.deleted.append(deletion)
        else:
            done.left.append(f"{deletion.folder.path.name}: {why_not}")
    gone = {deletion.folder.path for deletion in done.deleted}
    done.kept = [folder for folder in stored if folder.path not in gone]
    before = None
    if retention.journal_days is not None:
        before = iso_time(utc_now() - timedelta(days=retention.journal_days))
    done.generations = journal.prune(retention.journal_generations, before, dry_run=dry_run)
    if done.generations > 1000 and not dry_run:
        journal.shrink()
    return done


def stored_folders(songs: Path) -> Iterator[StoredFolder]:
    """Yield the finished songs, and what was left of others, directly in the folder of songs. Raises StorageError."""
    with storage.storage_errors(songs):
        entries = sorted(os.scandir(songs), key=lambda entry: entry.name) if songs.is_dir() else []
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            continue
        path, kind = Path(entry.path), _kind(Path(entry.path))
        if kind is not None:
            try:
                files = [file.lstat() for file in path.rglob("*")]
                newest = max((file.st_mtime for file in files), default=entry.stat().st_mtime)
                changed_at = (path / "run.json").stat().st_mtime if kind == "song" else newest
            except OSError:  # it is published, or deleted, meanwhile
                continue
            yield StoredFolder(path, kind, sum(map(_size_on_disk, files)), changed_at)


def _size_on_disk(file: os.stat_result) -> int:
    """Return bytes: where the system counts no blocks (Windows), the file's length."""
    if sys.platform == "win32":
        return file.st_size
    return file.st_blocks * 512


def _kind(path: Path) -> StoredKind | None:
    if _DELETED.fullmatch(path.name):
        return "deleted"
    if _PARTIAL.fullmatch(path.name):
        return "partial"
    return "song" if (path / "run.json").is_file() else None


def _chosen(stored: list[StoredFolder], retention: Retention, now: float, fresh_s: float) -> Iterator[Deletion]:
    """Yield what is to be deleted. stored: the oldest first."""
    left = []
    for folder in stored:
        days = (now - folder.changed_at) / 86_400
        if folder.kind == "deleted":
            yield Deletion(folder, "its deletion was interrupted")
        elif folder.kind == "partial" and days * 86_400 > SWEPT_AFTER_S and not _is_of_use(folder.path):
            yield Deletion(folder, "left by a process that has exited, with nothing of use in it")
        elif retention.max_days is not None and days > retention.max_days and days * 86_400 >= fresh_s:
            yield Deletion(folder, f"older than {retention.max_days:g} days")
        else:
            left.append(folder)
    songs = [folder for folder in left if folder.kind == "song"]
    size = sum(folder.size for folder in left)
    count = len(songs)
    for folder in left:
        if now - folder.changed_at < fresh_s:
            return
        too_many = retention.max_songs is not None and folder.kind == "song" and count > retention.max_songs
        if too_many:
            yield Deletion(folder, f"more than {retention.max_songs} songs")
        elif retention.max_bytes is not None and size > retention.max_bytes:
            yield Deletion(folder, f"more than {retention.max_bytes:,} bytes")
        else:
            continue
        size -= folder.size
        count -= folder.kind == "song"


def _is_of_use(path: Path) -> bool:
    return any(found for pattern in _OF_USE for found in path.glob(pattern))


def _why_not(folder: StoredFolder, busy: Collection[str]) -> str | None:
    """Return why a folder must not be deleted; None if it may be."""
    path = folder.path
    if folder.kind == "song":
        try:
            read_record(path)
        except HarmoniaError as error:
            return error.message
    elif folder.kind == "partial":
        match = _PARTIAL.fullmatch(path.name)
        if match is not None and match["id"] in busy:
            return "its song waits, or is being made"
        foreign = sorted({entry.name for entry in path.iterdir()} - _PARTS)
        if foreign:
            return f"it holds {foreign[0]!r}, which is no song's"
        descriptor = locks.lock_folder(path)
        if descriptor < 0:
            return "a process works at it"
        os.close(descriptor)
    return None


def _delete(folder: StoredFolder) -> str | None:
    """Delete a folder; a crash in the middle leaves no half song. Return why that failed, or None."""
    aside = folder.path
    if folder.kind != "deleted":
        aside = beside(folder.path, ".deleted")
        try:
            storage.move(folder.path, aside)
        except HarmoniaError as error:
            return error.message
    storage.remove_tree(aside)
    return "it cannot be deleted whole" if aside.exists() else None


def last_change(folder: StoredFolder) -> str:
    """Return the day on which the folder was changed last, ISO 8601."""
    return datetime.fromtimestamp(folder.changed_at, UTC).date().isoformat()
