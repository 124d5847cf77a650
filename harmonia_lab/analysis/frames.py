"""The run log as a DataFrame. Owns the conversion; `store/run_log.py` owns the columns."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.store.log_lines import ColumnType, LeftOut, LogRow, fitting
from harmonia_lab.store.run_log import COLUMNS, Purpose, RunLog, line_reader

if TYPE_CHECKING:
    import pandas as pd

# numpy and pandas are imported where they are used: they take a third of a second, which a song need not wait for.

__all__ = ["BenchmarkLog", "frame_of", "work_frame"]

EXACT_FLOATS = 2**53
"""Integers below have a float of their own."""

_log = logging.getLogger(__name__)


class BenchmarkLog(RunLog):
    """The run log, readable as one DataFrame."""

    _said = LeftOut()

    def frame(
        self, columns: Sequence[str] | None = None, *, purposes: Collection[Purpose] | None = ("song", "study")
    ) -> pd.DataFrame:
        """Return one row for each attempt, oldest first. Columns: `run_log.COLUMNS`; their units: `attrs["units"]`.

        columns: only these, in this order; None for all. Eight take a third of the time of all. purposes: of the
        attempts; None for all. `attrs["left_out"]` counts lines of the file that are no row: `newer`, written by a
        newer version of Harmonia Lab, and `damaged`.

        Raises InvalidRequest for an unknown column, StorageError if the log can't be read.
        """
        asked = list(dict.fromkeys(COLUMNS if columns is None else columns))
        if unknown := [name for name in asked if name not in COLUMNS]:
            raise InvalidRequest(
                f"The run log has no column {', '.join(map(repr, unknown))}.",
                hint=f"Its columns: {', '.join(COLUMNS)}.",
                details={"fields": ["columns"]},
            )
        reader = line_reader(["purpose", *(name for name in asked if name not in ("schema", "purpose"))], many=True)
        blocks = ([row for row in block if purposes is None or row[1] in purposes] for block in self.blocks(reader))
        frame = _frame(blocks, reader.columns)[asked]
        left_out = reader.left_out
        frame.attrs = {"units": {name: COLUMNS[name].unit for name in asked}, "left_out": vars(left_out)}
        self._warn_of(left_out)
        return frame

    def _warn_of(self, left_out: LeftOut) -> None:
        """Warn of lines that are no row, once for each number of them."""
        if left_out == self._said:
            return
        self._said = left_out
        if left_out.newer:
            message = "%s: rows of a newer version of Harmonia Lab are left out: %d. Upgrade to read them."
            _log.warning(message, self.path, left_out.newer)
        if left_out.damaged:
            _log.warning("%s: damaged lines are left out: %d.", self.path, left_out.damaged)


def frame_of(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Return the rows with typed columns. Missing values are `<NA>`, so that a mean never counts them."""
    block = [tuple(fitting(column.dtype, row.get(name)) for name, column in COLUMNS.items()) for row in rows]
    frame = _frame([block], list(COLUMNS))
    frame.attrs["units"] = {name: column.unit for name, column in COLUMNS.items()}
    return frame


def _frame(blocks: Iterable[list[LogRow]], names: Sequence[str]) -> pd.DataFrame:
    """Return a frame of the rows, a block at a time: all rows as objects would take several times its memory."""
    import pandas as pd  # noqa: PLC0415

    columns = [_collector(COLUMNS[name].dtype) for name in names]
    for block in blocks:
        for column, values in zip(columns, zip(*block, strict=True), strict=bool(block)):
            column.add(values)
    return pd.DataFrame({name: column.array() for name, column in zip(names, columns, strict=True)})


class _Collector(Protocol):
    """Makes a column of values that come in chunks. None is a missing value."""

    def add(self, values: LogRow) -> None: ...

    def array(self) -> Any:
        """Return a pandas array."""
        ...


def _collector(dtype: ColumnType) -> _Collector:
    kinds: dict[ColumnType, type[_Collector]] = {
        "Float64": _Floats,
        "Int64": _Integers,
        "string": _Texts,
        "object": _Objects,
    }
    return kinds[dtype]()


class _Floats:
    def __init__(self) -> None:
        self._chunks: list[Any] = []

    def add(self, values: LogRow) -> None:
        import numpy as np  # noqa: PLC0415

        self._chunks.append(np.array(values, np.float64))  # None becomes NaN, which no line of JSON holds

    def array(self) -> Any:
        import numpy as np  # noqa: PLC0415
        import pandas as pd  # noqa: PLC0415

        numbers = np.concatenate([np.empty(0), *self._chunks])
        return pd.arrays.FloatingArray(numbers, np.isnan(numbers))


class _Integers:
    def __init__(self) -> None:
        self._chunks: list[Any] = []
        self._missing: list[Any] = []

    def add(self, values: LogRow) -> None:
        import numpy as np  # noqa: PLC0415

        floats = np.array(values, np.float64)  # None becomes NaN
        missing = np.isnan(floats)
        if np.abs(floats, out=np.zeros(len(floats)), where=~missing).max(initial=0) < EXACT_FLOATS:
            integers = np.where(missing, 0, floats).astype(np.int64)
        else:
            integers = np.array([value or 0 for value in values], np.int64)
        self._chunks.append(integers)
        self._missing.append(missing)

    def array(self) -> Any:
        import numpy as np  # noqa: PLC0415
        import pandas as pd  # noqa: PLC0415

        integers = np.concatenate([np.empty(0, np.int64), *self._chunks])
        return pd.arrays.IntegerArray(integers, np.concatenate([np.empty(0, bool), *self._missing]))


class _Texts:
    """Keeps equal texts once, and a number for each row: a host's name stands in all of them."""

    def __init__(self) -> None:
        self._numbers: defaultdict[Any, int] = defaultdict(count().__next__)
        self._chunks: list[Any] = []

    def add(self, values: LogRow) -> None:
        import numpy as np  # noqa: PLC0415

        self._chunks.append(np.array([self._numbers[value] for value in values], np.int32))

    def array(self) -> Any:
        import numpy as np  # noqa: PLC0415
        import pandas as pd  # noqa: PLC0415

        texts = pd.array(list(self._numbers), dtype="string")
        return texts.take(np.concatenate([np.empty(0, np.int32), *self._chunks]))


class _Objects:
    def __init__(self) -> None:
        self._values: list[Any] = []

    def add(self, values: LogRow) -> None:
        self._values += values

    def array(self) -> Any:
        import pandas as pd  # noqa: PLC0415

        return pd.array(self._values, dtype="object")


def work_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a copy with durations that leave out the loading of models.

    These are `metadata_work_s`, `audio_work_s`, `total_work_s`, and `audio_work_real_time_factor`: `audio_work_s` over
    the length of the song. frame: any with columns of the run log. What it lacks for a duration leaves that out;
    loading that isn't known counts as none.
    """
    import pandas as pd  # noqa: PLC0415 - takes a third of a second

    found = frame.copy()
    for name in ("metadata_s", "metadata_load_s", "audio_s", "audio_load_s", "total_s", "audio_seconds"):
        if name in found and not pd.api.types.is_numeric_dtype(found[name]):  # as read from a file, with words in it
            found[name] = pd.to_numeric(found[name], errors="coerce")

    def loading(stage: str) -> Any:
        return found[f"{stage}_load_s"].fillna(0.0) if f"{stage}_load_s" in found else 0.0

    for stage in ("metadata", "audio"):
        if f"{stage}_s" in found:
            found[f"{stage}_work_s"] = found[f"{stage}_s"] - loading(stage)
    if "total_s" in found:
        found["total_work_s"] = found["total_s"] - loading("metadata") - loading("audio")
    if {"audio_work_s", "audio_seconds"} <= set(found.columns):
        found["audio_work_real_time_factor"] = found["audio_work_s"] / found["audio_seconds"]
    seconds = dict.fromkeys(("metadata_work_s", "audio_work_s", "total_work_s"), "s")
    found.attrs["units"] = (frame.attrs.get("units") or {}) | seconds | {"audio_work_real_time_factor": ""}
    return found
