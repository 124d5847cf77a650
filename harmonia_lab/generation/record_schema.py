"""The types of a record's parts, and the digest that a record has of itself.

Owns what `run.json` may hold, and when two records are the same record. `record.py` makes one, `artifacts.py` reads it,
`verify.py` compares it with its folder.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic brings it, and wants this one before Python 3.12

__all__ = [
    "DIGEST",
    "MAX_BYTES",
    "RECORD_VERSION",
    "check_types",
    "file_inside",
    "first_difference",
    "record_digest",
    "sealed",
]

RECORD_VERSION = 2
"""Since 2, a record has its `DIGEST`. 1 is read too."""

DIGEST = "recordSha256"
"""The record's own digest, over all its other parts."""

MAX_BYTES = 64 * 2**20
"""Of `run.json`. That of a song of ten minutes with eight stems has half a megabyte."""


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or str(path) != name:
        raise ValueError("names a file outside the song's folder")
    return name


_FileName = Annotated[str, AfterValidator(_inside)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
_Closed = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


@with_config(_Closed)
class _File(TypedDict):
    sha256: _Sha256
    bytes: Annotated[int, Field(ge=0)]


@with_config(_Closed)
class _Stem(TypedDict):
    file: _FileName
    name: str
    role: str
    sampleRate: Annotated[int, Field(gt=0)]


@with_config(_Closed)
class _Seeds(TypedDict):
    request: _Seed
    metadata: NotRequired[_Seed]
    plan: NotRequired[_Seed]
    stems: NotRequired[dict[str, _Seed]]


@with_config(_Closed)
class _Engine(TypedDict):
    engine: str
    model: NotRequired[str | None]


@with_config(_Closed)
class _Engines(TypedDict):
    metadata: _Engine
    audio: _Engine


@with_config(_Closed)
class _StemLevel(TypedDict):
    name: NotRequired[str]
    loudness_lufs: NotRequired[float | None]
    gain_db: NotRequired[float]
    pan: NotRequired[float]


@with_config(_Closed)
class _Measurements(TypedDict):
    loudness_lufs: NotRequired[float | None]
    true_peak_dbtp: NotRequired[float | None]
    stems: NotRequired[list[_StemLevel]]


@with_config(_Closed)
class _Measured(TypedDict):
    bpm: NotRequired[float | None]
    bpmConfidence: NotRequired[float]
    key: NotRequired[str | None]
    keyConfidence: NotRequired[float]
    otherBpm: NotRequired[float | None]
    tuningHz: NotRequired[float | None]
    beats: NotRequired[list[float]]
    sections: NotRequired[list[float]]
    silentShare: NotRequired[float]
    clippedShare: NotRequired[float]


@with_config(_Closed)
class _Record(TypedDict):
    """request, engines, files, seconds: every reader relies on them. The others may be missing in old records."""

    recordVersion: int
    recordSha256: NotRequired[_Sha256]
    generationId: NotRequired[str]
    songId: NotRequired[str]
    startedAt: NotRequired[str]
    request: dict[str, Any]
    wishes: NotRequired[list[dict[str, Any]]]
    warnings: NotRequired[list[str]]
    seeds: NotRequired[_Seeds]
    engines: _Engines
    versions: NotRequired[dict[str, str]]
    gitCommit: NotRequired[str | None]
    host: NotRequired[dict[str, Any]]
    timings: NotRequired[dict[str, float]]
    memory: NotRequired[dict[str, Any]]
    measurements: NotRequired[_Measurements]
    follows: NotRequired[list[str]]
    measured: NotRequired[_Measured]
    notes: NotRequired[list[str]]
    stems: NotRequired[list[_Stem]]
    files: dict[_FileName, _File]
    seconds: dict[_FileName, list[_Sha256]]


@functools.lru_cache(maxsize=1)
def _schema() -> TypeAdapter[_Record]:
    return TypeAdapter(_Record)


def check_types(record: Any) -> str | None:
    """Return where a value has a wrong type, and what it should be, as a sentence; None if all are right."""
    try:
        _schema().validate_python(record)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"] if part != "[key]") or "the record"
        message = first["msg"].removeprefix("Value error, ")
        return f"{where}: {message[0].lower()}{message[1:]}"
    except RecursionError:
        return "it is nested too deeply"
    return None


def record_digest(record: dict[str, Any]) -> str:
    """Return the SHA-256 (hex) of the record's values, without its digest.

    Layout doesn't count: keys are sorted, spaces left out, other letters than ASCII escaped, and a whole number is
    written as an integer, since JavaScript writes 20.0 as 20 (as RFC 8785, 3.2.2.3, does for JSON that is hashed). So a
    record that an editor or a tool laid out anew, with other line ends or a byte order mark, is the same record.
    """
    values = {name: value for name, value in record.items() if name != DIGEST}
    text = json.dumps(_canonical(values), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record with its digest."""
    plain = json.loads(json.dumps(record))  # as a reader will have it: tuples are lists, keys are strings
    return record | {DIGEST: record_digest(plain)}


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _canonical(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_canonical(inner) for inner in value]
    if isinstance(value, float) and math.isfinite(value) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def file_inside(folder: Path, name: str) -> Path | None:
    """Return the file that the record calls `name`; None if links lead out of the folder."""
    path = folder / name
    return path if path.resolve().is_relative_to(folder.resolve()) else None


def first_difference(first: list[str] | None, second: list[str] | None) -> int | None:
    """Return the first second in which two files' digests (`seconds`) differ; None if they don't, or one has none."""
    if first is None or second is None or first == second:
        return None
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
