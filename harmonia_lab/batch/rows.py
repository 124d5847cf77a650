"""Rows of a table of songs: what each asks for, or why it can't be made.

Owns the checks of cells and of names (not of files: `tables.py`). A table that can't be read (a line that is no JSON, a
cell too many, a mistyped column, a name twice) is refused as a whole, before any song is made; a row whose values can't
be used becomes a `Row` with an error, and the other rows are made.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harmonia_lab.audio_options import option_value, with_paths_from
from harmonia_lab.batch.columns import known_columns, option_columns
from harmonia_lab.batch.tables import Line, columns_and_extras, read_lines
from harmonia_lab.errors import HarmoniaError, InvalidRequest
from harmonia_lab.protocol.models import SongMetadata, SongRequest, check_contradictions, parse_request

__all__ = ["Row", "read_rows", "refuse_unreadable", "rows_of"]

MOST_NAME_BYTES = 120
_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[\d¹²³]) *(\..*)?|replaced|report\.json|listen\.html", re.IGNORECASE
)
"""Names that Windows has for devices (those of CPython's `ntpath.isreserved`), and those of a batch's own files."""


@dataclass(frozen=True)
class Row:
    """One song to make: a request and the audio engine that the row names, or the error that the row's values raised.

    number: 1, 2, 3 … in the table. line: the first line of the row in its file; None for a mapping. name: of the song's
    folder; None: after its title. extra: other columns, as plain JSON values, for the report. unreadable: whether the
    error is one of the table, which is then refused.
    """

    number: int
    line: int | None = None
    request: SongRequest | None = None
    audio: str | None = None
    name: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    error: HarmoniaError | None = None
    unreadable: bool = False

    @property
    def where(self) -> str:
        return f"line {self.line}" if self.line else f"row {self.number}"


def read_rows(path: Path, encoding: str | None = None) -> list[Row]:
    """Return the rows of a file, as `tables.read_lines` reads it, unreadable ones too.

    Raises InvalidRequest that names the file, if it can't be read at all or has no rows.
    """
    found = read_lines(path, encoding)
    if not found:
        raise InvalidRequest(f"{path} has no rows.", hint=known_columns())
    return _unique_names([_row(number, line, path.parent) for number, line in enumerate(found, 1)], f"{path}, ")


def rows_of(given: Iterable[Mapping[str, Any] | SongRequest]) -> list[Row]:
    """Return rows from mappings, requests, or a DataFrame, unreadable ones too.

    Raises InvalidRequest for an item of another type.
    """
    rows = []
    if hasattr(given, "to_dict"):  # a DataFrame, which would iterate over its columns
        given = given.to_dict("records")
    for number, item in enumerate(given, 1):
        if isinstance(item, SongRequest):
            rows.append(Row(number, request=item))
        elif isinstance(item, Mapping):
            try:
                line = Line(None, *columns_and_extras(item, f"row {number}"))
            except InvalidRequest as fault:
                line = Line(None, fault=fault)
            rows.append(_row(number, line, Path()))
        else:
            raise InvalidRequest(f"Row {number} is a {type(item).__name__}: neither a mapping nor a SongRequest.")
    return _unique_names(rows, "")


def refuse_unreadable(rows: Iterable[Row]) -> None:
    """Raise the first unreadable row's error, which says how many more there are."""
    faults = [row.error for row in rows if row.unreadable and row.error]
    if faults:
        first = faults[0]
        more = f"{len(faults) - 1} more rows can't be read: --check (check=True) lists them."
        hint = f"{first.hint} {more}".strip() if len(faults) > 1 else first.hint
        raise InvalidRequest(first.message, hint=hint, details=first.details)


def _row(number: int, line: Line, folder: Path) -> Row:
    if line.fault is not None:
        return Row(number, line.number, error=line.fault, unreadable=True)
    row = Row(number, line.number, extra={name: _plain(value) for name, value in line.extra.items() if _given(value)})
    cells = {column: value for column, value in line.fields.items() if _given(value)}
    audio, name = cells.pop("audio", None), cells.pop("name", None)
    try:
        if name is not None:
            row = replace(row, name=_folder_name(name))
        if isinstance(names := cells.get("instruments"), str):
            cells["instruments"] = [each.strip() for each in names.split(",") if each.strip()]
        if isinstance(path := cells.get("metadata"), str):
            cells["metadata"] = _metadata(folder / path.strip())
        if audio is not None and not isinstance(audio, str):
            raise InvalidRequest(f"audio is no name (got {str(audio)[:40]}).", details={"fields": ["audio"]})
        cells["audio_options"] = _options(cells, folder)
        cells |= {column: _number(cells[column]) for column in ("seconds", "seed", "bpm") if column in cells}
        request = check_contradictions(parse_request(**cells))
    except HarmoniaError as error:
        return replace(row, error=error)
    return replace(row, request=request, audio=None if audio in (None, "auto") else audio.strip())


def _given(value: Any) -> bool:
    """Return whether it is neither None, nor an empty cell, nor the NaN or NA that a DataFrame has for one."""
    if isinstance(value, str):
        return bool(value.strip())
    try:
        return value is not None and not value != value  # noqa: PLR0124, SIM202 - NaN, of any type
    except (TypeError, ValueError):  # pandas' NA, and arrays, can't be asked
        return type(value).__name__ != "NAType"


def _number(value: Any) -> Any:
    """Return a cell with the decimal comma of a spreadsheet as a point. "1,000" stays, and is no number: it may be a
    thousand."""
    if isinstance(value, str) and re.fullmatch(r"\s*\d+,\d+\s*", value) and not re.search(r",\d{3}\s*$", value):
        return value.replace(",", ".")
    return value


def _options(cells: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the audio engine's settings for the row, and take their columns out of its cells. folder: what recordings
    are relative to. Raises InvalidRequest."""
    given = cells.pop("audio_options", None) or {}
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            given = None
    if not isinstance(given, Mapping):
        raise InvalidRequest(
            "audio_options is no object.",
            hint='Such as {"cfg_coef": 5}; or give each setting a column.',
            details={"fields": ["audio_options"]},
        )
    own = {name: cells.pop(column) for column, name in option_columns().items() if column in cells}
    if twice := given.keys() & own.keys():
        raise InvalidRequest(f"{min(twice)} is given twice.", details={"fields": [min(twice)]})
    options = {name: option_value(name, _number(value)) for name, value in {**given, **own}.items()}
    return with_paths_from(folder, options)


def _folder_name(value: Any) -> str:
    """Return the name, which is a folder's on any system. Raises InvalidRequest."""
    name = unicodedata.normalize("NFC", str(value)).strip()
    if isinstance(value, float) and value.is_integer():
        name = str(int(value))  # a DataFrame's column of numbers with a gap
    wrong = ""
    if not name.isprintable() or re.search(r'[/\\<>:"|?*]', name) or not any(c.isalnum() for c in name):
        wrong = 'has no letter, or a character that is not for names (/ \\ < > : " | ? *, a control character)'
    elif any(unicodedata.category(c) in ("Cf", "Cs") for c in name):
        wrong = "has an invisible character"
    elif name[0] in ".-~" or name[-1] == ".":
        wrong = f"{'begins' if name[0] in '.-~' else 'ends'} with {name[0] if name[0] in '.-~' else '.'!r}"
    elif _RESERVED.fullmatch(name) or ".partial-" in name:
        wrong = "is a name that the system or the batch uses"
    elif len(name.encode()) > MOST_NAME_BYTES:
        wrong = f"is longer than {MOST_NAME_BYTES} bytes"
    if wrong:
        raise InvalidRequest(f"name: {name[:40]!r} {wrong}.", hint="It names a folder.", details={"fields": ["name"]})
    return name


def _unique_names(rows: list[Row], file: str) -> list[Row]:
    """Return the rows; one whose name an earlier one has, in whatever case, is unreadable."""
    first: dict[str, Row] = {}
    found = []
    for row in rows:
        earlier = row if row.name is None else first.setdefault(row.name.casefold(), row)
        if earlier is not row:
            error = InvalidRequest(
                f"{file}{row.where} has the name {row.name!r}, as {earlier.where} has.",
                hint="Names are of folders: give each row its own.",
                details={"fields": ["name"]},
            )
            row = replace(row, request=None, error=error, unreadable=True)  # noqa: PLW2901 - the same row
        found.append(row)
    return found


def _plain(value: Any) -> Any:
    """Return a JSON value for the report: numbers of numpy as numbers, and what JSON has not as text."""
    if hasattr(value, "item") and getattr(value, "size", 1) == 1:
        value = value.item()
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return value.strip()
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


def _metadata(path: Path) -> dict[str, Any]:
    """Return the file's JSON object; `parse_request` checks its values later. Raises InvalidRequest."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, OSError):
            raise InvalidRequest(
                f"metadata: {path} cannot be read: {error.strerror}.", details={"fields": ["metadata"]}
            ) from None
        found = None
    if not isinstance(found, dict):
        raise InvalidRequest(f"metadata: {path} holds no song metadata.", details={"fields": ["metadata"]})
    return {name: value for name, value in found.items() if name in SongMetadata.model_fields}
