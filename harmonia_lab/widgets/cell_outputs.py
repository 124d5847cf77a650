"""Which cells show which views: a view whose cells have all run again is on no page any more.

Owns that bookkeeping, by the cell's id, which JupyterLab, Notebook and VS Code send with each request. Where none is
sent, every view stays.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Protocol

from harmonia_lab.widgets.frontend import cell_id, running_cell

__all__ = ["CellView", "shown_in_cell"]


class CellView(Protocol):
    def left_page(self) -> None:
        """Free what only a page needs. The view may be shown again later."""


@dataclass
class _CellRun:
    request: str
    views: weakref.WeakSet[CellView]


_runs: dict[str, _CellRun] = {}
"""The latest run of each cell that showed a view."""


def shown_in_cell(view: CellView) -> None:
    """Note that the running cell shows `view`, and tell the views that its earlier run showed."""
    cell, request = cell_id(), running_cell()
    if not cell:
        return
    earlier = _runs.get(cell)
    if earlier is not None and earlier.request == request:
        earlier.views.add(view)
        return
    _runs[cell] = _CellRun(request, weakref.WeakSet([view]))
    for left in [] if earlier is None else list(earlier.views):
        if not any(left in run.views for run in _runs.values()):
            left.left_page()
