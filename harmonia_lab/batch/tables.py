"""Tables as people have them: a file's bytes become the fields of each line.

Owns encodings, delimiters, header lines and JSON (not what a cell may hold: `rows.py`). A file that can't be read at
all raises; a line that can't be read becomes a `Line` with the fault, so that one look finds all of them.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harmonia_lab.batch.columns import COLUMNS, column_of, columns_of
from harmonia_lab.errors import InvalidRequest

__all__ = ["Line", "columns_and_extras", "read_lines"]

MAX_TABLE_BYTES = 64 * 2**20
"""Room for a thousand of the longest narratives three times over. A larger file was given by mistake."""

_DELIMITERS = (",", ";", "\t", "|")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods", ".numbers")
_SEP = re.compile(r'"?sep=(.)"?[ \t]*(?:\r\n|\r|\n)', re.IGNORECASE)
"""Excel's own first line, which says the delimiter."""


@dataclass(frozen=True)
class Line:
    """The fields of one row, by column, and those of other columns, by header. number: of its first line in the file;
    None in a list. fault: why it can't be read."""

    number: int | None
    fields: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    fault: InvalidRequest | None = None


def read_lines(path: Path, encoding: str | None = None) -> list[Line]:
    """Return the lines of a table: delimited text with a header, JSON Lines, or a JSON list.

    encoding: of the file; None: UTF-8, or what its byte-order mark says. Raises InvalidRequest that names the file.
    """
    parse = _PARSERS.get(path.suffix.lower())
    if path.suffix.lower() in _WORKBOOKS:
        raise InvalidRequest(f"{path} is a workbook.", hint='Save its sheet as "CSV UTF-8", and name that file.')
    if parse is None:
        raise InvalidRequest(f"{path} is no table: its name ends in none of {', '.join(_PARSERS)}.")
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise InvalidRequest(f"{path} is larger than {MAX_TABLE_BYTES >> 20} MiB.", hint="Split the table.")
        data = path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}.") from None
    return list(parse(path, _decoded(path, data, encoding).removeprefix("\ufeff")))


def columns_and_extras(fields: Mapping[str, Any], where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return an object's fields by column, and its other fields. Raises InvalidRequest as `columns_of`."""
    columns = columns_of(fields, where)
    extra = {header: value for header, value in fields.items() if columns[header] is None}
    return {column: fields[header] for header, column in columns.items() if column is not None}, extra


def _decoded(path: Path, data: bytes, encoding: str | None) -> str:
    """Return the file's text. Raises InvalidRequest, which shows the line at fault as Windows would read it."""
    if encoding is not None:
        try:
            return data.decode(encoding)
        except LookupError:
            raise InvalidRequest(f"There is no encoding {encoding[:40]!r}.", hint="Such as utf-8 or cp1252.") from None
        except ValueError as error:
            raise InvalidRequest(f"{path} is no text in {encoding}: {error}.") from None
    if data.startswith(b"PK\x03\x04"):
        raise InvalidRequest(f"{path} is a workbook.", hint='Save its sheet as "CSV UTF-8", and name that file.')
    found = next((name for mark, name in _BOMS if data.startswith(mark)), "utf-8")
    if found == "utf-8" and (zero := data[:4096].find(b"\0")) >= 0:
        guess = "utf-16-le" if zero % 2 else "utf-16-be"
        raise InvalidRequest(f"{path} is no UTF-8 text (byte {zero} is zero).", hint=_named(guess))
    try:
        return data.decode(found)
    except UnicodeDecodeError as error:
        if found != "utf-8":
            raise InvalidRequest(f"{path} is damaged: {error.reason} ({found}, byte {error.start}).") from None
        number = data.count(b"\n", 0, error.start) + 1
        shown = data[max(error.start - 20, data.rfind(b"\n", 0, error.start) + 1) :].splitlines()[0][:40]
        raise InvalidRequest(
            f"{path} is no UTF-8 text: line {number} has the byte 0x{data[error.start]:02X}. Windows in western Europe "
            f"(cp1252) would read: {shown.decode('cp1252', 'replace')!r}.",
            hint=_named("cp1252"),
        ) from None


def _named(encoding: str) -> str:
    return f'Save it as "CSV UTF-8", or name its encoding: --encoding {encoding} (in Python: encoding={encoding!r}).'


def _delimited(path: Path, text: str) -> Iterator[Line]:
    begins = 1
    said = _SEP.match(text)
    if said:
        text, begins = text[said.end() :], 2
    delimiter = said[1] if said else _delimiter(text, "\t" if path.suffix.lower() in (".tsv", ".tab") else ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    skipped, header = begins - 1, None
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            line, begins = begins, reader.line_num + skipped + 1
            fault = InvalidRequest(f"{path}, line {line} cannot be read: {error}.")
            if header is None:
                raise fault from None
            yield Line(line, fault=fault)
            continue
        line, begins = begins, reader.line_num + skipped + 1  # a quoted cell may span lines
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = _Header(cells, f"{path}, line {line}", delimiter)
        else:
            yield header.line(line, cells)


def _delimiter(text: str, usual: str) -> str:
    """Return the delimiter with which the header names most columns; `usual` where others do no better."""

    def named(delimiter: str) -> int:
        try:
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
            header = next((cells for cells in reader if any(cell.strip() for cell in cells)), [])
        except csv.Error:
            return 0
        return sum(column_of(cell) is not None for cell in header)

    return max((usual, *_DELIMITERS), key=named)


class _Header:
    """The header of a delimited file, and how it names the cells of the lines below. Raises InvalidRequest."""

    def __init__(self, cells: list[str], where: str, delimiter: str) -> None:
        self._file = where.rpartition(", line")[0]
        self._delimiter = {",": "comma", ";": "semicolon", "\t": "tab"}.get(delimiter, repr(delimiter))
        names = [" ".join(cell.split()) for cell in cells]
        # A table with an index has no name above it; pandas calls such a column so, too.
        self._unnamed = {f"Unnamed: {index}" for index, name in enumerate(names) if not name}
        self._names = [name or f"Unnamed: {index}" for index, name in enumerate(names)]
        self._columns = columns_of(self._names, where)
        if not {"narrative", "metadata"} & set(self._columns.values()):
            raise InvalidRequest(
                f"{where}: there is no column for stories ({', '.join(map(repr, names))[:80]}).",
                hint=f"The first line names the columns: narrative or metadata, and any of {', '.join(COLUMNS)}.",
            )

    def line(self, number: int, cells: list[str]) -> Line:
        while len(cells) > len(self._names) and not cells[-1].strip():
            cells.pop()
        if len(cells) != len(self._names):
            fault = InvalidRequest(
                f"{self._file}, line {number} has {len(cells)} cells, the header has {len(self._names)}.",
                hint=f"A cell with a {self._delimiter} or a line end in it needs quotation marks around it.",
            )
            return Line(number, fault=fault)
        given = dict(zip(self._names, cells, strict=True))
        fields = {column: given[name] for name, column in self._columns.items() if column is not None}
        extra = {
            name: given[name]
            for name, column in self._columns.items()
            if column is None and (given[name].strip() or name not in self._unnamed)
        }
        return Line(number, fields, extra)


def _json_lines(path: Path, text: str) -> Iterator[Line]:
    for number, content in enumerate(text.split("\n"), 1):
        if content.strip():
            where = f"{path}, line {number}"
            try:
                yield _object(_json(content, where), where, number)
            except InvalidRequest as fault:
                yield Line(number, fault=fault)


def _json_list(path: Path, text: str) -> Iterator[Line]:
    found = _json(text, str(path))
    if not isinstance(found, list):
        raise InvalidRequest(
            f"{path} holds no list.",
            hint='A list of objects: [{"narrative": "A story.", "seed": 7}, …]. (pandas: orient="records".)',
        )
    for number, item in enumerate(found, 1):
        try:
            yield _object(item, f"{path}, row {number}", None)
        except InvalidRequest as fault:
            yield Line(None, fault=fault)


def _json(text: str, where: str) -> Any:
    """Return the JSON value. Raises InvalidRequest."""
    try:
        return json.loads(text, object_pairs_hook=_without_twins)
    except ValueError as error:
        why = str(error)
        if isinstance(error, json.JSONDecodeError):
            line = "" if ", line " in where else f"line {error.lineno}, "
            why = f"{line}column {error.colno}: {error.msg}"
        raise InvalidRequest(f"{where} is no JSON ({why}).") from None
    except RecursionError:
        raise InvalidRequest(f"{where} is nested too deeply.") from None


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a name twice")
    return found


def _object(item: Any, where: str, number: int | None) -> Line:
    if not isinstance(item, dict):
        raise InvalidRequest(f"{where} is no JSON object.", hint='Such as {"narrative": "A story.", "seed": 7}.')
    return Line(number, *columns_and_extras(item, where))


_PARSERS: Mapping[str, Callable[[Path, str], Iterator[Line]]] = {
    **dict.fromkeys((".csv", ".tsv", ".tab", ".txt"), _delimited),
    **dict.fromkeys((".jsonl", ".ndjson"), _json_lines),
    ".json": _json_list,
}
