"""The lines that a batch prints: before the first song, and for each row.

Owns their words. `pace.py` says how long the rest will take.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from harmonia_lab.batch.plan import BatchPlan
from harmonia_lab.batch.report import BatchReport, Writer
from harmonia_lab.protocol.text import printable
from harmonia_lab.songs_handle import told

__all__ = ["preview", "song_line"]


def preview(plan: BatchPlan, writer: Writer | None, report: BatchReport) -> Iterator[str]:
    """Yield what a person who leaves for the night must know before."""
    count, tasks = len(plan.outcomes), plan.tasks.values()
    left = plan.pace.seconds_left(task.asked for task in tasks)
    kept = sum(outcome.status == "kept" for outcome in plan.outcomes)
    twice = sum(outcome.status == "waiting" for outcome in plan.outcomes) - len(tasks)
    time_left = f" ({told(left, datetime.now().astimezone())})" if left else ""
    numbers = [f"{len(tasks)} songs to make{time_left}", f"{kept} kept", f"{len(report.errors)} with errors"]
    if twice:
        numbers.insert(2, f"{twice} the same as others")
    yield f"{count} rows: {', '.join(numbers)}"
    if report.errors and report.state == "running":
        shown = ", ".join(outcome.row.where for outcome in report.errors[:10])
        yield f"These rows can't be made: {shown}{' …' if len(report.errors) > 10 else ''}"
    if report.unused_columns:
        yield f"Columns for the report alone: {printable(', '.join(report.unused_columns))}"
    if writer and any(task.identity.request.metadata is None for task in tasks):
        yield f"Words by {writer.engine} ({writer.reason})"
        if writer.fallback:
            yield (
                f"NOTE: {writer.engine} is the fallback, since there is no better engine. --require ollama "
                "(require='ollama') begins only with Ollama."
            )


def song_line(what: str, song: Mapping[str, Any]) -> str:
    """Return what became of a song, its title, and its engines. song: as `song_of` returns it."""
    by = ", ".join(song["engines"].values())
    return f"{what:<8}{printable(song['title'])}  ({printable(by)})"
