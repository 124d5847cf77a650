"""The journal: every lifecycle event with its `seq`, and one row for each generation, in a SQLite file.

Owns what stands in that file (`journal_file.py`), which several processes may share; `journal_rows.py` has its tables,
and `journal_core.py` what a journal does wherever it keeps its events.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from harmonia_lab.errors import ErrorCode, InvalidRequest, Refused, StorageError
from harmonia_lab.events.state import GenerationState, apply
from harmonia_lab.protocol.events import Family, FamilyEvent
from harmonia_lab.protocol.models import ENDED, Job, SongRequest
from harmonia_lab.store.elsewhere import Elsewhere
from harmonia_lab.store.journal_core import JournalCore
from harmonia_lab.store.journal_file import EVENT_PATIENCE_S, JournalFile
from harmonia_lab.store.journal_reader import JournalReader
from harmonia_lab.store.journal_rows import dump, insert_events, make_tables, save_state
from harmonia_lab.store.process_liveness import LivenessLock
from harmonia_lab.store.shares import Shares
from harmonia_lab.store.submissions import Submission, Submissions

__all__ = ["KEPT_GENERATIONS", "Journal", "id_in_use"]

KEPT_GENERATIONS = 10_000
"""How many ended generations are kept, about 10 kB each; older ones are deleted when the journal is opened."""

_log = logging.getLogger(__name__)


class Journal(JournalCore):
    """Every method may be called from any thread. Reads don't wait for writes."""

    shares: Shares
    submissions: Submissions
    elsewhere: Elsewhere

    def __init__(self, path: Path) -> None:
        """Open the journal at `path`, or make it, readable by this user alone.

        Raises StorageError if it can't be opened, or was written by a newer version.
        """
        with ExitStack() as undo:
            self._file = JournalFile(path, lambda database: make_tables(database, path))
            undo.callback(self._file.close)
            self._reader = JournalReader(self._file)
            liveness = LivenessLock(path.with_name(f"{path.name}.processes"))
            undo.callback(liveness.close)
            super().__init__(path, liveness)
            self.shares = Shares(self._file.read, self._file.writing, self._jobs)
            self.submissions = Submissions(self._file)
            self.elsewhere = Elsewhere(self._file)
            self.prune(KEPT_GENERATIONS)
            undo.pop_all()

    def _insert(
        self,
        state: GenerationState,
        request: SongRequest,
        attempt: Mapping[str, Any] | None,
        submission: Submission | None,
        server: str | None,
        limits: tuple[int, int] | None,
    ) -> None:
        del limits  # those of this process's own queue, which has counted
        job = state.kept_job
        with self._file.writing() as database:
            try:
                database.execute(
                    "INSERT INTO generations (id, owner, process, created_at, request, status, stage, job,"
                    " seq, tick, job_seq, job_tick) VALUES (?, ?, ?, ?, ?, '', '', '', 0, 0, 0, 0)",
                    (job.id, job.user_id, self._liveness.name, job.to_wire()["createdAt"], dump(request.to_wire())),
                )
            except sqlite3.IntegrityError:
                raise id_in_use(job.id) from None
            self._save(database, state)
            if attempt is not None:
                self._save_attempt(database, job.id, attempt)
            if submission is not None:
                self.submissions.add(database, job.id, submission)
            self.elsewhere.set(database, job.id, server)

    def reopen(self, state: GenerationState, attempt: Mapping[str, Any], limits: tuple[int, int] | None = None) -> None:
        del limits  # as in `_insert`
        if self.unwritten.events_of(state.id):
            self.unwritten.flush()
        with self._file.writing() as database:
            changed = database.execute(
                "UPDATE generations SET process = ?, status = 'pending'"
                " WHERE id = ? AND status = 'failed' AND seq = ? AND job_seq = ?",
                (self._liveness.name, state.id, state.generation_cursor.seq, state.job_cursor.seq),
            ).rowcount
            if changed:
                self._save_attempt(database, state.id, attempt)
                self.elsewhere.set(database, state.id, None)
        if not changed:
            raise Refused(
                f"Generation {state.id} cannot be tried again: another process does so, or its last events wait for the"
                " disk.",
                code=ErrorCode.NOT_RECOVERABLE,
            )

    def begin_attempt(self, generation_id: str, row: Mapping[str, Any]) -> None:
        with self._file.writing(EVENT_PATIENCE_S) as database:
            self._save_attempt(database, generation_id, row)

    def last_attempt(self, generation_id: str) -> dict[str, Any]:
        return self._reader.last_attempt(generation_id)

    def _write_now(self, state: GenerationState, events: Sequence[FamilyEvent]) -> None:
        with self._file.writing(EVENT_PATIENCE_S if events else 0.0) as database:
            insert_events(database, events)
            self._save(database, state)

    def _write_late(self, events: Sequence[FamilyEvent]) -> None:
        with self._lock:
            found = {event.generation_id: self._reader.version(event.generation_id) for event in events}
            states: dict[str, GenerationState] = {}
            missing = []
            for event in events:
                version = found[event.generation_id]
                if version is None or event.seq <= (version.job_seq if event.family == "job" else version.seq):
                    continue  # it was deleted, or is there already
                missing.append(event)
                before = states.get(event.generation_id) or self._live.get(event.generation_id)
                before = before or self._reader.read_state(event.generation_id)
                if before is not None:
                    states[event.generation_id] = apply(before, event) if before.expects(event) else before
            with self._file.writing(EVENT_PATIENCE_S) as database:
                insert_events(database, missing)
                for state in states.values():
                    self._save(database, state)
        for state in states.values():
            self._settle(state, written=True)

    def _keep_at_hand(self, state: GenerationState) -> None:
        self._reader.keep_at_hand(state)

    def _stored_events(self, generation_id: str, family: Family, after_seq: int) -> list[FamilyEvent]:
        return self._reader.events(generation_id, family, after_seq)

    def _stored_state(self, generation_id: str) -> GenerationState | None:
        return self._reader.state(generation_id)

    def _is_stored_at_hand(self, generation_id: str) -> bool:
        return self._reader.state_at_hand(generation_id, self._reader.version(generation_id)) is not None

    def request(self, generation_id: str) -> SongRequest:
        return self._reader.request(generation_id)

    def jobs(self, owner: str | None = None, limit: int = 100, before: str | None = None) -> list[Job]:
        where, values = ("owner = ?", (owner,)) if owner is not None else ("1", ())
        return self._jobs(where, values, limit, before)

    def _jobs(self, where: str, values: tuple[Any, ...], limit: int, before: str | None) -> list[Job]:
        return self._reader.jobs(where, values, limit, before, self._live.get)

    def check(self) -> None:
        self._file.read("SELECT 1 FROM generations LIMIT 1")

    def _unfinished_here(self) -> list[tuple[str, str]]:
        return self._file.read(
            "SELECT id, process FROM generations WHERE status IN ('pending', 'processing')"
            " AND id NOT IN (SELECT generation FROM elsewhere) ORDER BY created_at"
        )

    def _claim(self, generation_id: str, process: str, *, died: bool) -> GenerationState | None:
        try:
            state = self._reader.read_state(generation_id)
        except StorageError as damage:
            _log.warning("%s", damage)
            return None
        if state is None:
            return None
        with self._file.writing() as database:
            # The status, too: a process that was killed in `reopen` has changed nothing else.
            database.execute(
                "UPDATE generations SET process = ?1, status = ? WHERE id = ? AND process IN (?1, ?)",
                (self._liveness.name, state.status, generation_id, process),
            )
            if died and state.status == "processing":
                database.execute(
                    "INSERT OR IGNORE INTO deaths SELECT generation, process FROM attempts"
                    " WHERE generation = ? AND process = ?",
                    (generation_id, process),
                )
        return None if state.status in ENDED else state

    def left_elsewhere(self, server: str) -> list[str]:
        found = []
        for generation_id, process in self.elsewhere.unfinished(server):
            if process != self._liveness.name:
                with self._liveness.reap(process) as exited:
                    if exited is None:
                        continue
                    self.unwritten.take_over(exited.entries)
                    self._claim(generation_id, process, died=False)
            found.append(generation_id)
        return found

    def forget(self, generation_id: str) -> None:
        with self._lock, self._file.writing() as database:
            database.execute("DELETE FROM generations WHERE id = ?", (generation_id,))
            self._live.pop(generation_id, None)

    def unfinished(self) -> list[str]:
        rows = self._file.read("SELECT id FROM generations WHERE status IN ('pending', 'processing')")
        return [generation_id for (generation_id,) in rows]

    def prune(self, kept: int, before: str | None = None, *, dry_run: bool = False) -> int:
        ended = "SELECT id FROM generations WHERE status NOT IN ('pending', 'processing')"
        too_many = f"{ended} ORDER BY created_at DESC LIMIT -1 OFFSET ?"
        too_old = f"{ended} AND created_at < ?"
        chosen = f"generations WHERE id IN ({too_many}) OR id IN ({too_old})"
        values = (kept, before or "")
        if dry_run or not self._file.read(f"SELECT 1 FROM {chosen} LIMIT 1", values):  # noqa: S608 - no input in it
            ((count,),) = self._file.read(f"SELECT count(*) FROM {chosen}", values)  # noqa: S608 - as above
            return int(count)
        with self._file.writing() as database:
            return database.execute(f"DELETE FROM {chosen}", values).rowcount  # noqa: S608 - as above

    def shrink(self) -> bool:
        return self._file.shrink()

    def _end(self, unfinished: Sequence[GenerationState]) -> None:
        with suppress(StorageError):
            if unfinished:
                with self._file.writing(EVENT_PATIENCE_S) as database:
                    for state in unfinished:
                        self._save(database, state)
        self._file.close()

    def _save(self, database: sqlite3.Connection, state: GenerationState) -> None:
        save_state(database, self._liveness.name, state)

    def _save_attempt(self, database: sqlite3.Connection, generation_id: str, row: Mapping[str, Any]) -> None:
        database.execute(
            "INSERT OR REPLACE INTO attempts (generation, row, process) VALUES (?, ?, ?)",
            (generation_id, dump(row), self._liveness.name),
        )


def id_in_use(generation_id: str) -> InvalidRequest:
    """Return the error of a generation that was to begin with an id that another one has."""
    return InvalidRequest(
        f"The generation id {generation_id} is in use.",
        hint="Choose another, or none.",
        details={"fields": ["generationId"]},
    )
