"""Lines of JSON → typed rows: what a line of the run log means, and what a fault in it costs.

Owns the decoding. A line that is no JSON object is left out and counted; a value that its column can't hold is missing,
and costs no other. `run_log.py` owns the file and the columns.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

__all__ = ["ColumnType", "LeftOut", "LineReader", "fitting"]

ColumnType = Literal["string", "Int64", "Float64", "object"]
"""Of a column: pandas extension types, which can hold missing values; "object" holds a dict."""

LogRow = tuple[Any, ...]

INT64 = (-(2**63), 2**63 - 1)


@dataclass
class LeftOut:
    """Lines that gave no row. newer: written by a newer version. damaged: cut off by a crash, or edited into no row."""

    newer: int = 0
    damaged: int = 0


class LineReader:
    """Turns lines into rows of `columns`. `left_out` counts those that gave none.

    Empty lines, a byte order mark and any line ends are skipped, as an editor may have left them.
    """

    def __init__(
        self, columns: Mapping[str, ColumnType], schema: int, defaults: Mapping[str, Any], *, many: bool = False
    ) -> None:
        """columns: in the order of the rows' values; the first is "schema". schema: the newest that is known. defaults:
        values of columns that older lines lack. many: parse by msgspec, in a quarter of the time; loading that costs as
        much as some hundred lines."""
        self.columns, self._schema = list(columns), schema
        self._types = columns
        self._defaults = {self.columns.index(name): value for name, value in defaults.items() if name in columns}
        self._parse = _fast_parser(columns) if many else None
        self.left_out = LeftOut()

    def rows(self, lines: bytes) -> list[LogRow]:
        """Return the rows of some whole lines, in order; None where a value is missing."""
        found = None if self._parse is None else self._parse(lines)
        if found is None:
            values = [self._values(line) for line in lines.split(b"\n") if line.strip()]
            found = [row for row in values if row is not None]
            self.left_out.damaged += len(values) - len(found)
        known = [row for row in found if (row[0] or 0) <= self._schema]
        self.left_out.newer += len(found) - len(known)
        for at, default in self._defaults.items():
            known = [row if row[at] is not None else (*row[:at], default, *row[at + 1 :]) for row in known]
        return known

    def _values(self, line: bytes) -> LogRow | None:
        """Return a line's values, or None if it is no JSON object."""
        try:
            # Replaced: an editor may have saved the file in another encoding, which spoils a name or two.
            row = json.loads(line.decode("utf-8-sig", "replace"))
        except (ValueError, RecursionError):
            return None
        if not isinstance(row, dict):
            return None
        return tuple(fitting(dtype, row.get(name)) for name, dtype in self._types.items())


def _fast_parser(columns: Mapping[str, ColumnType]) -> Callable[[bytes], list[LogRow] | None]:
    """Return a function from lines to rows, which parses no column that isn't asked for. It returns None if any line is
    no row, or has a value of another type."""
    import msgspec  # noqa: PLC0415 - most commands read no frame of the log

    low, high = INT64
    integer = Annotated[int, msgspec.Meta(ge=low, le=high)]
    types = {"string": str, "Int64": integer, "Float64": float, "object": dict}
    fields = [(name, types[dtype] | None, None) for name, dtype in columns.items()]
    decode = msgspec.json.Decoder(msgspec.defstruct("Row", fields, gc=False)).decode_lines

    def parse(lines: bytes) -> list[LogRow] | None:
        try:
            found = decode(lines)
        except (msgspec.DecodeError, ValueError, RecursionError):  # ValueError: of text that isn't UTF-8
            return None
        # It takes two objects in one line for two rows, and one in two lines for one.
        count = lines.count(b"\n") + (lines[-1:] != b"\n")
        return list(map(msgspec.structs.astuple, found)) if len(found) == count else None

    return parse


def fitting(dtype: ColumnType, value: Any) -> Any:
    """Return `value` as a column of type `dtype` holds it, or None if it can't."""
    if dtype == "string":
        return value if isinstance(value, str) and _encodable(value) else None
    if dtype == "object":
        return value if isinstance(value, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not _finite(value):
        return None
    if dtype == "Float64":
        return float(value)
    low, high = INT64
    return int(value) if value == int(value) and low <= value <= high else None


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer beyond the greatest float
        return False


def _encodable(text: str) -> bool:
    """Return whether UTF-8 can hold `text`. Half a surrogate pair, which JSON can escape, is refused."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
