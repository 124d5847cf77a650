"""`Monitor`: the jobs of one user in one live table, which cancels and retries them, plays their songs and opens them.

Owns the table's columns. The jobs are read from the journal at each drawing, so that the table also shows those of
another process that shares the journal, and nothing is stored twice.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import ipywidgets

from harmonia_lab.errors import HarmoniaError, StorageError
from harmonia_lab.protocol.events import FamilyEvent
from harmonia_lab.protocol.models import ENDED, Job
from harmonia_lab.protocol.text import printable_lines
from harmonia_lab.widgets.event_sources import LabEvents, PanelLab
from harmonia_lab.widgets.frontend import has_live_frontend
from harmonia_lab.widgets.outputs import display_object
from harmonia_lab.widgets.panel import Panel
from harmonia_lab.widgets.song_table import SongTable
from harmonia_lab.widgets.throttle import THROTTLE

__all__ = ["COLUMNS", "Monitor", "rows"]

COLUMNS = ("Song", "Status", "Progress", "Step", "Began", "Took")

SHORT_ID = 8
"""Characters of an id that tell songs apart, as the songs' folders have them."""

JobRow = dict[str, Any]


class MonitorLab(PanelLab, Protocol):
    """The part of `lab.Lab` that a monitor uses."""

    def panel(self, generation_id: str) -> Panel: ...


def rows(jobs: Sequence[Job], seeds: Mapping[str, int | None] | None = None) -> list[JobRow]:
    """Return the jobs as JSON values, in the order given. The page must show the words as text, not as HTML.

    seeds: of the songs, by id, as far as they are known.
    """
    return [_row(job, (seeds or {}).get(job.id)) for job in jobs]


def _row(job: Job, seed: int | None) -> JobRow:
    metadata = job.result.metadata if job.result is not None else None
    error = job.result.error if job.result is not None else None
    ended = job.status in ENDED
    began = job.created_at.astimezone().strftime("%d %b %H:%M:%S")
    short = job.id if len(job.id) <= 2 * SHORT_ID else job.id[:SHORT_ID]
    can = {"cancel": not ended, "retry": job.status == "failed", "play": job.status == "completed", "open": True}
    return {
        "id": job.id,
        "title": metadata.title if metadata is not None else short,
        "detail": " · ".join(([short] if metadata is not None else []) + ([] if seed is None else [f"seed {seed}"])),
        "status": job.status,
        "percent": 100.0 if job.status == "completed" else round(job.progress.percentage, 1),
        "step": error or ("" if ended else job.progress.message),
        "cells": [began, f"{(job.updated_at - job.created_at).total_seconds():.1f} s" if ended else ""],
        "actions": [action for action, possible in can.items() if possible],
    }


class Monitor:
    """A live table with buttons. Jupyter shows it where it is a cell's last expression."""

    def __init__(self, lab: MonitorLab, user: str | None = "local", limit: int = 20) -> None:
        """user: whose jobs are shown; None: all users'. limit: how many are shown, the newest."""
        self._lab, self._user, self._limit = lab, user, limit
        self._notice = ""
        self._seeds: dict[str, int | None] = {}
        self._lock = threading.Lock()
        self.live = True
        commands = {"cancel": lab.cancel, "retry": lab.retry, "play": self._play, "open": self._open}
        self.widget = SongTable(commands, self._set_notice)
        self.opened: Panel | None = None
        """The panel of the song that was opened last, shown below the table."""
        self._place = ipywidgets.VBox()
        self._unsubscribe = lab.events.subscribe(self._observe)
        self.paint()
        THROTTLE.mark(self)

    def paint(self) -> None:
        with self._lock:
            if not self.live:
                return
            try:
                jobs = self._lab.journal.jobs(self._user, self._limit)
                self._seeds = {job.id: self._seed(job.id) for job in jobs}
            except StorageError:  # the lab was closed: the table stays as it was
                self.live = False
                return
            self.widget.view = {"columns": COLUMNS, "rows": rows(jobs, self._seeds), "notice": self._notice}

    def close(self) -> None:
        """Idempotent."""
        self._unsubscribe()
        with self._lock:
            self.live = False
            self.widget.close()
            self._place.close()

    def _ipython_display_(self) -> None:
        if has_live_frontend():
            display_object(self.widget)
            display_object(self._place)
        else:
            print(self._text())  # noqa: T201 - the table without a front end

    def _display_(self) -> Any:
        """Return what marimo shows."""
        return self.widget

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """Return the table as text, which doesn't move, for front ends without a display of their own."""
        del include, exclude
        return {"text/plain": self._text()}

    def _text(self) -> str:
        lines = []
        for row in self.widget.view["rows"]:
            began, took = row["cells"]
            lines.append("  ".join(filter(None, (began, row["status"], row["title"], row["detail"], took))))
        return printable_lines("\n".join(lines)) or "No songs yet"

    def _observe(self, event: FamilyEvent) -> None:
        if event.family == "job":
            THROTTLE.mark(self)

    def _seed(self, generation_id: str) -> int | None:
        """Return a song's seed; None where the journal can't tell. It is read once: a song's seed never changes."""
        if generation_id not in self._seeds:
            try:
                return self._lab.journal.request(generation_id).seed
            except HarmoniaError:
                return None
        return self._seeds[generation_id]

    def _play(self, generation_id: str) -> None:
        self.widget.play(generation_id, LabEvents(self._lab, generation_id).files()["song.flac"]())

    def _open(self, generation_id: str) -> None:
        self.opened = self._lab.panel(generation_id)
        self._place.children = [self.opened.widget]

    def _set_notice(self, notice: str) -> None:
        self._notice = notice
        THROTTLE.mark(self)
