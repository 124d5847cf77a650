"""`EventLog`: numbers each event of a generation, adds the job events that it means, journals both, and hands them on.

Owns that order, and the numbers of both families. `fanout.py` owns the subscribers.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
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
    """Keeps events: `store.journal.Journal`."""

    def record(self, *events: FamilyEvent) -> None:
        """Keep events of one generation, all at once. Raises StorageError once it is closed, and with the code
        INTERRUPTED if another server has ended the generation."""


class EventLog:
    """The events of one attempt at one generation. Callable from any thread: `log(event)`; the order is kept.

    An event that is emitted after the one that ends the generation is dropped.
    """

    def __init__(
        self, state: GenerationState, journal: EventJournal, *listeners: Callable[[FamilyEvent], object]
    ) -> None:
        """state: the generation's, in the journal as well. listeners: each is called with every event of both families,
        in order, one at a time, once the journal has it."""
        if state.failure is not None and state.failure.error.code == ErrorCode.INTERRUPTED:
            state = replace(
                state, generation_cursor=_beyond(state.generation_cursor), job_cursor=_beyond(state.job_cursor)
            )
        self._state = state
        self._journal, self._listeners = journal, listeners
        self._lock = threading.RLock()
        self._announced = self._closed = False
        self._undelivered: deque[FamilyEvent] = deque()
        self._delivering = False

    def __call__(self, event: Event) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = event.ends
            job = self._state.kept_job
            first = self._number(event, emitted_at=utc_now())
            # The job as it was before the event: `for_job` compares the two.
            self._record(first, *map(self._number, first.for_job(job, self._state.metadata)))
            self._deliver()

    def queued(self, position: int, eta_seconds: float) -> None:
        """Emit `job:status` pending: the generation waits, is tried again, or has another place in the queue.

        position: how many jobs come before it. Does nothing for a job that has its turn already.
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
            self._deliver()

    def wait_until_delivered(self) -> None:
        """Return once the listeners have had every event so far; at once if a listener calls this."""
        with self._lock:
            return

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
            self._journal.record(*events)
        except StorageError as error:
            _log.debug("Events of %s are not in the journal. %s", events[0].generation_id, error)
            if error.code == ErrorCode.INTERRUPTED:  # another server has ended it, and whoever listens was told so
                self._closed = True
                return
            # Else the process ends: the next one says how the song did.
        self._undelivered.extend(events)

    def _deliver(self) -> None:
        """Call the listeners. Events that a listener emits follow when all listeners have had the present one."""
        if self._delivering:
            return
        self._delivering = True
        try:
            while self._undelivered:
                event = self._undelivered.popleft()
                for listener in self._listeners:
                    listener(event)
        finally:
            self._delivering = False


def _beyond(cursor: Cursor) -> Cursor:
    return replace(cursor, tick=cursor.tick + TICKS_BEYOND_A_CRASH)
