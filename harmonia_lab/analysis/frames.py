"""The run log as a DataFrame. Owns the conversion; `store/run_log.py` owns the columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harmonia_lab.store.run_log import COLUMNS, RunLog

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BenchmarkLog", "frame_of", "work_frame"]


class BenchmarkLog(RunLog):
    """The run log, readable as one DataFrame."""

    def frame(self) -> pd.DataFrame:
        """Return one row for each attempt, oldest first. Columns: `run_log.COLUMNS`; their units: `attrs["units"]`."""
        return frame_of(self.rows())


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
