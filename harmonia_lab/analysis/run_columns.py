"""Reading columns of any frame of runs: one fresh from the log, or one that was read from a file.

Owns what is done where a frame lacks what the log's own has: units, types, or how a run ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harmonia_lab.analysis.intervals import Floats
from harmonia_lab.store.run_log import COLUMNS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["completed", "numbers", "unit_of"]


def completed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of runs that succeeded; all rows of a frame that doesn't say how its runs ended."""
    return frame[frame["status"] == "completed"] if "status" in frame else frame


def numbers(frame: pd.DataFrame, column: str) -> Floats:
    """Return a column as floats [rows]; what is missing, infinite or no number is NaN. Missing columns are all NaN."""
    import pandas as pd  # noqa: PLC0415 - slow to import, as in frames.py

    if column not in frame:
        return np.full(len(frame), np.nan)
    found = pd.to_numeric(frame[column], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    return np.where(np.isfinite(found), found, np.nan)


def unit_of(frame: pd.DataFrame, column: str) -> str:
    """Return a column's unit: the frame's own, or else the run log's, for a frame that was read from a file."""
    units: dict[str, str] = frame.attrs.get("units") or {}
    if column in units:
        return units[column]
    return COLUMNS[column].unit if column in COLUMNS else ""
