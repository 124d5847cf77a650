"""The results of a measurement: one JSON object a line, checked when it is written.

Owns the kinds of rows and their fields. The measurements are in `parts/`, the tables in `report.py`.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["KINDS", "Rows", "problems_of"]

Number = (int, float)
_SPREAD = dict

KINDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    # status: done, failed, timeout or stopped. why: the last line of the error
    "part": {"status": str, "seconds": Number, "limit_s": Number, "why": str},
    # a measurement that this run could not make, such as replayed graphs in a rehearsal on a CPU
    "unreached": {"what": str, "why": str},
    "machine": {"device": str, "driver": (str, type(None)), "versions": dict, "host": dict, "clocks": dict},
    "missing": {"problems": list},
    # limits of the device: GB/s (1e9 bytes), launches a second
    "ceiling": {"name": str, "unit": str, "value": dict},
    "tokens": {
        "model": str, "dtype": str, "loop": str, "rows": int, "frames": int, "sampling": str,
        "tokens": int, "equal": bool, "same": bool, "differences": list,
    },
    # float16: the number of rows whose tokens agree to the end, between two loops or two batch sizes
    "agreement": {
        "model": str, "dtype": str, "pair": str, "sampling": str, "rows": int, "equal_rows": int,
        "first_difference": list, "margins": list, "logit_error": Number,
    },
    "repeat": {"model": str, "dtype": str, "loop": str, "same": bool},
    "speed": {
        "model": str, "dtype": str, "loop": str, "batch": int, "position": int, "steps": int, "rounds": int,
        "step_ms": dict, "steps_per_s": Number, "real_time_factor": Number, "bytes_per_step": int,
        "floor_ms": Number, "share_of_floor": Number, "first_step_s": Number,
    },
    "song": {
        "number": int, "seconds": Number, "audio_s": Number, "steps_per_second": (int, float, type(None)),
        "time_to_first_audio_s": (int, float, type(None)), "allocated_peak": (int, type(None)),
        "reserved_peak": (int, type(None)), "used_peak": (int, type(None)), "watched_peak": (int, type(None)),
        "recovered": list,
    },
    "memory": {"name": str, "bytes": (int, type(None)), "note": str},
    "cancel": {"phase": str, "heard_ms": dict, "n": int, "late": int, "allocated_before": int, "allocated_after": int},
    "profile": {
        "model": str, "loop": str, "batch": int, "position": int, "kernels_per_step": Number, "busy_ms": Number,
        "step_ms": Number, "floor_ms": Number, "top": list,
    },
    "codec": {"what": str, "audio_seconds_per_second": dict},
}  # fmt: skip
"""Kind → its fields and their types. Each row also has `part`, `kind` and `at` (seconds since the part began).

A spread is {"median", "min", "max"}. heard_ms: from the cancel to the end of `render`. n: the number of measurements.
"""


class Rows:
    """A file of rows. Each row is written at once, so that the rows of a part that dies are kept."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, part: str, kind: str, at: float, **fields: Any) -> dict[str, Any]:
        """Append a row and return it. Raise ValueError if a field is missing, unknown or of another type."""
        row = {"part": part, "kind": kind, "at": round(at, 3), **fields}
        found = problems_of(row)
        if found:
            raise ValueError(f"a {kind} row of {part}: {'; '.join(found)}")
        with self._path.open("ab+") as file:
            file.seek(0, os.SEEK_END)
            if file.tell():
                file.seek(-1, os.SEEK_END)
                whole = file.read(1) == b"\n"  # False if a process died while it wrote
                file.write(b"" if whole else b"\n")
            file.write(json.dumps(row).encode() + b"\n")
        return row

    def read(self) -> list[dict[str, Any]]:
        """Return all rows, without lines that are incomplete."""
        rows = []
        for line in (
            self._path.read_text(errors="replace", encoding="utf-8").splitlines() if self._path.exists() else []
        ):
            with suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict) and "kind" in row:
                    rows.append(row)
        return rows


def problems_of(row: dict[str, Any]) -> list[str]:
    """Return what is wrong with a row, in words."""
    kind = row.get("kind")
    if kind not in KINDS:
        return [f"there is no kind {kind!r}"]
    wanted = KINDS[kind]
    given = {name: value for name, value in row.items() if name not in ("part", "kind", "at")}
    found = [f"{name} is missing" for name in wanted if name not in given]
    found += [f"{name} is not known" for name in given if name not in wanted]
    return found + [
        f"{name} is {value!r}"
        for name, value in given.items()
        if name in wanted
        and (not isinstance(value, wanted[name]) or (isinstance(value, bool) and wanted[name] is not bool))
    ]
