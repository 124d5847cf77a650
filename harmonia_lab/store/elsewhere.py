"""Which generations another machine's server makes, while this journal keeps what was heard of them.

Owns one table of the journal's file. A generation in it doesn't end because the process that follows it has exited:
the server goes on with it, and the next process follows it (`Journal.left_elsewhere`).
"""

from __future__ import annotations

import sqlite3

from harmonia_lab.store.journal_file import JournalFile

__all__ = ["ELSEWHERE_TABLES", "Elsewhere"]

ELSEWHERE_TABLES = """
CREATE TABLE elsewhere (
    generation TEXT PRIMARY KEY REFERENCES generations (id) ON DELETE CASCADE, server TEXT NOT NULL
) WITHOUT ROWID
"""


class Elsewhere:
    """Every method may be called from any thread. Each raises StorageError if the journal can't be read or written."""

    def __init__(self, file: JournalFile) -> None:
        self._file = file

    def set(self, database: sqlite3.Connection, generation_id: str, server: str | None) -> None:
        """Write down which server makes a generation, by its URL; None: this machine. In a transaction of the
        caller's."""
        if server is None:
            database.execute("DELETE FROM elsewhere WHERE generation = ?", (generation_id,))
        else:
            database.execute("INSERT OR REPLACE INTO elsewhere VALUES (?, ?)", (generation_id, server))

    def server_of(self, generation_id: str) -> str | None:
        """Return the URL of the server that makes the generation; None if this machine does."""
        rows = self._file.read("SELECT server FROM elsewhere WHERE generation = ?", (generation_id,))
        return str(rows[0][0]) if rows else None

    def unfinished(self, server: str) -> list[tuple[str, str]]:
        """Return the unfinished generations of a server, oldest first, each with the process that followed it last."""
        query = (
            "SELECT id, process FROM generations JOIN elsewhere ON generation = id"
            " WHERE status IN ('pending', 'processing') AND server = ? ORDER BY created_at"
        )
        return [(generation_id, process) for generation_id, process in self._file.read(query, (server,))]
