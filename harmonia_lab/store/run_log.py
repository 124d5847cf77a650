"""The run log: one row for each attempt, successful or not, appended to a JSONL file and never changed.

Owns the columns (names, units, meaning) and the file. `log_lines.py` reads its lines, `generation/` fills the rows,
`analysis/frames.py` makes a DataFrame of them.
"""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

from harmonia_lab.errors import StorageError
from harmonia_lab.storage import storage_errors
from harmonia_lab.store.log_lines import Dtype, LeftOut, typed_rows

__all__ = ["A_SONG", "COLUMNS", "PURPOSES", "SCHEMA_VERSION", "Column", "Purpose", "RunLabels", "RunLog"]

SCHEMA_VERSION = 2
TAIL_BYTES = 2 * 2**20
"""A thousand rows or more: `RunLog.latest` reads no more of the file."""

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

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> RunLabels:
        """Return the labels in a row."""
        return cls(row.get("purpose") or "song", row.get("study"), row.get("block"), row.get("configuration"))


A_SONG = RunLabels()


@dataclass(frozen=True)
class Column:
    """unit: "" for names, counts and ratios."""

    unit: str
    dtype: Dtype
    meaning: str


_TEXT: Dtype = "string"
_INT: Dtype = "Int64"
_FLOAT: Dtype = "Float64"

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
    "load_1m": Column("", _FLOAT, "load average of the minute before the attempt: tasks that ran or waited"),
    "others_cpu_share": Column(
        "", _FLOAT, "processor time of other programs during the attempt, over that of all the machine's cores, 0…1"
    ),
    "cpu_steal_s": Column("s", _FLOAT, "processor time that the hypervisor took from all cores during the attempt"),
    "cpu_pressure_share": Column(
        "", _FLOAT, "share of the attempt in which some task, ours or not, waited for a core (Linux PSI), 0…1"
    ),
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
    "pss_peak_bytes": Column(
        "bytes", _INT, "highest memory of both stages, children included, shared pages counted once (PSS, Linux)"
    ),
    "metadata_pss_peak_bytes": Column("bytes", _INT, "stage 1: as above, without the processes of stage 2's engine"),
    "audio_pss_peak_bytes": Column("bytes", _INT, "stage 2: as above, without the processes of stage 1's engine"),
    "metadata_rss_peak_bytes": Column(
        "bytes", _INT, "stage 1: highest resident memory, children included; pages that they share count for each"
    ),
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

    def values(self, columns: Sequence[str], left_out: LeftOut | None = None) -> Iterator[tuple[Any, ...]]:
        """Yield the columns' values of each row, oldest first, as they are read. left_out: counts what is no row.

        Raises StorageError if the log exists and can't be read.
        """
        with self._reading() as file:
            yield from self._typed(file, columns, left_out or LeftOut(), many=True)

    def rows(self) -> list[dict[str, Any]]:
        """Return all complete rows, oldest first; for a log of many thousands, `values` takes much less of everything.

        A row that a crash cut off or that has a newer schema is left out; so is a value that isn't of its column's
        type, so that a faulty edit of the file costs no other value.

        Raises StorageError if the log exists and can't be read.
        """
        with self._reading() as file:
            return [dict(zip(COLUMNS, row, strict=True)) for row in self._typed(file, list(COLUMNS), LeftOut())]

    def latest(self, count: int, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Return the last `count` rows, oldest first, or as many as `TAIL_BYTES` hold: a long log costs no more.

        Raises StorageError if the log exists and can't be read.
        """
        with self._reading() as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            if size > TAIL_BYTES:
                file.readline()  # the end of a row, or a whole one
            lines = file.readlines()[-count:]
        return [dict(zip(columns, row, strict=True)) for row in self._typed(lines, columns, LeftOut())]

    def has(self, run_id: str) -> bool:
        """Return whether the attempt has its row. Raises StorageError if the log exists and can't be read."""
        needle = json.dumps(run_id, ensure_ascii=False).encode()
        with self._reading() as file:
            candidates = (line for line in file if needle in line)
            return any(row == (run_id,) for row in self._typed(candidates, ["run_id"], LeftOut()))

    @contextmanager
    def _reading(self) -> Iterator[BinaryIO]:
        try:
            with self._opened() as file:
                yield file
        except OSError as error:
            raise StorageError(
                f"The run log {self.path} cannot be read: {error.strerror}.",
                hint="Change its permissions, or set HARMONIA_HOME to another folder.",
            ) from error

    def _opened(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except (FileNotFoundError, NotADirectoryError):
            return io.BytesIO()

    def _typed(
        self, lines: Iterable[bytes], columns: Sequence[str], left_out: LeftOut, *, many: bool = False
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the columns' values of each line that is a row."""
        types = {name: COLUMNS[name].dtype for name in columns}
        at = list(columns).index("purpose") if "purpose" in columns else None
        for row in typed_rows(lines, types, SCHEMA_VERSION, left_out, many=many):
            if at is not None and row[at] is None:  # schema 1 had no purposes
                yield (*row[:at], A_SONG.purpose, *row[at + 1 :])
            else:
                yield row
