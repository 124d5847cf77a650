"""The run log as a DataFrame. Owns the conversion; `store/run_log.py` owns the columns."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.store.log_lines import Dtype, LeftOut, fitting
from harmonia_lab.store.run_log import COLUMNS, Purpose, RunLog

if TYPE_CHECKING:
    import pandas as pd

# numpy and pandas are imported where they are used: they take a third of a second, which a song need not wait for.

__all__ = ["BenchmarkLog", "frame_of", "work_frame"]

CHUNK_ROWS = 2000
"""Rows that are Python objects at once: a hundred thousand of them would take several times the frame's memory."""

_log = logging.getLogger(__name__)


class BenchmarkLog(RunLog):
    """The run log, readable as one DataFrame."""

    _said = LeftOut()

    def frame(
        self, columns: Sequence[str] | None = None, *, purposes: Collection[Purpose] | None = ("song", "study")
    ) -> pd.DataFrame:
        """Return one row for each attempt, oldest first. Columns: `run_log.COLUMNS`; their units: `attrs["units"]`.

        columns: only these, in this order; None for all. Fewer are faster: of 100,000 rows, eight take a third of a
        second, all of them more than one. purposes: of the attempts; None for all. `attrs["left_out"]` counts lines
        of the file that are no row: `newer`, written by a newer version of Harmonia Lab, and `damaged`.

        Raises InvalidRequest for an unknown column, StorageError if the log can't be read.
        """
        asked = list(dict.fromkeys(COLUMNS if columns is None else columns))
        if unknown := [name for name in asked if name not in COLUMNS]:
            raise InvalidRequest(
                f"The run log has no column {', '.join(map(repr, unknown))}.",
                hint=f"Its columns: {', '.join(COLUMNS)}.",
                details={"fields": ["columns"]},
            )
        names = ["purpose", *(name for name in asked if name != "purpose")]
        left_out = LeftOut()
        rows = self.values(names, left_out)
        frame = _frame((row for row in rows if purposes is None or row[0] in purposes), names)[asked]
        frame.attrs = {"units": {name: COLUMNS[name].unit for name in asked}, "left_out": vars(left_out)}
        self._warn_of(left_out)
        return frame

    def _warn_of(self, left_out: LeftOut) -> None:
        """Warn of lines that are no row, once for each number of them."""
        if left_out == self._said:
            return
        self._said = left_out
        if left_out.newer:
            _log.warning(
                "%s: %d rows of a newer version of Harmonia Lab are left out. Upgrade to read them.",
                self.path,
                left_out.newer,
            )
        if left_out.damaged:
            _log.warning("%s: %d damaged lines are left out.", self.path, left_out.damaged)


def frame_of(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Return the rows with typed columns. Missing values are `<NA>`, so that a mean never counts them."""
    values = (tuple(fitting(column.dtype, row.get(name)) for name, column in COLUMNS.items()) for row in rows)
    frame = _frame(values, list(COLUMNS))
    frame.attrs["units"] = {name: column.unit for name, column in COLUMNS.items()}
    return frame


def _frame(rows: Iterator[tuple[Any, ...]], names: Sequence[str]) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415

    columns = [_collector(COLUMNS[name].dtype) for name in names]
    while chunk := list(islice(rows, CHUNK_ROWS)):
        for column, values in zip(columns, zip(*chunk, strict=True), strict=True):
            column.add(values)
    return pd.DataFrame({name: column.array() for name, column in zip(names, columns, strict=True)})


class _Collector(Protocol):
    """Makes a column of values that come in chunks. None is a missing value."""

    def add(self, values: tuple[Any, ...]) -> None: ...

    def array(self) -> Any:
        """Return a pandas array."""
        ...


def _collector(dtype: Dtype) -> _Collector:
    return {"Float64": _Floats, "Int64": _Integers, "string": _Texts, "object": _Objects}[dtype]()


class _Floats:
    def __init__(self) -> None:
        self._chunks: list[Any] = []

    def add(self, values: tuple[Any, ...]) -> None:
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

    def add(self, values: tuple[Any, ...]) -> None:
        import numpy as np  # noqa: PLC0415

        self._missing.append(np.array([value is None for value in values], bool))
        self._chunks.append(np.array([value or 0 for value in values], np.int64))  # exact, where a float isn't

    def array(self) -> Any:
        import numpy as np  # noqa: PLC0415
        import pandas as pd  # noqa: PLC0415

        numbers = np.concatenate([np.empty(0, np.int64), *self._chunks])
        return pd.arrays.IntegerArray(numbers, np.concatenate([np.empty(0, bool), *self._missing]))


class _Objects:
    def __init__(self) -> None:
        self._values: list[Any] = []

    def add(self, values: tuple[Any, ...]) -> None:
        self._values += values

    def array(self) -> Any:
        import pandas as pd  # noqa: PLC0415

        return pd.array(self._values, dtype="object")


class _Texts(_Objects):
    """Equal texts are kept once: a host's name stands in every row."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[Any, Any] = {}

    def add(self, values: tuple[Any, ...]) -> None:
        kept = self._kept.setdefault
        self._values += [kept(value, value) for value in values]

    def array(self) -> Any:
        import pandas as pd  # noqa: PLC0415

        return pd.array(self._values, dtype="string")


def work_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a copy with durations that leave out the loading of models.

    These are `metadata_work_s`, `audio_work_s`, `total_work_s`, and `audio_work_real_time_factor`: `audio_work_s` over
    the length of the song. frame: rows of the run log, whose `metadata_load_s` and `audio_load_s` hold the loading.
    """
    found = frame.copy()
    metadata_load, audio_load = (frame[f"{stage}_load_s"].fillna(0.0) for stage in ("metadata", "audio"))
    found["metadata_work_s"] = frame["metadata_s"] - metadata_load
    found["audio_work_s"] = frame["audio_s"] - audio_load
    found["total_work_s"] = frame["total_s"] - metadata_load - audio_load
    found["audio_work_real_time_factor"] = found["audio_work_s"] / frame["audio_seconds"]
    seconds = dict.fromkeys(("metadata_work_s", "audio_work_s", "total_work_s"), "s")
    found.attrs["units"] = frame.attrs.get("units", {}) | seconds | {"audio_work_real_time_factor": ""}
    return found
