"""What stands in the journal's file: its tables, and their rows as events, jobs and places in lists.

Owns the schema and its version. `journal.py` owns the file, and `shares.py` two tables of it.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple, cast

from harmonia_lab.errors import InvalidRequest, StorageError
from harmonia_lab.events.state import GenerationState
from harmonia_lab.protocol.codec import decode_event, encode
from harmonia_lab.protocol.counts import GIVEN
from harmonia_lab.protocol.events import FamilyEvent, linked
from harmonia_lab.protocol.models import Job, iso_time
from harmonia_lab.store.shares import SHARE_TABLES

__all__ = [
    "SCHEMA_VERSION",
    "RowVersion",
    "connect",
    "dump",
    "event_of",
    "event_row",
    "job_of",
    "make_tables",
    "parse_place",
    "place_of",
    "version_of",
]

SCHEMA_VERSION = 2
"""1: 0.1.0. 2: the tables of `shares.py`. An older file gets what it lacks when it is opened."""

MAX_PLACE = 100
"""Characters of a place in a list: a time, and an id."""

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


class RowVersion(NamedTuple):
    """What changes in a generation's row with each event."""

    status: str
    seq: int
    tick: int
    job_seq: int
    job_tick: int


def make_tables(database: sqlite3.Connection, path: Path) -> None:
    """Make the tables, or those that an older version lacks, in a transaction of the caller's.

    Raise StorageError for a file of a newer version.
    """
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise StorageError(
            f"{path} was written by a newer version of Harmonia Lab.",
            hint="Upgrade Harmonia Lab, or set HARMONIA_HOME to another folder.",
            details={"path": str(path)},
        )
    if version < SCHEMA_VERSION:
        for statement in ((_TABLES if version == 0 else "") + SHARE_TABLES).split(";"):
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    database.execute(_ATTEMPTS)


def connect(path: Path) -> sqlite3.Connection:
    # isolation_level None: `_transaction` begins transactions. check_same_thread: the journal's locks do that.
    database = sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA foreign_keys = ON")
    return database


def event_row(event: FamilyEvent) -> tuple[Any, ...]:
    name, payload = encode(linked(event, ""))
    return event.generation_id, event.family, event.seq, name, dump(payload)


def event_of(name: str, payload: str, song: str | None) -> FamilyEvent:
    event = cast("FamilyEvent", decode_event(name, json.loads(payload)))
    return event if song is None else linked(event, Path(song).as_uri())


def place_of(job: Job) -> str:
    """Return the job's place in a list of the newest jobs, as `Journal.jobs` takes it."""
    return f"{iso_time(job.created_at)}~{job.id}"


def parse_place(text: str) -> tuple[str, str]:
    """Return the moment and the id of a `place_of`. Raise InvalidRequest for a text that is none."""
    created_at, separator, generation_id = text.partition("~")
    if not separator or len(text) > MAX_PLACE:
        raise InvalidRequest("The cursor is none that this server gave.", details={"fields": ["cursor"]})
    return created_at, generation_id


def version_of(state: GenerationState) -> RowVersion:
    generation, job = state.generation_cursor, state.job_cursor
    return RowVersion(state.status, generation.seq, generation.tick, job.seq, job.tick)


def job_of(payload: str, song: str | None) -> Job:
    job = Job.model_validate_json(payload, context=GIVEN)
    return job if song is None else job.linked(Path(song).as_uri())


def dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
