"""Lines of JSON → typed rows: what a line of the run log means, and what a fault in it costs.

Owns the decoding. A line that is no JSON object is left out and counted; a value that its column can't hold is missing,
and costs no other. `run_log.py` owns the file and the columns.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

__all__ = ["Dtype", "LeftOut", "fitting", "typed_rows"]

Dtype = Literal["string", "Int64", "Float64", "object"]
"""Of a column: pandas extension types, which can hold missing values; "object" holds a dict."""

Decoder = Callable[[bytes], tuple[Any, ...] | None]

INT64 = (-(2**63), 2**63 - 1)


@dataclass
class LeftOut:
    """Lines that gave no row. newer: written by a newer version. damaged: cut off by a crash, or edited into no row."""

    newer: int = 0
    damaged: int = 0


def typed_rows(
    lines: Iterable[bytes], columns: Mapping[str, Dtype], schema: int, left_out: LeftOut, *, many: bool = False
) -> Iterator[tuple[Any, ...]]:
    """Yield the values of `columns` of each line, None where a value is missing. schema: the newest that is known.

    Empty lines, a byte order mark and any line ends are skipped, as an editor may have left them. many: decode by
    msgspec, which is worth its loading from some hundred lines on.
    """
    own: Mapping[str, Dtype] = {} if "schema" in columns else {"schema": "Int64"}
    wanted = {**own, **columns}
    version = list(wanted).index("schema")
    decode = _fast_decoder(*wanted.items()) if many else _decoder(wanted)
    for line in lines:
        row = decode(line)
        if row is None:
            left_out.damaged += bool(line.strip())
        elif (row[version] or 0) > schema:
            left_out.newer += 1
        else:
            yield row[len(own) :]


def _decoder(columns: Mapping[str, Dtype]) -> Decoder:
    """Return a function from a line to the values of `columns`, or to None if the line is no JSON object."""

    def decode(line: bytes) -> tuple[Any, ...] | None:
        try:
            # Replaced: an editor may have saved the file in another encoding, which spoils a name or two.
            row = json.loads(line.decode("utf-8-sig", "replace"))
        except (ValueError, RecursionError):
            return None
        return tuple(fitting(t, row.get(name)) for name, t in columns.items()) if isinstance(row, dict) else None

    return decode


@functools.lru_cache
def _fast_decoder(*columns: tuple[str, Dtype]) -> Decoder:
    """Return what `_decoder` returns, five times as fast: it parses no column that isn't asked for."""
    import msgspec  # noqa: PLC0415 - takes 10 ms, and most commands read no frame of the log

    low, high = INT64
    integer = Annotated[int, msgspec.Meta(ge=low, le=high)]
    types = {"string": str, "Int64": integer, "Float64": float, "object": dict}
    fields = [(name, types[dtype] | None, None) for name, dtype in columns]
    parse = msgspec.json.Decoder(msgspec.defstruct("Row", fields, gc=False)).decode
    values, slow = msgspec.structs.astuple, _decoder(dict(columns))

    def decode(line: bytes) -> tuple[Any, ...] | None:
        try:
            return values(parse(line))
        except (ValueError, RecursionError):  # it refuses the whole line for one value of another type
            return slow(line)

    return decode


def fitting(dtype: Dtype, value: Any) -> Any:
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
