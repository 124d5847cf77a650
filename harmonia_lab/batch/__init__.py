"""Many songs from one table: `lab.batch`, `lab.sweep` and `harmonia batch` are this.

`tables.py` reads files, `columns.py` and `rows.py` say what their cells mean, `identity.py` when two rows are the same,
`plan.py` what is to be made, `run.py` makes it, `report.py` says how each row ended, `listening.py` writes the page on
which the variants of a narrative are compared by ear. `handle.py` is a batch in the background.
"""

from harmonia_lab.batch.columns import COLUMNS
from harmonia_lab.batch.handle import BatchHandle
from harmonia_lab.batch.report import BatchReport, Outcome, read_report
from harmonia_lab.batch.rows import Row, read_rows, rows_of
from harmonia_lab.batch.run import BatchOptions, run_batch, run_sweep

__all__ = [
    "COLUMNS",
    "BatchHandle",
    "BatchOptions",
    "BatchReport",
    "Outcome",
    "Row",
    "read_report",
    "read_rows",
    "rows_of",
    "run_batch",
    "run_sweep",
]
