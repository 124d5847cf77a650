"""The run log: one row for each attempt, successful or not, appended to a JSONL file and never changed.

Owns the columns (names, units, meaning) and the file. `generation/` fills the rows; `analysis/frames.py` makes a
DataFrame of them.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from harmonia_lab.errors import StorageError
from harmonia_lab.storage import storage_errors

__all__ = ["A_SONG", "COLUMNS", "PURPOSES", "SCHEMA_VERSION", "Column", "Purpose", "RunLabels", "RunLog"]

SCHEMA_VERSION = 2

Purpose = Literal["song", "study", "verify", "bench", "test"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)


@dataclass(frozen=True)
class RunLabels:
    """What a generation is made for, in each of its rows.

    purpose: "song" for one that a person wants, "study" for one of a study's; "verify" (made again to compare it),
    "bench" and "test" for songs that say nothing about a person's work. study: the study's id. block: its number in the
    study; None for a warm-up. configuration: its name in the study.
    """

    purpose: Purpose = "song"
    study: str | None = None
    block: int | None = None
    configuration: str | None = None


A_SONG = RunLabels()


@dataclass(frozen=True)
class Column:
    """unit: "" for names, counts and ratios. dtype: a pandas extension dtype, which can hold missing values."""

    unit: str
    dtype: str
    meaning: str


_TEXT, _INT, _FLOAT = "string", "Int64", "Float64"

COLUMNS: dict[str, Column] = {
    "schema": Column("", _INT, "version of this table"),
    "run_id": Column("", _TEXT, "one attempt at one generation"),
    "generation_id": Column("", _TEXT, "the generation that the attempt belongs to"),
    "attempt": Column("", _INT, "1 for the first; more after recovery"),
    "purpose": Column("", _TEXT, "what it was made for: song, study, verify, bench or test"),
    "study": Column("", _TEXT, "id of the study that it belongs to"),
    "block": Column("", _INT, "number of its block in the study; missing in a study: a warm-up"),
    "configuration": Column("", _TEXT, "name of its configuration in the study"),
    "started_at": Column("UTC", _TEXT, "when the attempt began, ISO 8601"),
    "status": Column("", _TEXT, "completed, failed or cancelled"),
    "error_code": Column("", _TEXT, "why it failed, from errors.ErrorCode"),
    "cancel_reason": Column("", _TEXT, "user_cancelled, timeout or system_error"),
    "stage": Column("", _TEXT, "the stage it was in when it ended: metadata, audio, or done"),
    "version": Column("", _TEXT, "of Harmonia Lab"),
    "git_commit": Column("", _TEXT, "of Harmonia Lab's sources; + where they were changed"),
    "host": Column("", _TEXT, "network name of the machine"),
    "platform": Column("", _TEXT, "operating system"),
    "python": Column("", _TEXT, "version"),
    "cpu": Column("", _TEXT, "processor model"),
    "cores": Column("", _INT, "cores that this process may use"),
    "memory_bytes": Column("bytes", _INT, "memory of the machine"),
    "gpu": Column("", _TEXT, "name of the device that NVML measures; missing where there is none"),
    "gpu_driver": Column("", _TEXT, "driver version"),
    "torch": Column("", _TEXT, "version; missing where not loaded"),
    "metadata_engine": Column("", _TEXT, "ollama or embedded"),
    "metadata_model": Column("", _TEXT, "language model"),
    "metadata_digest": Column("", _TEXT, "digest of the language model's weights"),
    "metadata_strategy": Column("", _TEXT, "structured or stepwise prompting"),
    "audio_engine": Column("", _TEXT, "sketch or musicgen"),
    "audio_model": Column("", _TEXT, "audio model or sound bank"),
    "seed": Column("", _INT, "of the request"),
    "narrative_characters": Column("characters", _INT, "length of the narrative; its text is not logged"),
    "seconds_requested": Column("s", _FLOAT, "length asked for"),
    "bpm": Column("1/min", _FLOAT, "quarter notes a minute"),
    "instruments": Column("", _INT, "how many were planned"),
    "total_s": Column("s", _FLOAT, "wall time of the attempt"),
    "cpu_s": Column("s", _FLOAT, "processor time of the process and its ended children"),
    "metadata_s": Column("s", _FLOAT, "wall time of stage 1"),
    "metadata_load_s": Column("s", _FLOAT, "of that, loading the language model"),
    "time_to_first_token_s": Column("s", _FLOAT, "from the start of stage 1, load included"),
    "tokens": Column("", _INT, "generated in stage 1"),
    "tokens_per_second": Column("1/s", _FLOAT, "over the model's own generation time"),
    "audio_s": Column("s", _FLOAT, "wall time of stage 2"),
    "audio_load_s": Column("s", _FLOAT, "of that, loading the audio engine"),
    "plan_s": Column("s", _FLOAT, "of that, composing"),
    "render_s": Column("s", _FLOAT, "of that, rendering the instruments"),
    "mix_s": Column("s", _FLOAT, "of that, mixing and mastering"),
    "write_s": Column("s", _FLOAT, "of that, writing the song's folder"),
    "audio_cpu_s": Column("s", _FLOAT, "processor time of stage 2, its renderer included"),
    "instrument_s": Column("s", "object", "rendering time by instrument: {name: seconds}"),
    "time_to_first_audio_s": Column("s", _FLOAT, "from the start of rendering to the first sound, loading included"),
    "steps_per_second": Column("1/s", _FLOAT, "of the audio model's decode loop, over its own time"),
    "audio_batch": Column("", _INT, "stems rendered at once; missing where the engine renders one by one"),
    "audio_recoveries": Column("", _INT, "how often stage 2 tried again in another way within the attempt"),
    "audio_seconds": Column("s", _FLOAT, "length of the song"),
    "real_time_factor": Column("", _FLOAT, "audio_s over audio_seconds; under 1 is faster than playing"),
    "metadata_rss_peak_bytes": Column("bytes", _INT, "stage 1: highest resident memory, children included"),
    "audio_rss_peak_bytes": Column("bytes", _INT, "stage 2: the same"),
    "metadata_gpu_allocated_peak_bytes": Column("bytes", _INT, "stage 1: torch's peak of allocated device memory"),
    "metadata_gpu_reserved_peak_bytes": Column("bytes", _INT, "stage 1: torch's peak of reserved device memory"),
    "audio_gpu_allocated_peak_bytes": Column("bytes", _INT, "stage 2: as above"),
    "audio_gpu_reserved_peak_bytes": Column("bytes", _INT, "stage 2: as above"),
    "metadata_gpu_used_peak_bytes": Column(
        "bytes", _INT, "stage 1: highest use of the whole device by everybody (NVML)"
    ),
    "audio_gpu_used_peak_bytes": Column("bytes", _INT, "stage 2: as above"),
    "gpu_reason": Column("", _TEXT, "why the GPU columns are missing"),
    "directory": Column("", _TEXT, "the song's folder"),
    "checksum": Column("", _TEXT, "SHA-256 of the song file"),
}
"""Column → unit, type, meaning; in the order that the file and the frame keep."""


class RunLog:
    """Rows in the file `path`. Several processes may append at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: dict[str, Any]) -> None:
        """Write one row in one piece, and wait until it is on disk.

        Raises StorageError if the disk is full or the file can't be written, KeyError for an unknown column.
        """
        unknown = row.keys() - COLUMNS.keys()
        if unknown:
            raise KeyError(f"columns that the run log does not have: {sorted(unknown)}")
        full = {name: row.get(name) for name in COLUMNS} | {
            "schema": SCHEMA_VERSION,
            "purpose": row.get("purpose") or "song",
        }
        line = json.dumps(full, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with storage_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                size = os.fstat(fd).st_size
                if size and os.pread(fd, 1, size - 1) != b"\n":
                    line = b"\n" + line  # a writer was killed in mid-row: keep this row apart
                written = os.write(fd, line)
                if written != len(line):
                    os.ftruncate(fd, size)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
                os.fsync(fd)
            finally:
                os.close(fd)

    def rows(self) -> list[dict[str, Any]]:
        """Return all complete rows, oldest first.

        A row that a crash cut off or that has a newer schema is left out; so is a value that isn't of its column's
        type, so that a faulty edit of the file costs no other value.

        Raises StorageError if the log exists and can't be read.
        """
        try:
            lines = self.path.read_bytes().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise StorageError(
                f"The run log {self.path} cannot be read: {error.strerror}.",
                hint="Change its permissions, or set HARMONIA_HOME to another folder.",
            ) from error
        found = []
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and (_fitting(_INT, row.get("schema")) or 0) <= SCHEMA_VERSION:
                known = {name: _fitting(column.dtype, row.get(name)) for name, column in COLUMNS.items()}
                found.append(known | {"purpose": known["purpose"] or "song"})  # schema 1 had no purposes
        return found


def _fitting(dtype: str, value: Any) -> Any:
    """Return `value`, or None if a column of type `dtype` can't hold it."""
    if dtype == _TEXT:
        return value if isinstance(value, str) else None
    if dtype in (_INT, _FLOAT):
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return value if number and (dtype == _FLOAT or value == int(value)) else None
    return value if isinstance(value, dict) else None
