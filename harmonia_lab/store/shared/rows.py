"""A generation's row and events in Redis, from and to what the package works with.

Owns the fields of the hash `row:ID` (`scripts.lua` has the other keys). The values are those of SQLite's columns.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from harmonia_lab.events.state import GenerationState
from harmonia_lab.protocol.event_codec import encode
from harmonia_lab.protocol.events import FAMILIES, Family, FamilyEvent, linked
from harmonia_lab.protocol.models import Job, ShareRole
from harmonia_lab.store.journal_rows import dump, event_of, job_of, place_of, stored_state
from harmonia_lab.store.shared.connection import PREFIX
from harmonia_lab.store.shared.mirror import Copy
from harmonia_lab.store.submissions import Submission

__all__ = [
    "ask_for_copy",
    "copy_of",
    "event_arguments",
    "events_key",
    "listed_job",
    "row_key",
    "state_fields",
    "submission_fields",
    "submission_of",
]


def row_key(generation_id: str) -> str:
    return f"{PREFIX}row:{generation_id}"


def events_key(generation_id: str, family: Family) -> str:
    return f"{PREFIX}events:{generation_id}:{family}"


def state_fields(state: GenerationState) -> list[Any]:
    """Return what changes in a row with each event, as field, value, field, value …; its numbers apart."""
    song = "" if state.song_path is None else str(state.song_path)
    progress = "" if state.progress is None else dump(encode(state.progress))
    return [
        *("stage", state.stage, "job", dump(state.kept_job.linked("").to_wire()), "song", song, "progress", progress),
        *("tick", state.generation_cursor.tick, "job_tick", state.job_cursor.tick),
    ]


def submission_fields(submission: Submission | None) -> list[Any]:
    if submission is None:
        return []
    audio = json.dumps(submission.audio, ensure_ascii=False, default=str)
    fields = ["songs", str(submission.songs), "replaces", int(submission.replaces), "audio", audio]
    return fields if submission.out is None else [*fields, "out", str(submission.out)]


def submission_of(row: Mapping[str, str]) -> Submission | None:
    """Raise ValueError or TypeError for a damaged row."""
    if "songs" not in row:
        return None
    out = row.get("out")
    replaces = bool(int(row["replaces"]))
    return Submission(Path(row["songs"]), None if out is None else Path(out), replaces, json.loads(row["audio"]))


def event_arguments(events: Iterable[FamilyEvent]) -> list[Any]:
    """Return family, number, name and payload of each, as `append` takes them."""
    found: list[Any] = []
    for event in events:
        name, payload = encode(linked(event, ""))
        found += [event.family, event.seq, name, dump(payload)]
    return found


def ask_for_copy(pipeline: Any, generation_id: str, after: Mapping[Family, int] | None = None) -> None:
    """Ask for what `copy_of` takes. after: numbers of the events that are here already, by family."""
    pipeline.hgetall(row_key(generation_id))
    for family in FAMILIES:
        pipeline.xrange(events_key(generation_id, family), f"({(after or {}).get(family, 0)}-0")
    pipeline.hgetall(f"{PREFIX}shares:{generation_id}")
    pipeline.zscore(f"{PREFIX}changed", generation_id)
    pipeline.get(f"{PREFIX}change")


def copy_of(answers: Sequence[Any]) -> tuple[Copy, list[FamilyEvent]]:
    """Return the generation, and the events that were asked for, family by family.

    Raise any error of decoding for a damaged one. The copy's state is right only if all events were asked for.
    """
    row, *streams, shares, number, latest = answers
    # One of which no change is known any more has not changed lately.
    number = int(number or 0) if number is not None else (0 if row else int(latest or 0))
    if not row:
        return Copy(number), []
    song = row.get("song") or None
    events = {
        family: [event_of(entry["name"], entry["payload"], song) for _, entry in stream]
        for family, stream in zip(FAMILIES, streams, strict=True)
    }
    found = [event for family in FAMILIES for event in events[family]]
    state = stored_state(
        row["request"],
        row["job"],
        song,
        row.get("progress") or None,
        int(row["tick"]),
        int(row["job_tick"]),
        found,
    )
    roles = {user: cast("ShareRole", shares[user]) for user in sorted(shares)}
    return Copy(number, state, row["process"], events, roles), found


def listed_job(job: str, song: str | None) -> tuple[Job, str]:
    """Return a job of a list, and its place there."""
    found = job_of(job, song or None)
    return found, place_of(found)
