"""What stands in the journal's file: its tables, and their rows as events, jobs and places in lists.

Owns the schema and its version. `journal_file.py` owns the file; `shares.py` and `submissions.py` own two tables each,
`elsewhere.py` one.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from harmonia_lab.errors import InvalidRequest, StorageError
from harmonia_lab.events.state import GenerationState, apply, new_state
from harmonia_lab.protocol.counts import GIVEN
from harmonia_lab.protocol.event_codec import decode_event, encode
from harmonia_lab.protocol.events import FamilyEvent, MetadataGenerationProgress, linked
from harmonia_lab.protocol.models import Job, SongRequest, iso_time
from harmonia_lab.store.elsewhere import ELSEWHERE_TABLES
from harmonia_lab.store.shares import SHARE_TABLES
from harmonia_lab.store.submissions import SUBMISSION_TABLES

__all__ = [
    "SCHEMA_VERSION",
    "RowVersion",
    "dump",
    "event_of",
    "insert_events",
    "job_of",
    "make_tables",
    "parse_place",
    "place_of",
    "save_state",
    "stored_state",
    "version_of",
]

SCHEMA_VERSION = 4
"""1: 0.1.0. 2: the tables of `shares.py`. 3: those of `submissions.py`, and the process of an attempt. 4: that
of `elsewhere.py`. An older file gets what it lacks when it is opened."""

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
"""Some journals of versions 1 and 2 have it."""

_ATTEMPT_PROCESS = "ALTER TABLE attempts ADD COLUMN process TEXT NOT NULL DEFAULT ''"
"""The process that began the attempt; `generations.process` is the one that wrote the row last."""


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
    if version == SCHEMA_VERSION:
        return
    missing = [(0, _TABLES), (1, SHARE_TABLES), (2, _ATTEMPTS), (2, _ATTEMPT_PROCESS), (2, SUBMISSION_TABLES)]
    missing.append((3, ELSEWHERE_TABLES))
    for last_without, tables in missing:
        if version <= last_without:
            for statement in tables.split(";"):
                database.execute(statement)
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def event_row(event: FamilyEvent) -> tuple[Any, ...]:
    name, payload = encode(linked(event, ""))
    return event.generation_id, event.family, event.seq, name, dump(payload)


def insert_events(database: sqlite3.Connection, events: Sequence[FamilyEvent]) -> None:
    """Add rows for events, in a transaction of the caller's. Raise ValueError if they, or others of their numbers, are
    there."""
    try:
        database.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", map(event_row, events))
    except sqlite3.IntegrityError:
        numbers = ", ".join(f"{event.generation_id} {event.seq}" for event in events)
        raise ValueError(f"events are in the journal already, or their generation is not: {numbers}") from None


def save_state(database: sqlite3.Connection, process: str, state: GenerationState) -> None:
    """Write a generation's row, in a transaction of the caller's. process: the name of this one."""
    database.execute(
        "UPDATE generations SET process = ?, status = ?, stage = ?, job = ?, song = ?, progress = ?,"
        " seq = ?, tick = ?, job_seq = ?, job_tick = ? WHERE id = ?",
        (
            process,
            state.status,
            state.stage,
            dump(state.kept_job.linked("").to_wire()),
            None if state.song_path is None else str(state.song_path),
            None if state.progress is None else dump(encode(state.progress)),
            state.generation_cursor.seq,
            state.generation_cursor.tick,
            state.job_cursor.seq,
            state.job_cursor.tick,
            state.id,
        ),
    )


def event_of(name: str, payload: str, song: str | None) -> FamilyEvent:
    event = cast("FamilyEvent", decode_event(name, json.loads(payload)))
    return event if song is None else linked(event, Path(song).as_uri())


def stored_state(
    request: str,
    job: str,
    song: str | None,
    progress: str | None,
    tick: int,
    job_tick: int,
    events: Iterable[FamilyEvent],
) -> GenerationState:
    """Return what a row and the events of a generation add up to. Raise any error of decoding if they are damaged."""
    stored = job_of(job, song)
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
