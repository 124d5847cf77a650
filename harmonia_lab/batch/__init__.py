"""Many songs from one table: `lab.batch`, `lab.sweep` and `harmonia batch` are this.

`rows.py` reads tables, `run.py` makes what is not made yet, `report.py` says how each row ended, `listening.py` writes
the page on which the variants of a narrative are compared by ear.
"""

from harmonia_lab.batch.report import BatchReport, Outcome
from harmonia_lab.batch.rows import COLUMNS, Row, read_rows, rows_of
from harmonia_lab.batch.run import run_batch, run_sweep

__all__ = ["COLUMNS", "BatchReport", "Outcome", "Row", "read_rows", "rows_of", "run_batch", "run_sweep"]
