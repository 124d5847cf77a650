"""The journal: every lifecycle event with its `seq`, and one row for each generation, in a SQLite file.

Owns that file (WAL), which several processes may share. A generation's state is computed from its row and its events;
of its progress, only the latest is stored, in the row. The run log's row of its last attempt is kept too, as far as it
was known when the attempt began: for the log of the process that finds it interrupted. The journal stores no URL: it
returns `audioUrl` and `outputPath` as the song's file URI, and the server signs a URL at each send
(`protocol.events.linked`).
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest, StorageError
from harmonia_lab.events.state import GenerationState, apply, new_state
from harmonia_lab.protocol.codec import decode_event, encode
from harmonia_lab.protocol.counts import GIVEN
from harmonia_lab.protocol.events import FAMILIES, Family, FamilyEvent, MetadataGenerationProgress, linked
from harmonia_lab.protocol.models import ENDED, Job, SongRequest, iso_time
from harmonia_lab.storage import storage_errors
from harmonia_lab.store.process_liveness import LivenessLock
from harmonia_lab.store.shares import SHARE_TABLES, Shares

__all__ = ["KEPT_GENERATIONS", "Journal", "place_of"]

SCHEMA_VERSION = 2
"""1: 0.1.0. 2: the tables of `shares.py`. An older file gets what it lacks when it is opened."""

KEPT_GENERATIONS = 10_000
"""How many ended generations are kept, about 10 kB each; older ones are deleted when the journal is opened."""

MAX_PLACE = 100
"""Characters of a place in a list: a time, and an id."""

PROGRESS_SAVE_S = 1.0
"""Seconds between two writes of one generation's progress, at least."""

AT_HAND = 128
"""Ended generations whose states are kept in memory, each for as long as no process has added an event to it."""

_TABLES = """
CREATE TABLE generations (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, process TEXT NOT NULL, status TEXT NOT NULL, stage TEXT NOT NULL,
    created_at TEXT NOT NULL, request TEXT NOT NULL, job TEXT NOT NULL, song TEXT, progress TEXT,
    seq INTEGER NOT NULL, tick INTEGER NOT NULL, job_seq INTEGER NOT NULL, job_tick INTEGER NOT NULL
);
CREATE INDEX generations_by_owner ON generations (owner, created_at);
CREATE INDEX generations_by_status ON generations (status, created_at);
CREATE TABLE events (
    generation TEXT NOT NULL REFERENCES generations (id) ON DELETE CASCADE,
    family TEXT NOT NULL, seq INTEGER NOT NULL, name TEXT NOT NULL, payload TEXT NOT NULL,
    PRIMARY KEY (generation, family, seq)
) WITHOUT ROWID;
"""

_ATTEMPTS = """
CREATE TABLE IF NOT EXISTS attempts (
    generation TEXT PRIMARY KEY REFERENCES generations (id) ON DELETE CASCADE, row TEXT NOT NULL
) WITHOUT ROWID
"""
"""Not in `_TABLES`: journals of version 1 are without it. It raises no version, since what doesn't know it, an older
Harmonia Lab, neither needs it nor breaks it."""

_log = logging.getLogger(__name__)


class _Version(NamedTuple):
    """What changes in a generation's row with each event."""

    status: str
    seq: int
    tick: int
    job_seq: int
    job_tick: int


class Journal:
    """Every method may be called from any thread. Reads don't wait for writes."""

    def __init__(self, path: Path) -> None:
        """Open the journal at `path`, or make it, readable by this user alone.

        Raises StorageError if it can't be opened, or was written by a newer version.
        """
        self.path = path
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._list_lock = threading.Lock()
        self._live: dict[str, GenerationState] = {}
        self._saved_at: dict[str, float] = {}
        self.shares = Shares(self._read, self._writing, self._jobs)
        self._at_hand: dict[str, tuple[_Version, GenerationState]] = {}
        with ExitStack() as undo:
            self._liveness = LivenessLock(path.with_name(f"{path.name}.processes"))
            undo.callback(self._liveness.close)
            with self._sqlite_errors():
                self._writer = undo.enter_context(closing(_connect(path)))
                self._reader = undo.enter_context(closing(_connect(path)))
                # Lists read thousands of rows: whoever needs one generation's state meanwhile must not wait for them.
                self._list_reader = undo.enter_context(closing(_connect(path)))
                self._make_tables()
                self._prune()
            undo.pop_all()

    def begin(self, job: Job, request: SongRequest, attempt: Mapping[str, Any] | None = None) -> None:
        """Add a pending generation. attempt: its row of the run log so far.

        Raises InvalidRequest if the id is taken.
        """
        state = new_state(job, request)
        with self._write_lock, self._transaction() as database:
            try:
                database.execute(
                    "INSERT INTO generations (id, owner, process, created_at, request, status, stage, job,"
                    " seq, tick, job_seq, job_tick) VALUES (?, ?, ?, ?, ?, '', '', '', 0, 0, 0, 0)",
                    (job.id, job.user_id, self._liveness.name, job.to_wire()["createdAt"], _dump(request.to_wire())),
                )
            except sqlite3.IntegrityError:
                raise InvalidRequest(
                    f"The generation id {job.id} is in use.",
                    hint="Choose another, or none.",
                    details={"fields": ["generationId"]},
                ) from None
            self._save(database, state)
            if attempt is not None:
                database.execute("INSERT INTO attempts VALUES (?, ?)", (job.id, _dump(attempt)))
        self._live[job.id] = state

    def begin_attempt(self, generation_id: str, row: Mapping[str, Any]) -> None:
        """Keep the attempt's row of the run log so far, in place of an earlier attempt's. Raises StorageError."""
        with self._write_lock, self._transaction() as database:
            database.execute("INSERT OR REPLACE INTO attempts VALUES (?, ?)", (generation_id, _dump(row)))

    def last_attempt(self, generation_id: str) -> dict[str, Any]:
        """Return what was known of the last attempt's row when it began; empty for a generation of an older version."""
        for (row,) in self._read("SELECT row FROM attempts WHERE generation = ?", (generation_id,)):
            with self._damage_as_storage_error(generation_id):
                return dict(json.loads(row))
        return {}

    def record(self, *events: FamilyEvent) -> None:
        """Write events of one generation to disk, in one transaction, before this returns.

        Progress is written once a second at most. Raises StorageError if the disk refuses, ValueError for a lifecycle
        event that isn't the next of its family: readers could never fill that gap.
        """
        with self._write_lock:
            generation_id = events[0].generation_id
            state = self._live.get(generation_id) or self._load(generation_id)
            if state is None:
                raise ValueError(f"generation {generation_id} was never begun")
            for event in events:
                if event.delivery == "lifecycle" and not state.expects(event):
                    raise ValueError(f"{event.name} of {generation_id} has seq {event.seq}, which is not the next")
                state = apply(state, event)
            kept = [event for event in events if event.delivery == "lifecycle"]
            now = time.monotonic()
            if kept or now - self._saved_at.get(generation_id, 0.0) >= PROGRESS_SAVE_S:
                with self._transaction() as database:
                    database.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", map(_event_row, kept))
                    self._save(database, state)
                self._saved_at[generation_id] = now
            self._live[generation_id] = state
            if state.status in ENDED:
                del self._live[generation_id]
                self._saved_at.pop(generation_id, None)
                self._keep_at_hand(state, _version_of(state))

    def replay(self, generation_id: str, family: Family, after_seq: int = 0) -> list[FamilyEvent]:
        """Return the lifecycle events of one family after `after_seq`, in order; [] for an unknown id.

        Raises StorageError, as every method that reads, if the generation's rows are damaged.
        """
        rows = self._read(
            "SELECT name, payload, song FROM events JOIN generations ON id = generation"
            " WHERE generation = ? AND family = ? AND events.seq > ? ORDER BY events.seq",
            (generation_id, family, after_seq),
        )
        with self._damage_as_storage_error(generation_id):
            return [_event_of(name, payload, song) for name, payload, song in rows]

    def history(self, generation_id: str) -> list[FamilyEvent]:
        """Return the lifecycle events of both families, and the latest progress of each in its place.

        A store that gets these events ends in the same state as one that got every event live.
        """
        state = self.state(generation_id)
        latest = [] if state is None else state.latest_progress()
        events = [event for family in FAMILIES for event in self.replay(generation_id, family)]
        # Progress has the `seq` of the lifecycle event before it, so a stable sort puts it behind that event.
        return sorted([*events, *latest], key=lambda event: (event.family != "generation", event.seq))

    def state(self, generation_id: str) -> GenerationState | None:
        """Return what the generation's events add up to; None for an unknown id."""
        return self._live.get(generation_id) or self._load(generation_id)

    def is_at_hand(self, generation_id: str) -> bool:
        """Return whether `state` costs no more than a look at one row: else, a thread should call it."""
        return generation_id in self._live or self._kept_state(generation_id, self._version(generation_id)) is not None

    def request(self, generation_id: str) -> SongRequest:
        """Return the generation's request. Raises KeyError for an unknown id."""
        for (request,) in self._read("SELECT request FROM generations WHERE id = ?", (generation_id,)):
            with self._damage_as_storage_error(generation_id):
                return SongRequest.model_validate_json(request)
        raise KeyError(generation_id)

    def jobs(self, owner: str | None = None, limit: int = 100, before: str | None = None) -> list[Job]:
        """Return the newest `limit` jobs of `owner`, newest first; of all users if `owner` is None.

        before: only jobs that are older than the one with this `place_of`. A damaged job is logged and left out.
        Raises InvalidRequest for a place that no job has.
        """
        conditions, values = ["1"], list[Any]()
        if owner is not None:
            conditions, values = ["owner = ?"], [owner]
        if before is not None:
            created_at, separator, generation_id = before.partition("~")
            if not separator or len(before) > MAX_PLACE:
                raise InvalidRequest("The cursor is none that this server gave.", details={"fields": ["cursor"]})
            conditions.append("(created_at, id) < (?, ?)")
            values += [created_at, generation_id]
        # The inner query reads no long columns, so that the rest of thousands of rows stays on the disk.
        query = (
            "SELECT id, job, song FROM generations WHERE id IN (SELECT id FROM generations"  # noqa: S608 - no input in it
            f" WHERE {' AND '.join(conditions)} ORDER BY created_at DESC, id DESC LIMIT ?)"
            " ORDER BY created_at DESC, id DESC"
        )
        return self._jobs(query, (*values, limit))

    def _jobs(self, query: str, values: tuple[Any, ...]) -> list[Job]:
        with self._list_lock, self._sqlite_errors():
            rows = self._list_reader.execute(query, values).fetchall()
        found = []
        for generation_id, job, song in rows:
            live = self._live.get(generation_id)
            try:
                with self._damage_as_storage_error(generation_id):
                    found.append(live.kept_job if live else _job_of(job, song))
            except StorageError as error:
                _log.warning("%s", error)
        return found

    def check(self) -> None:
        """Raise StorageError if the journal can't be read."""
        self._read("SELECT 1 FROM generations LIMIT 1", ())

    def interrupted(self) -> Iterator[GenerationState]:
        """Yield each generation that an exited process left pending or running, process by process.

        No other process gets a generation while it is yielded here: the caller must end it before it takes the next.
        Generations of living processes, this one included, are left out; so are damaged rows, which are logged.
        """
        unfinished = self._read(
            "SELECT id, process FROM generations WHERE status IN ('pending', 'processing') ORDER BY created_at", ()
        )
        for process in dict.fromkeys([*(name for _, name in unfinished), *self._liveness.known()]):
            with self._liveness.reap(process) as exited:
                if exited:
                    yield from self._unfinished(generation_id for generation_id, name in unfinished if name == process)

    def close(self) -> None:
        """Write the latest progress of unfinished generations, and close the file. Idempotent."""
        with self._write_lock, self._read_lock, self._list_lock:
            live, self._live = self._live, {}
            with suppress(StorageError):
                if live:
                    with self._transaction() as database:
                        for state in live.values():
                            self._save(database, state)
            self._writer.close()
            self._reader.close()
            self._list_reader.close()
        self._liveness.close()

    def _unfinished(self, generation_ids: Iterable[str]) -> Iterator[GenerationState]:
        for generation_id in generation_ids:
            try:
                state = self._load(generation_id)
            except StorageError as damage:
                _log.warning("%s", damage)
                continue
            if state is not None and state.status not in ENDED:
                yield state

    def _make_tables(self) -> None:
        with self._transaction() as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                raise StorageError(
                    f"{self.path} was written by a newer version of Harmonia Lab.",
                    hint="Upgrade Harmonia Lab, or set HARMONIA_HOME to another folder.",
                    details={"path": str(self.path)},
                )
            if version < SCHEMA_VERSION:
                for statement in ((_TABLES if version == 0 else "") + SHARE_TABLES).split(";"):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            database.execute(_ATTEMPTS)

    def _prune(self) -> None:
        with self._transaction() as database:
            database.execute(
                "DELETE FROM generations WHERE id IN (SELECT id FROM generations WHERE status NOT IN"
                " ('pending', 'processing') ORDER BY created_at DESC LIMIT -1 OFFSET ?)",
                (KEPT_GENERATIONS,),
            )

    def _save(self, database: sqlite3.Connection, state: GenerationState) -> None:
        database.execute(
            "UPDATE generations SET process = ?, status = ?, stage = ?, job = ?, song = ?, progress = ?,"
            " seq = ?, tick = ?, job_seq = ?, job_tick = ? WHERE id = ?",
            (
                self._liveness.name,
                state.status,
                state.stage,
                _dump(state.kept_job.linked("").to_wire()),
                None if state.song_path is None else str(state.song_path),
                None if state.progress is None else _dump(encode(state.progress)),
                state.generation_cursor.seq,
                state.generation_cursor.tick,
                state.job_cursor.seq,
                state.job_cursor.tick,
                state.id,
            ),
        )

    def _load(self, generation_id: str) -> GenerationState | None:
        version = self._version(generation_id)
        kept = self._kept_state(generation_id, version)
        if kept is not None:
            return kept
        state = self._read_state(generation_id)
        # Another process may have added an event meanwhile.
        if state is not None and version is not None and version == _version_of(state) and state.status in ENDED:
            self._keep_at_hand(state, version)
        return state

    def _version(self, generation_id: str) -> _Version | None:
        rows = self._read("SELECT status, seq, tick, job_seq, job_tick FROM generations WHERE id = ?", (generation_id,))
        return _Version(*rows[0]) if rows else None

    def _kept_state(self, generation_id: str, version: _Version | None) -> GenerationState | None:
        kept = self._at_hand.get(generation_id)
        return kept[1] if kept is not None and kept[0] == version else None

    def _keep_at_hand(self, state: GenerationState, version: _Version) -> None:
        kept = {**self._at_hand, state.id: (version, state)}
        if len(kept) > AT_HAND:
            del kept[next(iter(kept))]
        self._at_hand = kept  # replaced as a whole, since any thread may read it

    def _read_state(self, generation_id: str) -> GenerationState | None:
        rows = self._read(
            "SELECT request, job, song, progress, tick, job_tick FROM generations WHERE id = ?", (generation_id,)
        )
        if not rows:
            return None
        request, job, song, progress, tick, job_tick = rows[0]
        events = [event for family in FAMILIES for event in self.replay(generation_id, family)]
        with self._damage_as_storage_error(generation_id):
            stored = _job_of(job, song)
            state = new_state(stored, SongRequest.model_validate_json(request, context=GIVEN))
            for event in events:
                state = apply(state, event)
            changes: dict[str, Any] = {"job": stored}  # with its progress, which no lifecycle event holds
            if progress is not None:
                latest = decode_event(*json.loads(progress))
                changes["writing" if isinstance(latest, MetadataGenerationProgress) else "rendering"] = latest
            return replace(
                state,
                generation_cursor=replace(state.generation_cursor, tick=tick),
                job_cursor=replace(state.job_cursor, tick=job_tick),
                **changes,
            )

    def _read(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        with self._read_lock, self._sqlite_errors():
            return self._reader.execute(query, values).fetchall()

    @contextmanager
    def _damage_as_storage_error(self, generation_id: str) -> Iterator[None]:
        """Turn any error of decoding a generation's rows into a StorageError."""
        try:
            yield
        except (ValueError, LookupError, TypeError, HarmoniaError) as error:
            raise StorageError(
                f"In {self.path}, the record of generation {generation_id} is damaged ({type(error).__name__}).",
                hint="Other generations are not affected, and neither is the song's folder.",
                details={"path": str(self.path)},
            ) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._write_lock, self._transaction() as database:
            yield database

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._sqlite_errors():
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:  # a full disk may have rolled it back already
                    self._writer.execute("ROLLBACK")
                raise

    @contextmanager
    def _sqlite_errors(self) -> Iterator[None]:
        """Turn an SQLite error into a StorageError that says what to do."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise StorageError(
                    f"The disk is full: {self.path} could not be written.",
                    code=ErrorCode.STORAGE_FULL,
                    hint="Free some space, or set HARMONIA_HOME to a folder on another disk.",
                    details={"path": str(self.path)},
                ) from error
            raise StorageError(
                f"The journal {self.path} cannot be used: {error}.",
                hint="Set HARMONIA_HOME to another folder; or move the file away, and lose the list of past songs.",
                details={"path": str(self.path)},
            ) from error


def _connect(path: Path) -> sqlite3.Connection:
    # isolation_level None: `_transaction` begins transactions. check_same_thread: the journal's locks do that.
    database = sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA foreign_keys = ON")
    return database


def _event_row(event: FamilyEvent) -> tuple[Any, ...]:
    name, payload = encode(linked(event, ""))
    return event.generation_id, event.family, event.seq, name, _dump(payload)


def _event_of(name: str, payload: str, song: str | None) -> FamilyEvent:
    event = cast("FamilyEvent", decode_event(name, json.loads(payload)))
    return event if song is None else linked(event, Path(song).as_uri())


def place_of(job: Job) -> str:
    """Return the job's place in a list of the newest jobs, as `Journal.jobs` takes it."""
    return f"{iso_time(job.created_at)}~{job.id}"


def _version_of(state: GenerationState) -> _Version:
    generation, job = state.generation_cursor, state.job_cursor
    return _Version(state.status, generation.seq, generation.tick, job.seq, job.tick)


def _job_of(payload: str, song: str | None) -> Job:
    job = Job.model_validate_json(payload, context=GIVEN)
    return job if song is None else job.linked(Path(song).as_uri())


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
