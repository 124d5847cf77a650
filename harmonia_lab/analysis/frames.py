"""The benchmark log as a DataFrame. Owns the conversion; the columns are `sinks/runlog.py`'s."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harmonia_lab.sinks.runlog import COLUMNS, RunLog

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BenchmarkLog", "frame_of"]


class BenchmarkLog(RunLog):
    """The run log, readable as one DataFrame."""

    def frame(self) -> pd.DataFrame:
        """One row per attempt, oldest first; the columns of `runlog.COLUMNS`, whose units stand in `attrs["units"]`."""
        return frame_of(self.rows())


def frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Typed columns; what is missing is `<NA>`, so that a mean never counts it."""
    import pandas as pd  # noqa: PLC0415 - a third of a second that a song should not wait for

    frame = pd.DataFrame(
        {name: pd.Series([row.get(name) for row in rows], dtype=column.dtype) for name, column in COLUMNS.items()}
    )
    frame.attrs["units"] = {name: column.unit for name, column in COLUMNS.items()}
    return frame
