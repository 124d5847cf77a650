"""How each row of a batch ended: a report to be printed, parsed, or read as a table in a notebook.

Owns `report.json`. Measurements of each song are in the run log (`store/run_log.py`); `BatchReport.frame` selects them.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harmonia_lab.batch.rows import Row
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.storage import write_bytes
from harmonia_lab.store.run_log import PURPOSES

if TYPE_CHECKING:
    import pandas as pd

    from harmonia_lab.analysis.frames import BenchmarkLog

__all__ = ["BatchReport", "Outcome", "printable", "song_of"]

RowStatus = Literal["made", "kept", "failed", "waiting"]


@dataclass(frozen=True)
class Outcome:
    """How one row ended. status: made now, kept from an earlier run, failed, or waiting when the batch was stopped.

    same_as: the number of an earlier row that asks for the same song, which was made once. song: what `song_of`
    returned; empty for a row without a song. error: why the row has no song.
    """

    row: Row
    status: RowStatus = "waiting"
    same_as: int | None = None
    song: dict[str, Any] = field(default_factory=dict)
    error: HarmoniaError | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values under camelCase names, without those that are None."""
        request = self.row.request
        plain: dict[str, Any] = {"row": self.row.number, "line": self.row.line, "status": self.status}
        if request is not None:
            plain["narrative"] = request.narrative
        plain |= {"sameAs": self.same_as, **self.song}
        if self.error is not None:
            plain["error"] = {"code": self.error.code, "message": self.error.message, "hint": self.error.hint}
        return {name: value for name, value in plain.items() if value is not None}


def song_of(folder: Path, out: Path) -> dict[str, Any] | None:
    """Return the figures of the finished song in `folder`; None where there is no whole song.

    The sizes of files are compared with the record, their digests are not: `harmonia verify` does that. directory:
    relative to `out`. seconds: as requested. totalSeconds: the time it took to make. loudness: LUFS, None for silence.
    """
    try:
        record = read_record(folder)
        if any((folder / name).stat().st_size != file["bytes"] for name, file in record["files"].items()):
            return None
        metadata = json.loads((folder / "metadata.json").read_bytes())
        return {
            "generationId": record["generationId"],
            "directory": folder.relative_to(out).as_posix(),
            **{name: metadata[name] for name in ("title", "genre", "mood", "bpm", "key")},
            "seed": record["request"]["seed"],
            "seconds": record["request"]["seconds"],
            "engines": {stage: _engine(found) for stage, found in record["engines"].items()},
            "totalSeconds": record["timings"]["total"],
            "loudness": record["measurements"]["loudness_lufs"],
            "checksum": record["files"]["song.flac"]["sha256"],
        }
    except (HarmoniaError, OSError, ValueError, KeyError, TypeError):
        return None


def _engine(record: dict[str, Any]) -> str:
    """Return the engine's name, with its model's if it has one."""
    model = record.get("model")
    return f"{record['engine']} ({model})" if model else str(record["engine"])


class BatchReport:
    """All outcomes, in the table's order. It prints as a table; `to_json` makes the content of `report.json`."""

    def __init__(self, out: Path, outcomes: list[Outcome], log: BenchmarkLog) -> None:
        self.out, self.outcomes, self._log = out, outcomes, log

    @property
    def songs(self) -> list[Outcome]:
        """The rows that have a song, made now or before."""
        return [outcome for outcome in self.outcomes if outcome.song]

    @property
    def errors(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status == "failed"]

    def frame(self) -> pd.DataFrame:
        """Return the run log's rows of these songs, as `lab.log.frame()` does, each once.

        A song that was made under another HARMONIA_HOME has no row.
        """
        frame = self._log.frame(purposes=PURPOSES)
        return frame[frame["generation_id"].isin([outcome.song["generationId"] for outcome in self.songs])]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values.

        rows: each as `Outcome.to_json`. songs, errors, made, kept, waiting: how many rows. codes: errors by code.
        """
        statuses = Counter(outcome.status for outcome in self.outcomes)
        return {
            "out": str(self.out),
            "songs": len(self.songs),
            "errors": statuses["failed"],
            **{name: statuses[name] for name in ("made", "kept", "waiting")},
            "codes": dict(Counter(str(outcome.error.code) for outcome in self.errors if outcome.error)),
            "rows": [outcome.to_json() for outcome in self.outcomes],
        }

    def write(self) -> None:
        """Write `report.json`. Raises StorageError."""
        text = json.dumps(self.to_json(), ensure_ascii=False, indent=1, allow_nan=False) + "\n"
        write_bytes(self.out / "report.json", text.encode())

    def __str__(self) -> str:
        lines = [f"{'row':>4}  {'status':<8}{'seed':>11}  song or error"]
        for outcome in self.outcomes:
            seed = outcome.song.get("seed", "")
            lines.append(f"{outcome.row.number:>4}  {outcome.status:<8}{seed:>11}  {_song_or_error(outcome)}")
        statuses = Counter(outcome.status for outcome in self.outcomes)
        waiting = f", {statuses['waiting']} not begun" if statuses["waiting"] else ""
        made = f"{_counted(len(self.songs), 'song')} ({statuses['made']} made now, {statuses['kept']} kept)"
        return "\n".join([*lines, "", f"{made}, {_counted(statuses['failed'], 'error')}{waiting}"])

    __repr__ = __str__


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _song_or_error(outcome: Outcome) -> str:
    if outcome.error is not None:
        where = f"line {outcome.row.line}: " if outcome.row.line else ""
        return f"[{outcome.error.code}] {where}{printable(outcome.error.message)}"
    same = f" (the same as row {outcome.same_as})" if outcome.same_as else ""
    return f"{printable(outcome.song['title'])}  {outcome.song['directory']}{same}" if outcome.song else ""


def printable(text: str) -> str:
    """Return the text, which a model may have written, without characters that move a cursor or reverse the line."""
    return "".join(
        c if c.isprintable() and unicodedata.bidirectional(c) not in _BIDIRECTIONAL_CONTROLS else " " for c in text
    )


_BIDIRECTIONAL_CONTROLS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
