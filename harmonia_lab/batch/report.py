"""How each row of a batch ended: a report to be printed, parsed, or read as a table in a notebook.

Owns `report.json` and its versions. Measurements of each song are in the run log (`store/run_log.py`);
`BatchReport.frame` selects them.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harmonia_lab.batch.rows import Row
from harmonia_lab.batch.songs import engine_of
from harmonia_lab.errors import ErrorCode, HarmoniaError, StorageError
from harmonia_lab.protocol.text import printable
from harmonia_lab.storage import replace_bytes
from harmonia_lab.store.run_log import PURPOSES

if TYPE_CHECKING:
    import pandas as pd

    from harmonia_lab.analysis.frames import BenchmarkLog

__all__ = ["REPORT_VERSION", "BatchReport", "Outcome", "Writer", "read_report"]

REPORT_VERSION = 2
"""2: written while the batch runs (`state`), with the engines' names counted, other columns of the table (`extra`) and
own names. 1, without a number: written at the end."""

RowStatus = Literal["made", "kept", "failed", "waiting"]
BatchState = Literal["checked", "running", "done", "stopped", "interrupted"]

LEAST_S, COST_SHARE = 1.0, 50
"""While a batch runs, its report isn't written again for so many seconds, and so many times as long as it took."""


@dataclass(frozen=True)
class Outcome:
    """How one row ended. status: made now, kept from an earlier run, failed, or waiting when the batch was stopped.

    same_as: the number of an earlier row that asks for the same song, which was made once. song: what `song_of`
    returned; empty for a row without a song. error: why the row has no song. replaced: where the song is that this one
    took the place of, relative to the batch's folder.
    """

    row: Row
    status: RowStatus = "waiting"
    same_as: int | None = None
    song: dict[str, Any] = field(default_factory=dict)
    error: HarmoniaError | None = None
    replaced: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values under camelCase names, without those that are None."""
        request = self.row.request
        plain: dict[str, Any] = {"row": self.row.number, "line": self.row.line, "status": self.status}
        plain |= {"name": self.row.name, "extra": dict(self.row.extra) or None}
        if request is not None:
            plain["narrative"] = request.narrative
        plain |= {"sameAs": self.same_as, **self.song, "replaced": self.replaced}
        if self.error is not None:
            plain["error"] = _error_to_json(self.error)
        return {name: value for name, value in plain.items() if value is not None}


@dataclass(frozen=True)
class Writer:
    """The engine that writes the words. reason: why it is that one. auto: whether it was taken for "auto".
    fallback: whether it was, because no other engine could be had. error: why there is none; None if there is."""

    engine: str
    reason: str
    auto: bool
    fallback: bool
    error: HarmoniaError | None = None


class BatchReport:
    """All outcomes, in the table's order. It prints as a table; `to_json` makes the content of `report.json`.

    state: checked (`check=True`), running, done, stopped (why: `stopped`), or interrupted. unwritten: why `report.json`
    or `listen.html` could not be written last, None if they were.
    """

    def __init__(
        self, out: Path, outcomes: list[Outcome], log: BenchmarkLog | None, writer: Writer | None = None
    ) -> None:
        self.out, self.outcomes, self._log, self.writer = out, outcomes, log, writer
        self.state: BatchState = "done"
        self.stopped: HarmoniaError | None = None
        self.unwritten: StorageError | None = None
        self._due = 0.0

    @property
    def songs(self) -> list[Outcome]:
        """The rows that have a song, made now or before."""
        return [outcome for outcome in self.outcomes if outcome.song]

    @property
    def errors(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status == "failed"]

    @property
    def ok(self) -> bool:
        """Whether every row has its song (of a check: could be made), and the report is written."""
        return not (self.errors or self.stopped or self.unwritten)

    @property
    def unused_columns(self) -> list[str]:
        """The table's columns that only the report gets, in order."""
        return list(dict.fromkeys(name for outcome in self.outcomes for name in outcome.row.extra))

    @property
    def engines(self) -> dict[str, dict[str, int]]:
        """Stage → engine, with its model → how many songs have it; each song once."""
        once = [outcome.song for outcome in self.songs if outcome.same_as is None]
        return {stage: dict(Counter(song["engines"][stage] for song in once)) for stage in ("metadata", "audio")}

    @property
    def notes(self) -> list[str]:
        """Sentences that nobody must miss: words by the fallback or by mixed engines, an early end, a lost report."""
        found = []
        if self.stopped:
            found.append(f"STOPPED: {self.stopped}")
        if self.writer and self.writer.auto:
            found += self._notes_of(self.writer)
        if self.unwritten:
            found.append(f"NOTE: the report could not be written. {self.unwritten}")
        return [printable(note) for note in found]

    def _notes_of(self, writer: Writer) -> list[str]:
        by: dict[str, Counter[str]] = {"made": Counter(), "kept": Counter()}
        for outcome in self.songs:
            if outcome.same_as is None:
                by[outcome.status][engine_of(outcome.song, "metadata")] += 1
        remade = "--remake (remake=True) makes them again"
        found = []
        if writer.fallback and (made := by["made"][writer.engine]):
            songs = _counted(made, "song")
            found.append(
                f"NOTE: the words of {songs} made now are by {writer.engine}, the fallback: {writer.reason}. "
                f"They are kept; {remade} when a better engine answers."
            )
        for engine, number in by["kept"].items():
            if engine not in (writer.engine, "given"):
                advice = "" if writer.fallback else f" {remade}."
                found.append(
                    f"NOTE: {_counted(number, 'kept song')} with words by {engine}; now it is {writer.engine}.{advice}"
                )
        return found

    def frame(self) -> pd.DataFrame:
        """Return the run log's rows of these songs, as `lab.log.frame()` does, each once.

        A song that was made under another HARMONIA_HOME has no row.
        """
        assert self._log is not None
        frame = self._log.frame(purposes=PURPOSES)
        return frame[frame["generation_id"].isin([outcome.song["generationId"] for outcome in self.songs])]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values.

        rows: each as `Outcome.to_json`. songs, errors, made, kept, waiting: how many rows. codes: errors by code.
        engines: as the property. fallback: the engine that wrote words because no other could be had, and why.
        """
        statuses = Counter(outcome.status for outcome in self.outcomes)
        fallback = self.writer if self.writer and self.writer.fallback else None
        return {
            "reportVersion": REPORT_VERSION,
            "state": self.state,
            "out": str(self.out),
            "songs": len(self.songs),
            "errors": statuses["failed"],
            **{name: statuses[name] for name in ("made", "kept", "waiting")},
            "codes": dict(Counter(str(outcome.error.code) for outcome in self.errors if outcome.error)),
            "stopped": _error_to_json(self.stopped) if self.stopped else None,
            "engines": self.engines,
            "fallback": {"engine": fallback.engine, "reason": fallback.reason} if fallback else None,
            "unusedColumns": self.unused_columns,
            "rows": [outcome.to_json() for outcome in self.outcomes],
        }

    def write(self) -> None:
        """Write `report.json`, whole or not at all. Raises StorageError."""
        text = json.dumps(self.to_json(), ensure_ascii=False, indent=1, allow_nan=False) + "\n"
        # Half of a character, which JSON can name and UTF-8 can't write, becomes its JSON escape.
        replace_bytes(self.out / "report.json", text.encode("utf-8", "backslashreplace"))

    def write_if_due(self) -> None:
        """Write `report.json` while the batch runs, seldom enough to cost little. A failure is kept in `unwritten`."""
        began = time.monotonic()
        if began < self._due:
            return
        self.unwritten = None
        try:
            self.write()
        except StorageError as error:
            self.unwritten = error
        ended = time.monotonic()
        self._due = ended + max(LEAST_S, COST_SHARE * (ended - began))

    def __str__(self) -> str:
        lines = [f"{'row':>4}  {'status':<8}{'seed':>11}  {'words, music':<18}  song or error"]
        for outcome in self.outcomes:
            seed = outcome.song.get("seed", "")
            by = ", ".join(engine_of(outcome.song, stage) for stage in ("metadata", "audio")) if outcome.song else ""
            lines.append(f"{outcome.row.number:>4}  {outcome.status:<8}{seed:>11}  {by:<18}  {_song_or_error(outcome)}")
        return "\n".join([*lines, "", self.summary, *self.notes])

    @property
    def summary(self) -> str:
        """How many songs there are, and by which engines."""
        statuses = Counter(outcome.status for outcome in self.outcomes)
        waiting = f", {statuses['waiting']} not begun" if statuses["waiting"] else ""
        made = f"{_counted(len(self.songs), 'song')} ({statuses['made']} made now, {statuses['kept']} kept)"
        by = [
            f"{title}: {', '.join(f'{number} {_by(name)}' for name, number in found.items())}"
            for title, found in zip(("Words", "Music"), self.engines.values(), strict=True)
            if found
        ]
        return "\n".join([f"{made}, {_counted(statuses['failed'], 'error')}{waiting}", *by])

    __repr__ = __str__

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """Return the report as notebooks show it."""
        del include, exclude
        text = escape(str(self)).replace("/", "/<wbr>")  # lines break at separators; JupyterLab's style would anywhere
        html = f'<pre style="white-space: pre-wrap; word-break: normal; overflow-wrap: anywhere">{text}</pre>'
        return {"text/plain": str(self), "text/html": html}


def read_report(out: Path | str) -> dict[str, Any]:
    """Return the content of a batch's `report.json`, also of one that is running, as version 2 has it.

    Raises HarmoniaError (NOT_FOUND) if there is none, or a newer Harmonia Lab wrote it.
    """
    path = Path(out) / "report.json"
    try:
        plain = json.loads(path.read_bytes())
        version, rows = int(plain.get("reportVersion", 1)), plain["rows"]
        if version == 1:
            plain |= _additions(plain, [row for row in rows if "engines" in row and "sameAs" not in row])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise HarmoniaError(
            f"{path} is missing, or is no report of a batch.",
            code=ErrorCode.NOT_FOUND,
            hint="Name the folder that `harmonia batch` was given.",
        ) from error
    if version > REPORT_VERSION:
        raise HarmoniaError(
            f"{path} was written by a newer Harmonia Lab (report version {version}).",
            code=ErrorCode.NOT_FOUND,
            hint="Update Harmonia Lab.",
        )
    assert isinstance(plain, dict)
    return plain


def _additions(plain: dict[str, Any], songs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what version 2 has beyond version 1, which was written at the end alone."""
    return {
        "reportVersion": REPORT_VERSION,
        "state": "interrupted" if plain["waiting"] else "done",
        "stopped": None,
        "engines": {stage: dict(Counter(song["engines"][stage] for song in songs)) for stage in ("metadata", "audio")},
        "fallback": None,
        "unusedColumns": [],
    }


def _error_to_json(error: HarmoniaError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "hint": error.hint}


def _by(engine: str) -> str:
    return engine if engine == "given" else f"by {printable(engine)}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _song_or_error(outcome: Outcome) -> str:
    if outcome.error is not None:
        where = f"line {outcome.row.line}: " if outcome.row.line else ""
        return f"[{outcome.error.code}] {where}{printable(outcome.error.message)}"
    same = f" (the same as row {outcome.same_as})" if outcome.same_as else ""
    return f"{printable(outcome.song['title'])}  {outcome.song['directory']}{same}" if outcome.song else ""
