"""What the journal and the run log could not take yet: kept in memory and in the reserve, and written when they can.

Owns the order, and the thread that tries again. `journal.py` writes events, `run_log.py` writes rows; what a process
that was killed meanwhile had in its reserve is written by the process that finds it (`Journal.interrupted`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from harmonia_lab.errors import StorageError
from harmonia_lab.protocol.event_codec import decode_event, encode
from harmonia_lab.protocol.events import Family, FamilyEvent
from harmonia_lab.store.reserve import Reserve
from harmonia_lab.store.run_log import RunLog

__all__ = ["Unwritten", "write_row"]

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
"""Between two tries, doubled each time: freed space is noticed within seconds, and trying costs next to nothing."""

_log = logging.getLogger(__name__)


class Unwritten:
    """Every method may be called from any thread. Its thread lives while there is something to write."""

    def __init__(self, reserve: Reserve, write_events: Callable[[Sequence[FamilyEvent]], None]) -> None:
        """write_events: writes events to the journal, all at once. Raises StorageError."""
        self._reserve, self._write_events = reserve, write_events
        self._changed, self._flushing = threading.Condition(), threading.Lock()
        self._events: list[FamilyEvent] = []
        self._rows: list[tuple[Path, dict[str, Any]]] = []
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def has_events(self) -> bool:
        return bool(self._events)

    def events_of(self, generation_id: str, family: Family | None = None, after_seq: int = 0) -> list[FamilyEvent]:
        """Return a generation's events, of one family or both, that the journal's file lacks."""
        return [
            event
            for event in self._events
            if event.generation_id == generation_id and family in (None, event.family) and event.seq > after_seq
        ]

    def add_events(self, events: Sequence[FamilyEvent], reason: StorageError) -> None:
        """Keep events that the journal refused for `reason`."""
        with self._changed:
            if not self._events:
                _log.warning("Events are written to the journal later. %s", reason)
            self._events = [*self._events, *events]
            self._enter({"events": [encode(event) for event in events]})

    def add_row(self, path: Path, row: dict[str, Any], reason: StorageError) -> None:
        """Keep a row that the run log at `path` refused for `reason`."""
        with self._changed:
            if (path, row) in self._rows:
                return
            _log.warning("The run could not be logged, and is logged later. %s", reason)
            self._rows = [*self._rows, (path, row)]
            self._enter({"row": row, "log": str(path)})

    def take_over(self, entries: Sequence[dict[str, Any]]) -> None:
        """Write what the reserve of an exited process has. Entries that are written already are left out.

        Raises StorageError if the journal can't be written. A row that can't be is kept in this process's reserve.
        """
        for entry in entries:
            if "events" in entry:
                self._write_events([_decoded(each) for each in entry["events"]])
        for entry in entries:
            if "row" in entry:
                path, row = Path(entry["log"]), entry["row"]
                try:
                    write_row(path, row)
                except StorageError as error:
                    self.add_row(path, row, error)
                except KeyError as error:  # of a newer version
                    _log.warning("A row is lost: %s", error)

    def flush(self) -> bool:
        """Write what can be written now. Return whether nothing is left."""
        with self._flushing:
            self._flush_events()
            self._flush_rows()
            with self._changed:
                left = bool(self._events or self._rows)
                if not left:
                    self._reserve.clear()
            return not left

    def _flush_events(self) -> None:
        events = self._events
        if not events:
            return
        try:
            self._write_events(events)
        except StorageError as error:
            _log.debug("Events still can't be written. %s", error)
            return
        except ValueError:  # never to be written: trying again would keep the later ones back
            _log.exception("A defect: events are not in the journal.")
        else:
            _log.warning("The journal has all events again.")
        with self._changed:
            self._events = self._events[len(events) :]

    def _flush_rows(self) -> None:
        written = 0
        for path, row in self._rows:
            try:
                write_row(path, row)
            except StorageError as error:
                _log.debug("A row still can't be written. %s", error)
                break
            except KeyError as error:
                _log.warning("A row is lost: %s", error)
            written += 1
        with self._changed:
            self._rows = self._rows[written:]

    def close(self) -> None:
        """Try once more, and end the thread. What is left stays in the reserve. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if not self.flush():
            _log.warning("Some events or rows could not be written; the next process that opens the journal tries.")

    def _enter(self, entry: dict[str, Any]) -> None:
        if not self._reserve.append(entry):
            _log.warning("The reserve can't be written either: if this process is killed now, they are lost.")
        if self._thread is None and not self._closed:
            # A daemon: an exit must not wait for a disk that stays full.
            self._thread = threading.Thread(target=self._work, name="harmonia-unwritten", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed, wait_s)
                if self._closed or not (self._events or self._rows):
                    self._thread = None
                    return
            self.flush()
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def write_row(path: Path, row: dict[str, Any]) -> None:
    """Add a row to a run log, unless it has the attempt's already. Raises StorageError."""
    log = RunLog(path)
    if log.find(row["run_id"]) is None:
        log.append(row)


def _decoded(entry: Any) -> FamilyEvent:
    name, payload = entry
    return cast("FamilyEvent", decode_event(name, payload))
