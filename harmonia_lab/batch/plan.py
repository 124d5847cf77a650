"""What a batch has to do: which rows have their song, which ask for the same one, which can't be made, which are to be.

Owns that decision, which is taken for the whole table before the first song. It reads, and writes nothing; no model is
loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harmonia_lab.batch.identity import EngineNames, RowIdentities, RowIdentity
from harmonia_lab.batch.pace import Asked, Pace
from harmonia_lab.batch.report import Outcome, Writer
from harmonia_lab.batch.rows import Row
from harmonia_lab.batch.songs import engine_of, song_of
from harmonia_lab.errors import HarmoniaError, InvalidRequest
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.storage import storage_errors

__all__ = ["BatchPlan", "Task", "is_song_of"]


@dataclass(frozen=True)
class Task:
    """A song to make in `folder`. replaces: whether another one is there, to be moved aside when this one is whole."""

    identity: RowIdentity
    folder: Path
    replaces: bool = False

    @property
    def asked(self) -> Asked:
        request = self.identity.request
        return request.metadata is None, str(self.identity.engines["audio"]["engine"]), request.seconds


class BatchPlan:
    """outcomes: one a row, in order: kept, failed, or waiting. tasks: index of a row → the song that it waits for; a
    row that waits and has no task waits for the song of row `same_as`. pace: of the songs that are there."""

    def __init__(
        self, lab: EngineNames, writer: Writer | None, table: list[Row], out: Path | None, *, remake: bool
    ) -> None:
        """writer: the engine that writes words now; None if no row needs one. out: None: there are no songs. remake:
        not to keep a song whose words another engine wrote, or which is damaged."""
        self._out, self._writer, self._remake = out, writer, remake
        self._there = _names_in(out)
        self._identities = RowIdentities(lab)
        self._first: dict[str, int] = {}
        self.outcomes: list[Outcome] = []
        self.tasks: dict[int, Task] = {}
        self.pace = Pace()
        for index, row in enumerate(table):
            self.outcomes.append(self._outcome(index, row))

    def _outcome(self, index: int, row: Row) -> Outcome:
        try:
            identity = self._identities.of(row)
            if identity.digest in self._first:
                earlier = self.outcomes[self._first[identity.digest]]
                return replace(earlier, row=row, same_as=earlier.row.number)
            self._first[identity.digest] = index
            song, task = self._found(identity)
            if task is not None and identity.request.metadata is None and self._writer and self._writer.error:
                raise self._writer.error
        except HarmoniaError as error:
            return Outcome(row, "failed", error=error)
        if song is not None:
            self.pace.add(song)
            return Outcome(row, "kept", song=song)
        if task is not None:
            self.tasks[index] = task
        return Outcome(row)

    def _found(self, identity: RowIdentity) -> tuple[dict[str, Any] | None, Task | None]:
        """Return the song that is kept, or the task. Raises InvalidRequest where a folder is in the way."""
        out = self._out or Path()
        for name, writer in identity.folders.items():
            song = song_of(out / name, out) if name in self._there else None
            if song is None or not is_song_of(out / name, identity):
                continue
            by = engine_of(song, "metadata")
            if writer not in ("", by):
                continue
            if self._remake and self._writer and by not in (self._writer.engine, "given"):
                same_seed = identity.request.model_copy(update={"seed": song["seed"]})
                return None, Task(replace(identity, request=same_seed), out / name, replaces=True)
            return song, None
        folder = out / next(iter(identity.folders))
        taken = folder.name in self._there and _is_taken(folder)
        if taken and not (self._remake and folder.is_dir()):
            raise InvalidRequest(
                f"{folder} is there already, and {_why_not(folder, out, identity)}.",
                hint="Rename or remove it, and the next run makes the song; --remake (remake=True) moves it aside.",
            )
        return None, Task(identity, folder, replaces=taken)


def is_song_of(folder: Path, identity: RowIdentity) -> bool:
    """Return whether the whole song in `folder`, one of the row's, is the row's. A digest in the folder's name says so;
    a name that a person chose doesn't."""
    return not identity.named or not identity.differs(read_record(folder))


def _names_in(out: Path | None) -> frozenset[str]:
    """Return what the folder holds: one look, where a table may have ten thousand rows. Raises StorageError."""
    if out is None or not out.is_dir():
        return frozenset()
    with storage_errors(out):
        return frozenset(path.name for path in out.iterdir())


def _is_taken(folder: Path) -> bool:
    """Raises StorageError."""
    with storage_errors(folder):
        return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))


def _why_not(folder: Path, out: Path, identity: RowIdentity) -> str:
    if song_of(folder, out) is None:
        return "is no whole song"
    fields = ", ".join(f"another {name}" for name in identity.differs(read_record(folder)))
    return f"has the song of another row, or of this row as it was before ({fields})"
