"""`BatchPanel`: a batch or a study that is being made, live in a notebook: how far it is, each song, and its memory.

Owns which rows are shown and in which words, and what a click does. `song_table.py` owns the widget.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harmonia_lab.engines.probes import MemoryReading, measured_gpu
from harmonia_lab.engines.process_tree import descendants, rss_bytes
from harmonia_lab.errors import ErrorCode, Refused
from harmonia_lab.events.fanout import Fanout
from harmonia_lab.protocol.events import FamilyEvent
from harmonia_lab.songs_handle import SongProgress, SongsHandle
from harmonia_lab.widgets.cell_outputs import shown_in_cell
from harmonia_lab.widgets.frontend import has_live_frontend, in_kernel, installed
from harmonia_lab.widgets.outputs import display_object
from harmonia_lab.widgets.throttle import HEARTBEAT_S, THROTTLE

if TYPE_CHECKING:
    from harmonia_lab.widgets.song_table import SongTable

__all__ = ["COLUMNS", "BatchPanel", "present_batch", "shows_batches", "watch_batch"]

COLUMNS = ("Song", "Status", "Progress", "Step", "Took", "Memory at most")

MOST_ROWS = 60
"""Rows that are shown: a page with ten thousand is slow, and nobody reads it."""


def shows_batches() -> bool:
    """Return whether a page is likely to show a batch's panel live."""
    return has_live_frontend() and installed("anywidget")


def present_batch(batch: SongsHandle[Any], events: Fanout) -> Any:
    """Return a cell's output; None: the batch's own text. Without a page that shows widgets, wait for the end first."""
    if not in_kernel():
        return None
    if not shows_batches():
        batch.wait()  # it prints its lines meanwhile
        return {"text/plain": str(batch.report)}
    panel = _panel_of(batch, events)
    shown_in_cell(panel)
    return panel.widget._repr_mimebundle_()


def watch_batch(batch: SongsHandle[Any], events: Fanout) -> Any:
    """Show the panel in the running cell until the batch has ended, and return its report.

    An interrupt cancels the batch, and is raised again. Raises what ended the batch.
    """
    panel = _panel_of(batch, events)
    display_object(panel.widget)
    shown_in_cell(panel)
    try:
        return batch.result()
    except KeyboardInterrupt:
        batch.cancel()
        batch.wait()
        raise


def _panel_of(batch: SongsHandle[Any], events: Fanout) -> BatchPanel:
    if batch.panel is None:
        batch.panel = BatchPanel(batch, events)
    panel: BatchPanel = batch.panel
    return panel


class BatchPanel:
    """A live view of many songs, with buttons that cancel all or one of them, and play what is done."""

    def __init__(self, batch: SongsHandle[Any], events: Fanout) -> None:
        """events: of the lab that makes the songs; each may be the running song's progress."""
        from harmonia_lab.widgets.song_table import SongTable  # noqa: PLC0415 - anywidget may be missing

        self._batch = batch
        self._lock = threading.Lock()
        self._notice = ""
        self._stale = True
        """Whether a row has changed other than by progress."""
        self._memory, self._memory_at = MemoryReading(), 0.0
        self._gpu = ""
        self._left_out = 0
        self.live = True
        commands = {
            "cancelAll": lambda _: batch.cancel(),
            "cancel": lambda row_id: batch.cancel(int(row_id)),
            "play": self._play,
        }
        self.widget: SongTable = SongTable(commands, self._set_notice)
        self._unsubscribe = (batch.observe(self._changed), events.subscribe(self._progressed))
        self.paint()
        THROTTLE.mark(self)

    def paint(self) -> None:
        with self._lock:
            if not self.live:
                return
            over = self._batch.over  # read first: what ends after that marks this panel again
            self._stale, stale = False, self._stale or over
            self._measure_memory(last=over)
            running = self._batch.running
            with self.widget.hold_sync():  # one message
                if stale:
                    self.widget.view = {"columns": COLUMNS, **self._table()}
                self.widget.now = _now(running) if running is not None else {}
                self.widget.head = self._head(running)
            if over:
                self.live = False
                self._end_subscriptions()

    def close(self) -> None:
        """End the subscription, and remove the widget; the batch goes on. Idempotent."""
        self._end_subscriptions()
        with self._lock:
            self.live = False
            self.widget.close()
        self._batch.panel = None

    def left_page(self) -> None:
        """Close the panel of a batch that is over; one that is being made may be open in another tab."""
        if self._batch.over:
            self.close()

    def _end_subscriptions(self) -> None:
        for unsubscribe in self._unsubscribe:
            unsubscribe()

    def _changed(self) -> None:
        self._stale = True
        THROTTLE.mark(self)

    def _progressed(self, _event: FamilyEvent) -> None:
        THROTTLE.mark(self)

    def _set_notice(self, notice: str) -> None:
        if notice != self._notice:
            self._notice = notice
            with self._lock:
                self.widget.view = self.widget.view | {"notice": self._told()}

    def _play(self, row_id: str) -> None:
        folder = self._batch.rows[int(row_id) - 1].folder
        if folder is None:
            raise Refused("This row has no song yet.", code=ErrorCode.NOT_FOUND)
        self.widget.play(row_id, (folder / "song.flac").read_bytes())

    # What is shown

    def _table(self) -> dict[str, Any]:
        rows = self._batch.rows
        shown = _most_telling(rows)
        self._left_out = len(rows) - len(shown)
        return {"rows": [_row(row, over=self._batch.over) for row in shown], "notice": self._told()}

    def _told(self) -> str:
        left_out = self._left_out
        more = f"{left_out} more rows are not shown; the handle's `.rows` are all of them." if left_out else ""
        return " ".join(filter(None, (self._notice, more)))

    def _head(self, running: SongProgress | None) -> dict[str, Any]:
        batch = self._batch
        total, done = batch.total, batch.done
        percent = 100.0 if not total else 100 * (done + (running.percent / 100 if running else 0)) / total
        without = f", {batch.failures} without a song" if batch.failures else ""
        words = {"running": f": {batch.note}" if batch.note else "", "done": ": done", "failed": ": ended by an error"}
        ended = words.get(batch.state, f": {batch.why_stopped}")
        return {
            "headline": f"{done} of {total} {batch.unit}{without}{ended}",
            "state": batch.state,
            "percent": round(percent, 1),
            "left": batch.time_left,
            "canCancel": not batch.over,
            "memory": {
                "points": [sample.rss for sample in self._memory.samples],
                "text": self._memory_words(),
            },
            "gpu": {"points": [sample.gpu or 0 for sample in self._memory.samples if self._has_gpu], "text": self._gpu},
        }

    # Memory, of this process, which makes a batch's songs

    @property
    def _has_gpu(self) -> bool:
        return self._memory.gpu_used_peak is not None

    def _measure_memory(self, *, last: bool) -> None:
        if time.monotonic() - self._memory_at < HEARTBEAT_S and not last:
            return
        self._memory_at = time.monotonic()
        me, gpu = os.getpid(), measured_gpu()
        used = None if isinstance(gpu, str) else gpu.used_bytes()
        self._memory.take(rss_bytes([me, *descendants(me)]), used)
        if isinstance(gpu, str):
            self._gpu = f"No GPU memory: {gpu}"
        elif used is None:
            self._gpu = f"No GPU memory: {gpu.name} doesn't report it"
        else:
            peak = self._memory.gpu_used_peak or used
            self._gpu = f"{gpu.name}, all processes: {_gigabytes(used)}, at most {_gigabytes(peak)}"

    def _memory_words(self) -> str:
        now = self._memory.samples[-1].rss
        return f"Memory of this process: {_gigabytes(now)}, at most {_gigabytes(self._memory.rss_peak)}"


def _most_telling(rows: Sequence[SongProgress]) -> list[SongProgress]:
    """Return at most `MOST_ROWS`, in order: those around the one that is made now, or the last, and what failed."""
    if len(rows) <= MOST_ROWS:
        return list(rows)
    third = MOST_ROWS // 3
    waiting = [row.number for row in rows if row.status in ("running", "waiting")]
    centre = waiting[0] if waiting else len(rows)
    failed = [row.number for row in rows if row.status == "failed"][-third:]
    wanted = {*range(centre - third, centre + third), *failed}
    return [row for row in rows if row.number in wanted]


def _row(row: SongProgress, *, over: bool) -> dict[str, Any]:
    rss, gpu = (_gigabytes(peak) if peak else "" for peak in (row.rss_peak, row.gpu_peak))
    took = f"{row.seconds:.1f} s" if row.seconds is not None else ""
    can_cancel = not over and row.status in ("running", "waiting")
    actions = ["cancel"] if can_cancel else ["play"] if row.folder is not None else []
    return {
        "id": str(row.number),
        "title": row.heading,
        "detail": row.detail,
        "status": row.status,
        "percent": round(row.percent, 1),
        "step": f"{row.error} {row.remedy}".strip() or row.stage,
        "cells": [took, " · ".join(filter(None, (rss, gpu and f"GPU {gpu}")))],
        "actions": actions,
    }


def _now(row: SongProgress) -> dict[str, Any]:
    shown = _row(row, over=False)
    return {name: shown[name] for name in ("id", "title", "detail", "status", "percent", "step")}


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
