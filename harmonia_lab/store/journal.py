"""What happened, kept: every lifecycle event with its `seq`, and each generation's standing, so that nobody misses one.

Owns one SQLite file (WAL) that several processes may share, and the end of what a dead process left running. It keeps
no URL: `audioUrl` and `outputPath` come back as the song's file URI, and are made anew at each send (`events.linked`).
Progress is not kept, but for the latest.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest, StorageError
from harmonia_lab.events.job_family import JobView
from harmonia_lab.events.state import Standing, after
from harmonia_lab.protocol.codec import decode_event, encode
from harmonia_lab.protocol.events import (
    ErrorInfo,
    Family,
    FamilyEvent,
    GenerationError,
    ProgressEvent,
    StageName,
    linked,
)
from harmonia_lab.protocol.models import Job, SongMetadata, SongRequest
from harmonia_lab.storage import storage_errors
from harmonia_lab.store.process_liveness import SignOfLife

__all__ = ["KEPT_GENERATIONS", "Journal"]

SCHEMA_VERSION = 1
KEPT_GENERATIONS = 10_000
"""Ended generations that are kept, the newest; older ones go when the journal is opened. About 10 kB each."""
PROGRESS_SAVE_S = 1.0
TICKS_BEYOND_A_CRASH = 1_000_000
"""Ticks up to the crash may have been sent and not saved: what follows must be greater."""

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


_log = logging.getLogger(__name__)


class Journal:
    """Safe to call from any thread. Writes take turns; reads don't wait for them."""

    def __init__(self, path: Path) -> None:
        """Opens the journal at `path`, or makes it, readable by this user alone.

        Raises StorageError where it can't be opened, or was written by a newer version.
        """
        self.path = path
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._live: dict[str, Standing] = {}
        self._saved_at: dict[str, float] = {}
        with ExitStack() as undo:
            self._process = SignOfLife(path.with_name(f"{path.name}.processes"))
            undo.callback(self._process.close)
            with self._errors():
                self._writer = undo.enter_context(closing(_connect(path)))
                self._reader = undo.enter_context(closing(_connect(path)))
                self._make_tables()
                self._prune()
            undo.pop_all()

    def begin(self, job: Job, request: SongRequest) -> None:
        """A generation that waits for its turn. Raises InvalidRequest where its id is taken."""
        stage: StageName = "metadata" if request.metadata is None else "audio"
        standing = Standing(job.user_id, request, job, stage, metadata=request.metadata)
        with self._write_lock, self._transaction() as database:
            try:
                database.execute(
                    "INSERT INTO generations (id, owner, process, created_at, request, status, stage, job,"
                    " seq, tick, job_seq, job_tick) VALUES (?, ?, ?, ?, ?, '', '', '', 0, 0, 0, 0)",
                    (job.id, job.user_id, self._process.name, job.to_wire()["createdAt"], _dump(request.to_wire())),
                )
            except sqlite3.IntegrityError:
                raise InvalidRequest(
                    f"The generation id {job.id} is in use.",
                    hint="Choose another, or none.",
                    details={"fields": ["generationId"]},
                ) from None
            self._save(database, standing)
        self._live[job.id] = standing

    def record(self, *events: FamilyEvent) -> None:
        """Keeps what happened to one generation, on disk and all at once before it returns.

        Progress costs no write, but for one each second. Raises StorageError where it can't be kept, ValueError where
        a lifecycle event isn't the next in its family: that would be a gap nobody could fill.
        """
        with self._write_lock:
            generation_id = events[0].generation_id
            standing = self._live.get(generation_id) or self._load(generation_id)
            if standing is None:
                raise ValueError(f"generation {generation_id} was never begun")
            for event in events:
                standing = after(standing, event)
            kept = [event for event in events if event.delivery == "lifecycle"]
            now = time.monotonic()
            if kept or now - self._saved_at.get(generation_id, 0.0) >= PROGRESS_SAVE_S:
                with self._transaction() as database:
                    database.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", map(_event_row, kept))
                    self._save(database, standing)
                self._saved_at[generation_id] = now
            self._live[generation_id] = standing
            if standing.job.status not in ("pending", "processing"):
                del self._live[generation_id]
                self._saved_at.pop(generation_id, None)

    def replay(self, generation_id: str, family: Family, after_seq: int = 0) -> list[FamilyEvent]:
        """The lifecycle events of one family that came after `after_seq`, in order; [] for an unknown id.

        Raises StorageError, as everything that reads, where what is kept of it can't be understood.
        """
        rows = self._read(
            "SELECT name, payload, song FROM events JOIN generations ON id = generation"
            " WHERE generation = ? AND family = ? AND events.seq > ? ORDER BY events.seq",
            (generation_id, family, after_seq),
        )
        with self._understood(generation_id):
            return [_event_of(name, payload, song) for name, payload, song in rows]

    def history(self, generation_id: str) -> list[FamilyEvent]:
        """All that is left of one generation: the lifecycle events of both families, and the latest progress of each in
        its place. A store that reads it knows what one knows that heard everything live."""
        standing = self.standing(generation_id)
        latest = [] if standing is None else standing.latest_progress()
        families: tuple[Family, ...] = ("generation", "job")
        events = [event for family in families for event in self.replay(generation_id, family)]
        # Progress carries the `seq` of the lifecycle event before it, so a stable sort puts it behind that.
        return sorted([*events, *latest], key=lambda event: (event.family != "generation", event.seq))

    def standing(self, generation_id: str) -> Standing | None:
        """None for an id that nobody has used."""
        return self._live.get(generation_id) or self._load(generation_id)

    def jobs(self, owner: str | None = None, limit: int = 100) -> list[Job]:
        """The newest `limit` jobs, newest first; of everybody where `owner` is None. One that can't be understood is
        left out, and logged: it hides no other."""
        where, values = ("WHERE owner = ?", (owner,)) if owner is not None else ("", ())
        rows = self._read(
            f"SELECT id, job, song FROM generations {where} ORDER BY created_at DESC, id DESC LIMIT ?",  # noqa: S608 - no input in it
            (*values, limit),
        )
        found = []
        for generation_id, job, song in rows:
            live = self._live.get(generation_id)
            try:
                with self._understood(generation_id):
                    found.append(live.job if live else _job_of(job, song))
            except StorageError as error:
                _log.warning("%s", error)
        return found

    def end_interrupted(self) -> list[str]:
        """Ends as INTERRUPTED what a process that is gone left pending or running; the ids, oldest first.

        To be called at each start. What a living process works at, this one included, is left alone; so is what can't
        be understood, which is logged.
        """
        unfinished = self._read(
            "SELECT id, process FROM generations WHERE status IN ('pending', 'processing') ORDER BY created_at", ()
        )
        ended = []
        for process in dict.fromkeys([*(name for _, name in unfinished), *self._process.known()]):
            with self._process.buried(process) as dead:
                if dead:
                    ended += [i for i, name in unfinished if name == process and self._end_interrupted(i)]
        return ended

    def close(self) -> None:
        """Keeps the latest progress of what is unfinished. Idempotent."""
        with self._write_lock, self._read_lock:
            live, self._live = self._live, {}
            with suppress(StorageError):
                if live:
                    with self._transaction() as database:
                        for standing in live.values():
                            self._save(database, standing)
            self._writer.close()
            self._reader.close()
        self._process.close()

    def _end_interrupted(self, generation_id: str) -> bool:
        with self._write_lock:
            try:
                standing = self._load(generation_id)
            except StorageError as damage:
                _log.warning("%s", damage)
                return False
            if standing is None or standing.job.status not in ("pending", "processing"):
                return False
            error = HarmoniaError(
                "The process that was making this song ended before it was done.",
                code=ErrorCode.INTERRUPTED,
                hint="Try again: finished work is kept.",
            )
            view = JobView(standing.job, seq=standing.job_seq, tick=standing.job_tick)
            events = view.observe(
                GenerationError(
                    generation_id=generation_id,
                    seq=standing.seq + 1,
                    error=ErrorInfo.of(error),
                    stage=standing.stage,
                    final=True,
                )
            )
            for event in events:
                standing = after(standing, event)
            standing = replace(
                standing,
                tick=standing.tick + TICKS_BEYOND_A_CRASH,
                job_tick=standing.job_tick + TICKS_BEYOND_A_CRASH,
            )
            with self._transaction() as database:
                database.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", map(_event_row, events))
                self._save(database, standing)
        return True

    def _make_tables(self) -> None:
        with self._transaction() as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                raise StorageError(
                    f"{self.path} was written by a newer version of Harmonia Lab.",
                    hint="Upgrade this one, or set HARMONIA_HOME to another folder.",
                )
            if version == 0:
                for statement in _TABLES.split(";"):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _prune(self) -> None:
        with self._transaction() as database:
            database.execute(
                "DELETE FROM generations WHERE id IN (SELECT id FROM generations WHERE status NOT IN"
                " ('pending', 'processing') ORDER BY created_at DESC LIMIT -1 OFFSET ?)",
                (KEPT_GENERATIONS,),
            )

    def _save(self, database: sqlite3.Connection, standing: Standing) -> None:
        progress = None if standing.progress is None else _dump(encode(standing.progress))
        database.execute(
            "UPDATE generations SET process = ?, status = ?, stage = ?, job = ?, song = ?, progress = ?,"
            " seq = ?, tick = ?, job_seq = ?, job_tick = ? WHERE id = ?",
            (
                self._process.name,
                standing.job.status,
                standing.stage,
                _dump(standing.job.linked("").to_wire()),
                None if standing.song is None else str(standing.song),
                progress,
                standing.seq,
                standing.tick,
                standing.job_seq,
                standing.job_tick,
                standing.job.id,
            ),
        )

    def _load(self, generation_id: str) -> Standing | None:
        rows = self._read(
            "SELECT owner, request, job, song, stage, progress, seq, tick, job_seq, job_tick,"
            " (SELECT payload FROM events WHERE generation = id AND name = 'metadata-generation-complete'"
            " ORDER BY events.seq DESC LIMIT 1) FROM generations WHERE id = ?",
            (generation_id,),
        )
        if not rows:
            return None
        owner, request, job, song, stage, progress, seq, tick, job_seq, job_tick, written = rows[0]
        with self._understood(generation_id):
            asked = SongRequest.model_validate_json(request)
            return Standing(
                owner=owner,
                request=asked,
                job=_job_of(job, song),
                stage=stage,
                seq=seq,
                tick=tick,
                job_seq=job_seq,
                job_tick=job_tick,
                song=None if song is None else Path(song),
                progress=None if progress is None else cast("ProgressEvent", decode_event(*json.loads(progress))),
                metadata=asked.metadata
                if written is None
                else SongMetadata.model_validate(json.loads(written)["metadata"]),
            )

    def _read(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        with self._read_lock, self._errors():
            return self._reader.execute(query, values).fetchall()

    @contextmanager
    def _understood(self, generation_id: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, LookupError, TypeError, HarmoniaError) as error:
            raise StorageError(
                f"What {self.path} keeps of generation {generation_id} is damaged ({type(error).__name__}).",
                hint="The other generations are not touched by it. What the song's folder holds is there still.",
            ) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._errors():
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:  # a full disk may have rolled it back already
                    self._writer.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise StorageError(
                    f"The disk is full: {self.path} could not be written.",
                    code=ErrorCode.STORAGE_FULL,
                    hint="Free some space, or set HARMONIA_HOME to a folder on another disk.",
                ) from error
            raise StorageError(
                f"The journal {self.path} cannot be used: {error}.",
                hint="Set HARMONIA_HOME to another folder; or move the file away, and past songs are forgotten.",
            ) from error


def _connect(path: Path) -> sqlite3.Connection:
    # isolation_level None: transactions are begun by hand. Threads take turns by the journal's own locks.
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


def _job_of(payload: str, song: str | None) -> Job:
    job = Job.model_validate_json(payload)
    return job if song is None else job.linked(Path(song).as_uri())


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
