"""The run log as a DataFrame. Owns the conversion; `store/run_log.py` owns the columns."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from harmonia_lab.store.run_log import COLUMNS, Purpose, RunLog

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BenchmarkLog", "frame_of", "work_frame"]


class BenchmarkLog(RunLog):
    """The run log, readable as one DataFrame."""

    def frame(self, *, purposes: Collection[Purpose] = ("song", "study")) -> pd.DataFrame:
        """Return one row for each attempt, oldest first. Columns: `run_log.COLUMNS`; their units: `attrs["units"]`.

        purposes: of the attempts; `run_log.PURPOSES` for all.
        """
        return frame_of([row for row in self.rows() if row["purpose"] in purposes])


def frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the rows with typed columns. Missing values are `<NA>`, so that a mean never counts them."""
    import pandas as pd  # noqa: PLC0415 - takes a third of a second, which a song need not wait for

    frame = pd.DataFrame(
        {name: pd.Series([row.get(name) for row in rows], dtype=column.dtype) for name, column in COLUMNS.items()}
    )
    frame.attrs["units"] = {name: column.unit for name, column in COLUMNS.items()}
    return frame


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
