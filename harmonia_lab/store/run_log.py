"""The run log: one row for each attempt, successful or not, appended to a JSONL file and never changed.

Owns the columns (names, units, meaning) and the file. `log_lines.py` reads its lines, `generation/` fills the rows,
`analysis/frames.py` makes a DataFrame of them.
"""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

from harmonia_lab import locks, storage
from harmonia_lab.errors import StorageError
from harmonia_lab.store.log_lines import ColumnType, LineReader, LogRow

__all__ = [
    "A_SONG",
    "COLUMNS",
    "PURPOSES",
    "SCHEMA_VERSION",
    "Column",
    "Purpose",
    "RunLabels",
    "RunLog",
    "line_reader",
    "options_text",
]

SCHEMA_VERSION = 4
"""4: with a story's digest, the row of a batch, settings, decoder and digest of stage 2, USS, and why there is
no PSS. Older rows lack these."""
BLOCK_BYTES = 2**20
"""What is in memory at once of a log that is read whole."""
TAIL_BYTES = 2 * 2**20
"""A thousand rows or more: `RunLog.latest` reads no more of the file."""

Purpose = Literal["song", "study", "verify", "bench", "test"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)


@dataclass(frozen=True)
class RunLabels:
    """What a generation is made for, in each of its rows.

    purpose: "song" for one that a person wants, "study" for one of a study's; "verify" (made again to compare it),
    "bench" and "test" for songs that say nothing about a person's work. study: the study's id. block: its number in the
    study; None for a warm-up. configuration: its name in the study. batch_row: number of its row in a batch's table.
    """

    purpose: Purpose = "song"
    study: str | None = None
    block: int | None = None
    configuration: str | None = None
    batch_row: int | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> RunLabels:
        """Return the labels in a row."""
        names = ("study", "block", "configuration", "batch_row")
        return cls(row.get("purpose") or "song", *(row.get(name) for name in names))


A_SONG = RunLabels()


def options_text(options: Mapping[str, Any] | None) -> str | None:
    """Return a song's audio options as the column has them. The log holds nobody's words: of a text, how long it is."""
    if not options:
        return None
    kept = {name: f"{len(value)} characters" if isinstance(value, str) else value for name, value in options.items()}
    return json.dumps(kept, sort_keys=True)


@dataclass(frozen=True)
class Column:
    """unit: "" for names, counts and ratios."""

    unit: str
    dtype: ColumnType
    meaning: str


_TEXT: ColumnType = "string"
_INT: ColumnType = "Int64"
_FLOAT: ColumnType = "Float64"

COLUMNS: dict[str, Column] = {
    "schema": Column("", _INT, "version of this table"),
    "run_id": Column("", _TEXT, "one attempt at one generation"),
    "generation_id": Column("", _TEXT, "the generation that the attempt belongs to"),
    "attempt": Column("", _INT, "1 for the first; more after recovery"),
    "purpose": Column("", _TEXT, "what it was made for: song, study, verify, bench or test"),
    "study": Column("", _TEXT, "id of the study that it belongs to"),
    "block": Column("", _INT, "number of its block in the study; missing in a study: a warm-up"),
    "configuration": Column("", _TEXT, "name of its configuration in the study"),
    "batch_row": Column("", _INT, "number of its row in the table of a batch"),
    "started_at": Column("UTC", _TEXT, "when the attempt began, ISO 8601"),
    "recoveries": Column("", _TEXT, "plans of recovery that led to the attempt, or within it, in order: name,name"),
    "recovery_s": Column("s", _FLOAT, "of these: waits and restarts before the attempt, failed tries within it"),
    "status": Column("", _TEXT, "completed, failed or cancelled"),
    "error_code": Column("", _TEXT, "why it failed, from errors.ErrorCode"),
    "cancel_reason": Column("", _TEXT, "user_cancelled, timeout or system_error"),
    "stage": Column("", _TEXT, "the stage it was in when it ended: metadata, audio, or done"),
    "version": Column("", _TEXT, "of Harmonia Lab"),
    "git_commit": Column("", _TEXT, "of Harmonia Lab's sources; + where they were changed"),
    "host": Column("", _TEXT, "network name of the machine"),
    "worker": Column("", _TEXT, "name of the cluster's worker that made it; missing for a song of this machine's"),
    "threads": Column("", _INT, "threads of a library on that worker"),
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
    "audio_settings": Column("", "object", "settings of the audio engine, by name"),
    "audio_decoder": Column("", _TEXT, "decode loop that ran; missing where the engine has none"),
    "audio_digest": Column("", _TEXT, "digest of the audio model's weights, or of the sound bank"),
    "seed": Column("", _INT, "of the request"),
    "narrative_characters": Column("characters", _INT, "length of the narrative; its text is not logged"),
    "narrative_digest": Column("", _TEXT, "first 16 digits of its SHA-256: equal stories have equal ones"),
    "seconds_requested": Column("s", _FLOAT, "length asked for"),
    "audio_options": Column("", _TEXT, "settings of the audio engine for this song alone, JSON; of a text its length"),
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
    "metadata_uss_peak_bytes": Column(
        "bytes", _INT, "stage 1, where there is no PSS: highest memory that no other process shares (USS)"
    ),
    "audio_uss_peak_bytes": Column("bytes", _INT, "stage 2: the same"),
    "memory_reason": Column("", _TEXT, "why the PSS columns are missing"),
    "metadata_gpu_allocated_peak_bytes": Column("bytes", _INT, "stage 1: torch's peak of allocated device memory"),
    "metadata_gpu_reserved_peak_bytes": Column(
        "bytes", _INT, "stage 1: torch's peak of reserved device memory; on Metal, its driver's"
    ),
    "audio_gpu_allocated_peak_bytes": Column("bytes", _INT, "stage 2: as above"),
    "audio_gpu_reserved_peak_bytes": Column("bytes", _INT, "stage 2: as above"),
    "metadata_gpu_used_peak_bytes": Column(
        "bytes", _INT, "stage 1: highest use of the whole device by everybody (NVML)"
    ),
    "audio_gpu_used_peak_bytes": Column("bytes", _INT, "stage 2: as above"),
    "gpu_reason": Column("", _TEXT, "why the GPU columns are missing"),
    "directory": Column("", _TEXT, "the song's folder"),
    "checksum": Column("", _TEXT, "SHA-256 of the song file"),
    "measured_bpm": Column("1/min", _FLOAT, "beats a minute as measured in the song; missing where no beat is clear"),
    "measured_key": Column("", _TEXT, "key as measured in the song; missing where none is clear"),
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
        with storage.changing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fd = storage.open_private(self.path, os.O_RDWR | os.O_APPEND)
            try:
                with locks.guarding(self.path):
                    self._append(fd, line)
            finally:
                os.close(fd)

    def _append(self, fd: int, line: bytes) -> None:
        size = os.fstat(fd).st_size
        if size and storage.read_at(fd, 1, size - 1) != b"\n":
            line = b"\n" + line  # a writer was killed in mid-row: keep this row apart
        written = os.write(fd, line)
        if written != len(line):
            os.ftruncate(fd, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        os.fsync(fd)

    def blocks(self, reader: LineReader) -> Iterator[list[LogRow]]:
        """Yield all rows as `reader` reads them, oldest first, some thousand at once.

        Raises StorageError if the log exists and can't be read.
        """
        with self._reading() as file:
            while block := file.read(BLOCK_BYTES) + file.readline():
                yield reader.rows(block)

    def rows(self) -> list[dict[str, Any]]:
        """Return all complete rows, oldest first. Of a log of many thousands, `BenchmarkLog.frame` takes much less.

        A row that a crash cut off or that has a newer schema is left out; so is a value that isn't of its column's
        type, so that a faulty edit of the file costs no other value.

        Raises StorageError if the log exists and can't be read.
        """
        reader = line_reader(COLUMNS)
        return [dict(zip(reader.columns, row, strict=True)) for block in self.blocks(reader) for row in block]

    def latest(self, count: int, columns: Iterable[str]) -> list[dict[str, Any]]:
        """Return the last `count` rows, oldest first, or as many as `TAIL_BYTES` hold: a long log costs no more.

        Raises StorageError if the log exists and can't be read.
        """
        with self._reading() as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            if size > TAIL_BYTES:
                file.readline()  # the end of a row, or a whole one
            lines = file.readlines()[-count:]  # blank ones count, which only an editor makes
        reader = line_reader(columns)
        return [dict(zip(reader.columns, row, strict=True)) for row in reader.rows(b"".join(lines))]

    def find(self, run_id: str) -> dict[str, Any] | None:
        """Return the attempt's row; None if it has none yet. Raises StorageError if the log can't be read."""
        return next(iter(self._with("run_id", run_id)), None)

    def of_generation(self, generation_id: str) -> list[dict[str, Any]]:
        """Return the rows of a generation's attempts, oldest first. Raises StorageError if the log can't be read."""
        return self._with("generation_id", generation_id)

    def _with(self, column: str, value: str) -> list[dict[str, Any]]:
        needle = json.dumps(value, ensure_ascii=False).encode()
        with self._reading() as file:
            lines = [line for line in file if needle in line]
        reader = line_reader(COLUMNS)
        rows = [dict(zip(reader.columns, row, strict=True)) for row in reader.rows(b"".join(lines))]
        return [row for row in rows if row[column] == value]

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


def line_reader(columns: Iterable[str], *, many: bool = False) -> LineReader:
    """Return a reader of rows with `columns`, and "schema" before them. many: of a log that may be long."""
    types = {name: COLUMNS[name].dtype for name in ("schema", *columns)}
    return LineReader(types, SCHEMA_VERSION, {"purpose": A_SONG.purpose}, many=many)
