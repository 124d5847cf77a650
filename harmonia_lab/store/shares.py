"""Shares: which users may use a generation that is another user's, and as what.

Owns two tables of the journal's file: `shares`, and `share_changes`, which numbers every change, so that another
process with the same home notices that one was taken back. `journal.py` owns the file, its locks and transactions. What
a role may do is decided in `server/rooms.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, cast

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.protocol.models import Job, ShareRole

__all__ = ["MAX_SHARES", "SHARE_TABLES", "Shares", "too_many_shares"]

MAX_SHARES = 100
"""Users with whom one generation can be shared."""

KEPT_CHANGES = 10_000
"""Changes whose numbers are kept. A process that looks four times a second needs only the latest."""

SHARE_TABLES = """
CREATE TABLE shares (
    generation TEXT NOT NULL REFERENCES generations (id) ON DELETE CASCADE,
    user TEXT NOT NULL, role TEXT NOT NULL,
    PRIMARY KEY (generation, user)
) WITHOUT ROWID;
CREATE INDEX shares_by_user ON shares (user);
CREATE TABLE share_changes (number INTEGER PRIMARY KEY AUTOINCREMENT, generation TEXT NOT NULL);
"""


class Shares:
    """Every method may be called from any thread. Each raises StorageError if the journal can't be read or written."""

    def __init__(
        self,
        read: Callable[[str, tuple[Any, ...]], list[Any]],
        writing: Callable[[], AbstractContextManager[sqlite3.Connection]],
        jobs: Callable[[str, tuple[Any, ...], int, str | None], list[Job]],
    ) -> None:
        """read: returns a query's rows. writing: one transaction. jobs: returns the jobs for which a condition holds,
        given its values, how many, and the place before the first."""
        self._read, self._writing, self._jobs = read, writing, jobs

    def of(self, generation_id: str) -> dict[str, ShareRole]:
        """Return the role of each user with whom the generation is shared, by name in alphabetical order."""
        rows = self._read("SELECT user, role FROM shares WHERE generation = ? ORDER BY user", (generation_id,))
        return {user: cast("ShareRole", role) for user, role in rows}

    def add(self, generation_id: str, user: str, role: ShareRole) -> dict[str, ShareRole]:
        """Share the generation with `user`, or change the user's role, and return all its shares.

        Raises InvalidRequest beyond MAX_SHARES users.
        """
        before = self.of(generation_id)
        if len(before) >= MAX_SHARES and user not in before:
            raise too_many_shares(generation_id)
        if before.get(user) != role:
            with self._writing() as database:
                database.execute("INSERT OR REPLACE INTO shares VALUES (?, ?, ?)", (generation_id, user, role))
                _number(database, generation_id)
        return self.of(generation_id)

    def remove(self, generation_id: str, user: str) -> dict[str, ShareRole]:
        """Take the generation back from `user`, and return its other shares. It is no error if there was no share."""
        if user in self.of(generation_id):
            with self._writing() as database:
                database.execute("DELETE FROM shares WHERE generation = ? AND user = ?", (generation_id, user))
                _number(database, generation_id)
        return self.of(generation_id)

    def jobs_with(self, user: str, limit: int = 100, before: str | None = None) -> list[Job]:
        """Return the newest `limit` jobs that other users share with `user`, newest first. before: as `Journal.jobs`
        takes it, of which this raises the errors."""
        return self._jobs("id IN (SELECT generation FROM shares WHERE user = ?)", (user,), limit, before)

    def last_change(self) -> int:
        """Return the number of the last change; 0 before the first."""
        rows = self._read("SELECT seq FROM sqlite_sequence WHERE name = 'share_changes'", ())
        return int(rows[0][0]) if rows else 0

    def changed_after(self, number: int) -> list[str]:
        """Return the generations whose shares have changed after the change `number`."""
        rows = self._read("SELECT DISTINCT generation FROM share_changes WHERE number > ?", (number,))
        return [generation for (generation,) in rows]


def too_many_shares(generation_id: str) -> InvalidRequest:
    """Return the error of a share beyond MAX_SHARES."""
    return InvalidRequest(
        f"Generation {generation_id} is shared with {MAX_SHARES} users already.",
        hint="Take it back from one of them first.",
        details={"fields": ["userId"]},
    )


def _number(database: sqlite3.Connection, generation_id: str) -> None:
    cursor = database.execute("INSERT INTO share_changes (generation) VALUES (?)", (generation_id,))
    database.execute("DELETE FROM share_changes WHERE number <= ?", ((cursor.lastrowid or 0) - KEPT_CHANGES,))
