"""The one way out of a generation: each event is numbered into both families, journalled, then handed on.

Owns that order, and what happens where the journal can't be written. What follows (rooms, store, metrics) is the
fan-out's.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from harmonia_lab.errors import StorageError
from harmonia_lab.events.job_family import JobView
from harmonia_lab.protocol.events import Event, FamilyEvent
from harmonia_lab.store.journal import Journal

__all__ = ["Outlet"]

_log = logging.getLogger(__name__)


class Outlet:
    """Callable: `outlet(event)` is what the pipeline emits to. Safe to call from any thread; the order is kept."""

    def __init__(self, view: JobView, journal: Journal, hand_on: Callable[[FamilyEvent], None]) -> None:
        """hand_on: called for each event of both families, in order, one at a time, once it is on disk."""
        self._view = view
        self._journal = journal
        self._hand_on = hand_on
        self._lock = threading.RLock()
        self._unsaved: list[FamilyEvent] = []

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._publish(*self._view.observe(event))

    def queued(self, *, position: int | None = None, eta_seconds: float | None = None) -> None:
        """`job:status` pending: for the first time, at another place in the queue, or to be tried again."""
        with self._lock:
            self._publish(self._view.queued(position=position, eta_seconds=eta_seconds))

    def moved(self, *, position: int, eta_seconds: float | None = None) -> None:
        """`job:status` pending with another place in the queue; nothing where it no longer waits."""
        with self._lock:
            if self._view.job.status == "pending":
                self._publish(self._view.queued(position=position, eta_seconds=eta_seconds))

    def _publish(self, *events: FamilyEvent) -> None:
        try:
            self._journal.record(*self._unsaved, *events)
            self._unsaved = []
        except StorageError as error:
            # A song that somebody waits for matters more than its replay; what could not be kept goes with the next.
            if not self._unsaved:
                _log.warning("Events can't be replayed for now. %s", error)
            self._unsaved += [event for event in events if event.delivery == "lifecycle"]
        for event in events:
            self._hand_on(event)
