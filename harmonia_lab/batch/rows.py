"""Tables of songs to make: CSV and JSON Lines files, or mappings that a notebook builds.

Owns the columns and the checks of a table. A table that can't be read (a line that is no JSON, a cell too many, an
unknown column) is refused as a whole, before any song is made; a row whose values can't be used becomes a `Row` with an
error, and the other rows are made.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harmonia_lab.errors import HarmoniaError, InvalidRequest
from harmonia_lab.protocol.models import SongMetadata, SongRequest, check_contradictions, parse_request

__all__ = ["COLUMNS", "Row", "read_rows", "rows_of"]

COLUMNS = (
    "narrative",
    "seconds",
    "seed",
    "bpm",
    "key",
    "genre",
    "instruments",
    "language",
    "wishes",
    "model",
    "metadata",
    "audio",
    "audio_model",
)
"""Fields of `SongRequest`, and `audio`, the engine. An empty cell leaves the choice to the engines.

instruments: a list, or names with commas between them. metadata: an object, or the path of a song's `metadata.json`
(relative to the table's folder); stage 1 is skipped. model: the language model. audio: auto, or an engine's name.
wishes: false takes the narrative's wishes as story.
audio_model: one of the engine's models; with it, auto is the engine that has such models.
"""

MAX_TABLE_BYTES = 64 * 2**20
"""Room for a thousand of the longest narratives three times over. A larger file was given by mistake."""


@dataclass(frozen=True)
class Row:
    """One song to make: a request and the audio engine that the row names, or the error that the row's values raised.

    number: 1, 2, 3 … in the table. line: the first line of the row in its file; None for a mapping.
    """

    number: int
    line: int | None = None
    request: SongRequest | None = None
    audio: str | None = None
    error: HarmoniaError | None = None


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a `.csv` (with a header) or a `.jsonl` file, UTF-8.

    Raises InvalidRequest that names the file, and the line if one line is wrong.
    """
    parse = {".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines}.get(path.suffix.lower())
    if parse is None:
        raise InvalidRequest(f"{path} is no .csv and no .jsonl file.", hint="Name a table of songs.")
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise InvalidRequest(f"{path} is larger than {MAX_TABLE_BYTES >> 20} MiB.", hint="Split the table.")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is no UTF-8 text (byte {error.start}).", hint="Save it as UTF-8.") from None
    found = list(parse(path, text))
    if not found:
        raise InvalidRequest(f"{path} has no rows.", hint=f"Columns: {', '.join(COLUMNS)}.")
    return [_row(number, line, fields, path.parent) for number, (line, fields) in enumerate(found, 1)]


def rows_of(given: Iterable[Mapping[str, Any] | SongRequest]) -> list[Row]:
    """Return rows from mappings, requests, or a DataFrame.

    Raises InvalidRequest for an item of another type, and for an unknown column.
    """
    rows = []
    if hasattr(given, "to_dict"):  # a DataFrame, which would iterate over its columns
        given = given.to_dict("records")
    for number, item in enumerate(given, 1):
        if isinstance(item, SongRequest):
            rows.append(Row(number, request=item))
        elif isinstance(item, Mapping):
            _check_columns(item, f"row {number}")
            rows.append(_row(number, None, item, Path()))
        else:
            raise InvalidRequest(f"Row {number} is a {type(item).__name__}: neither a mapping nor a SongRequest.")
    return rows


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            fields = json.loads(content)
        except ValueError as error:
            why = f"column {error.colno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else str(error)
            raise InvalidRequest(f"{path}, line {line} is no JSON ({why}).", hint="One object a line.") from None
        except RecursionError:
            raise InvalidRequest(f"{path}, line {line} is nested too deeply.") from None
        if not isinstance(fields, dict):
            raise InvalidRequest(
                f"{path}, line {line} is no JSON object.", hint='Such as {"narrative": "A story.", "seed": 7}.'
            )
        _check_columns(fields, f"{path}, line {line}")
        yield line, fields


def _csv(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    begins = 1
    try:
        for cells in reader:
            line, begins = begins, reader.line_num + 1  # a quoted cell may span lines
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                _check_columns(header, f"{path}, line {line}")
                if len(set(header)) < len(header):
                    raise InvalidRequest(f"{path}, line {line} names a column twice.")
                continue
            if len(cells) != len(header):
                raise InvalidRequest(
                    f"{path}, line {line} has {len(cells)} cells, the header has {len(header)}.",
                    hint="A cell with a comma in it needs quotation marks around it.",
                )
            yield line, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise InvalidRequest(f"{path}, line {begins} cannot be read: {error}.") from None


def _check_columns(names: Iterable[str], where: str) -> None:
    for name in names:
        if name not in COLUMNS:
            near = difflib.get_close_matches(str(name), COLUMNS, 1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            raise InvalidRequest(
                f"{where}: there is no column {str(name)[:40]!r}.{meant}",
                hint=f"Known: {', '.join(COLUMNS)}.",
                details={"fields": [str(name)[:40]]},
            )


def _row(number: int, line: int | None, fields: Mapping[str, Any], folder: Path) -> Row:
    given = {name: value for name, value in fields.items() if not _absent(value)}
    audio = given.pop("audio", None)
    try:
        if isinstance(names := given.get("instruments"), str):
            given["instruments"] = [name.strip() for name in names.split(",") if name.strip()]
        if isinstance(path := given.get("metadata"), str):
            given["metadata"] = _metadata(folder / path)
        if audio is not None and not isinstance(audio, str):
            raise InvalidRequest(f"audio is no name (got {str(audio)[:40]}).", details={"fields": ["audio"]})
        request = check_contradictions(parse_request(**given))
    except HarmoniaError as error:
        return Row(number, line, error=error)
    return Row(number, line, request, None if audio in (None, "auto") else audio.strip())


def _absent(value: Any) -> bool:
    """Return whether it is None, an empty cell, or the NaN that a DataFrame has for one."""
    return value is None or (isinstance(value, str) and not value.strip()) or value != value  # noqa: PLR0124 - NaN


def _metadata(path: Path) -> dict[str, Any]:
    """Return the file's JSON object; `parse_request` checks its values later. Raises InvalidRequest."""
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise InvalidRequest(
            f"metadata: {path} cannot be read: {error.strerror}.", details={"fields": ["metadata"]}
        ) from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidRequest(f"metadata: {path} holds no song metadata.", details={"fields": ["metadata"]})
    return {name: value for name, value in found.items() if name in SongMetadata.model_fields}
