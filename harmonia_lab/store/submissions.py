"""How each generation was submitted, beside its request, and which processes exited while they made it.

Owns two tables of the journal's file: `submissions`, with which another process finds a song's folder and its engine,
and `deaths`. `journal_file.py` owns the file, its locks and transactions.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harmonia_lab.errors import StorageError
from harmonia_lab.store.journal_file import JournalFile

__all__ = ["MAX_DEATHS", "SUBMISSION_TABLES", "Submission", "Submissions"]

MAX_DEATHS = 2
"""Processes that may die while they make one song, before it is quarantined."""

SUBMISSION_TABLES = """
CREATE TABLE submissions (
    generation TEXT PRIMARY KEY REFERENCES generations (id) ON DELETE CASCADE,
    songs TEXT NOT NULL, out TEXT, replaces INTEGER NOT NULL, audio TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX submissions_by_out ON submissions (out);
CREATE TABLE deaths (
    generation TEXT NOT NULL REFERENCES generations (id) ON DELETE CASCADE, process TEXT NOT NULL,
    PRIMARY KEY (generation, process)
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class Submission:
    """songs: the folder of songs. out: the song's own folder, if it has one; replaces: whether it takes the place of
    what is there. audio: the audio engine, where it isn't the lab's: its name, or the identity of one that was given as
    an object."""

    songs: Path
    out: Path | None = None
    replaces: bool = False
    audio: str | Mapping[str, Any] | None = None


class Submissions:
    """Every method may be called from any thread. Each raises StorageError if the journal can't be read or written."""

    def __init__(self, file: JournalFile) -> None:
        self._file = file

    def add(self, database: sqlite3.Connection, generation_id: str, submission: Submission) -> None:
        """Write down how a generation that begins was submitted, in a transaction of the caller's."""
        out = None if submission.out is None else str(submission.out)
        audio = json.dumps(submission.audio, ensure_ascii=False, default=str)
        values = (generation_id, str(submission.songs), out, submission.replaces, audio)
        database.execute("INSERT INTO submissions VALUES (?, ?, ?, ?, ?)", values)

    def of(self, generation_id: str) -> Submission | None:
        """Return how the generation was submitted; None if an older version of Harmonia Lab made it."""
        query = "SELECT songs, out, replaces, audio FROM submissions WHERE generation = ?"
        for songs, out, replaces, audio in self._file.read(query, (generation_id,)):
            try:
                return Submission(Path(songs), None if out is None else Path(out), bool(replaces), json.loads(audio))
            except (ValueError, TypeError) as error:
                raise StorageError(f"In {self._file.path}, how {generation_id} was submitted is damaged.") from error
        return None

    def latest_in(self, out: Path) -> str | None:
        """Return the generation that was last submitted for the folder `out`; None if there was none."""
        query = (
            "SELECT generation FROM submissions JOIN generations ON id = generation WHERE out = ?"
            " ORDER BY created_at DESC, id DESC LIMIT 1"
        )
        return next((generation_id for (generation_id,) in self._file.read(query, (str(out),))), None)

    def deaths(self, generation_id: str) -> int:
        """Return how many processes died while they made the song, since `forgive`."""
        ((count,),) = self._file.read("SELECT count(*) FROM deaths WHERE generation = ?", (generation_id,))
        return int(count)

    def died(self, generation_id: str, process: str) -> int:
        """Write down that `process`, one of another machine, died while it made the song. Return how many did."""
        with self._file.writing() as database:
            database.execute("INSERT OR IGNORE INTO deaths VALUES (?, ?)", (generation_id, process))
        return self.deaths(generation_id)

    def forgive(self, generation_id: str) -> None:
        """Forget those processes, so that a song in quarantine can be tried again."""
        with self._file.writing() as database:
            database.execute("DELETE FROM deaths WHERE generation = ?", (generation_id,))
