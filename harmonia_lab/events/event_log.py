"""The one way out of a generation: `EventLog` numbers an event, adds the job's, journals them, and calls listeners.

Owns that order, the numbers of both families, and what happens while the journal can't be written. The subscribers
(rooms, store, metrics) are the fan-out's.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from harmonia_lab.errors import ErrorCode, StorageError
from harmonia_lab.events.state import Cursor, GenerationState, apply
from harmonia_lab.protocol.events import Event, FamilyEvent, JobStatusEvent
from harmonia_lab.protocol.models import JobProgress, utc_now

__all__ = ["EventJournal", "EventLog"]

TICKS_BEYOND_A_CRASH = 1_000_000
"""Progress up to a crash may have been sent without being saved: the ticks that follow must be greater than its."""

_log = logging.getLogger(__name__)


class EventJournal(Protocol):
    """What keeps events: `store.journal.Journal`."""

    def record(self, *events: FamilyEvent) -> None:
        """Keep events of one generation, all at once. Raises StorageError where they can't be kept."""


class EventLog:
    """The events of one attempt at one generation. Callable from any thread: `log(event)`; the order is kept.

    Nothing follows an event that ends the generation: what is emitted after it is dropped.
    """

    def __init__(
        self, state: GenerationState, journal: EventJournal, *listeners: Callable[[FamilyEvent], object]
    ) -> None:
        """state: where the generation is, in the journal as well. listeners: each is called with every event of both
        families, in order, one at a time, once the journal has it."""
        if state.failure is not None and state.failure.error.code == ErrorCode.INTERRUPTED:
            state = replace(
                state, generation_cursor=_beyond(state.generation_cursor), job_cursor=_beyond(state.job_cursor)
            )
        self._state = state
        self._journal, self._listeners = journal, listeners
        self._lock = threading.RLock()
        self._announced = self._closed = False
        self._unsaved: list[FamilyEvent] = []

    @property
    def state(self) -> GenerationState:
        return self._state

    def __call__(self, event: Event) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = event.ends
            job = self._state.kept_job
            first = self._number(event, emitted_at=utc_now())
            # The job as it was: what the event means depends on what the job's readers know.
            self._record(first, *map(self._number, first.for_job(job, self._state.metadata)))

    def queued(self, position: int, eta_seconds: float) -> None:
        """Emit `job:status` pending: the generation waits, is tried again, or has another place in the queue.

        position: how many jobs come before it. A job that has its turn already is told nothing more.
        """
        with self._lock:
            job, first = self._state.kept_job, not self._announced
            if self._closed or not (first or job.status == "pending"):
                return
            self._announced, now = True, utc_now()
            fresh = {"status": "pending", "progress": JobProgress(), "updated_at": now, "result": None}
            # A job that is new or had ended is sent whole.
            whole = self._state.job_cursor.seq == 0 or job.status != "pending"
            status = JobStatusEvent(
                id=job.id,
                status="pending",
                job=job.model_copy(update=fresh) if whole else None,
                position=position,
                eta_seconds=eta_seconds,
                emitted_at=now,
            )
            self._record(self._number(status))

    def _number(self, event: Any, **stamp: Any) -> Any:
        """Return `event` with its `seq`, progress with its `tick` too."""
        cursor = self._state.cursor(event.family)
        stamp["seq"] = cursor.seq + (event.delivery == "lifecycle")
        if event.delivery == "progress":
            stamp["tick"] = cursor.tick + 1
        numbered = event.model_copy(update=stamp)
        self._state = apply(self._state, numbered)
        return numbered

    def _record(self, *events: FamilyEvent) -> None:
        try:
            self._journal.record(*self._unsaved, *events)
            self._unsaved = []
        except StorageError as error:
            # A song that somebody waits for matters more than its replay; the next event takes along what was not kept.
            if not self._unsaved:
                _log.warning("Events can't be replayed for now. %s", error)
            self._unsaved += [event for event in events if event.delivery == "lifecycle"]
        for event in events:
            for listener in self._listeners:
                listener(event)


def _beyond(cursor: Cursor) -> Cursor:
    return replace(cursor, tick=cursor.tick + TICKS_BEYOND_A_CRASH)
