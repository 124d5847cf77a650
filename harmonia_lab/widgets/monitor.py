"""`Monitor`: the jobs of one user in one live table.

Owns the table's columns. The jobs are read from the journal at each drawing, so that the table also shows those of
another process that shares the journal, and nothing is stored twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from IPython.display import display

from harmonia_lab.errors import HarmoniaError
from harmonia_lab.protocol.events import FamilyEvent
from harmonia_lab.protocol.models import ENDED, Job
from harmonia_lab.widgets.comm_routing import use_requested_subshell
from harmonia_lab.widgets.event_sources import PanelLab
from harmonia_lab.widgets.frontend import has_live_frontend
from harmonia_lab.widgets.throttle import THROTTLE

__all__ = ["COLUMNS", "Monitor", "rows"]

COLUMNS = ("Song", "Status", "Progress", "Step", "Began", "Took")

JobRow = dict[str, Any]


def rows(jobs: Sequence[Job]) -> list[JobRow]:
    """Return the jobs as JSON values, in the order given. The page must show the words as text, not as HTML."""
    return [_row(job) for job in jobs]


def _row(job: Job) -> JobRow:
    metadata = job.result.metadata if job.result is not None else None
    error = job.result.error if job.result is not None else None
    ended = job.status in ENDED
    return {
        "id": job.id,
        "title": metadata.title if metadata is not None else job.id,
        "status": job.status,
        "percent": 100.0 if job.status == "completed" else round(job.progress.percentage, 1),
        "step": error or ("" if ended else job.progress.message),
        "began": job.created_at.astimezone().strftime("%d %b %H:%M:%S"),
        "took": f"{(job.updated_at - job.created_at).total_seconds():.1f} s" if ended else "",
        "canCancel": not ended,
        "canRetry": job.status == "failed",
    }


class _Table(anywidget.AnyWidget):
    """view: {columns, rows, notice}."""

    _esm = Path(__file__).with_name("monitor.js")
    _css = Path(__file__).with_name("monitor.css")
    view = traitlets.Dict().tag(sync=True)

    def __repr__(self) -> str:
        return f"{len(self.view.get('rows', []))} songs"


class Monitor:
    """A live table with buttons that cancel and retry. Jupyter shows it where it is a cell's last expression."""

    def __init__(self, lab: PanelLab, user: str | None = "local", limit: int = 20) -> None:
        """user: whose jobs are shown; None: all users'. limit: how many are shown, the newest."""
        self._lab, self._user, self._limit = lab, user, limit
        self._notice = ""
        self._lock = threading.Lock()
        self.live = True
        self.widget = _Table()
        use_requested_subshell(self.widget)
        self.widget.on_msg(self._clicked)
        self._unsubscribe = lab.events.subscribe(self._observe)
        self.paint()
        THROTTLE.mark(self)

    def paint(self) -> None:
        with self._lock:
            if self.live:
                jobs = self._lab.journal.jobs(self._user, self._limit)
                self.widget.view = {"columns": COLUMNS, "rows": rows(jobs), "notice": self._notice}

    def close(self) -> None:
        """Idempotent."""
        self._unsubscribe()
        with self._lock:
            self.live = False
            self.widget.close()

    def _ipython_display_(self) -> None:
        if has_live_frontend():
            display(self.widget)  # type: ignore[no-untyped-call]  # IPython has no types here
        else:
            for row in self.widget.view["rows"]:
                print(row["began"], row["status"], row["title"], row["took"], sep="  ")  # noqa: T201 - the table without a front end

    def _observe(self, event: FamilyEvent) -> None:
        if event.family == "job":
            THROTTLE.mark(self)

    def _clicked(self, _widget: object, content: Any, _buffers: object) -> None:
        command = {"cancel": self._lab.cancel, "retry": self._lab.retry}.get(content.get("ask"))
        if command is not None:
            threading.Thread(target=self._run_command, args=(command, str(content.get("id"))), daemon=True).start()

    def _run_command(self, command: Callable[[str], object], generation_id: str) -> None:
        self._notice = ""
        try:
            command(generation_id)
        except HarmoniaError as error:
            self._notice = str(error)
        THROTTLE.mark(self)
