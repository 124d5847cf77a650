"""What every journal does, wherever it keeps its events.

Owns the interface that the rest of the package uses, the states of generations under way, what is written later, and
the end of what exited processes left. `journal.py` keeps the events in an SQLite file of this machine,
`shared/redis_journal.py` in a Redis that several servers share. A generation's state is computed from its row and its
events; of its progress, only the latest is stored, in the row. The run log's row of its last attempt is kept too, as
far as it was known when the attempt began: for the log of the process that finds it interrupted. Events that can't be
written now are written later (`unwritten.py`); meanwhile this process reads them as if they were in the journal. The
journal stores no URL: it returns `audioUrl` and `outputPath` as the song's file URI, and the server signs a URL at each
send (`protocol.events.linked`).
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from harmonia_lab.errors import ErrorCode, StorageError
from harmonia_lab.events.state import GenerationState, apply, new_state
from harmonia_lab.protocol.events import FAMILIES, Family, FamilyEvent
from harmonia_lab.protocol.models import ENDED, Job, ShareRole, SongRequest
from harmonia_lab.store.process_liveness import LivenessLock
from harmonia_lab.store.reserve import Exit
from harmonia_lab.store.submissions import Submission
from harmonia_lab.store.unwritten import Unwritten

__all__ = ["ElsewhereTable", "JournalCore", "SharesTable", "SubmissionsTable"]

PROGRESS_SAVE_S = 1.0
"""Seconds between two writes of one generation's progress, at least."""

_log = logging.getLogger(__name__)


class SharesTable(Protocol):
    """Which users may use a generation that is another user's: `store.shares.Shares`."""

    def of(self, generation_id: str) -> dict[str, ShareRole]: ...
    def add(self, generation_id: str, user: str, role: ShareRole) -> dict[str, ShareRole]: ...
    def remove(self, generation_id: str, user: str) -> dict[str, ShareRole]: ...
    def jobs_with(self, user: str, limit: int = 100, before: str | None = None) -> list[Job]: ...
    def last_change(self) -> int: ...
    def changed_after(self, number: int) -> list[str]: ...


class SubmissionsTable(Protocol):
    """How each generation was submitted: `store.submissions.Submissions`."""

    def of(self, generation_id: str) -> Submission | None: ...
    def latest_in(self, out: Path) -> str | None: ...
    def deaths(self, generation_id: str) -> int: ...
    def died(self, generation_id: str, process: str) -> int: ...
    def forgive(self, generation_id: str) -> None: ...


class ElsewhereTable(Protocol):
    """Which generations another machine's server makes: `store.elsewhere.Elsewhere`."""

    def server_of(self, generation_id: str) -> str | None: ...


class JournalCore(ABC):
    """Every method may be called from any thread. Reads don't wait for writes. Each that reads or writes raises
    StorageError where that can't be done."""

    path: Path
    shares: SharesTable
    submissions: SubmissionsTable
    elsewhere: ElsewhereTable

    def __init__(self, path: Path, liveness: LivenessLock) -> None:
        """path: names the journal in messages; its folder is the home. liveness: this process's file there."""
        self.path = path
        self._lock = threading.RLock()
        self._live: dict[str, GenerationState] = {}
        self._saved_at: dict[str, float] = {}
        self._closed = False
        self.ending = threading.Lock()
        """Held by the thread of this process that ends what `interrupted` yields."""
        self._postponed: set[str] = set()
        """Exited processes whose generations can't be ended now, which was logged."""
        self._liveness = liveness
        self.unwritten = Unwritten(liveness.reserve, self._write_late)

    def begin(
        self,
        job: Job,
        request: SongRequest,
        attempt: Mapping[str, Any] | None = None,
        submission: Submission | None = None,
        server: str | None = None,
        limits: tuple[int, int] | None = None,
    ) -> None:
        """Add a pending generation. attempt: its row of the run log so far. submission: how it was submitted. server:
        the URL of the one that makes it, if another machine's does. limits: songs that may wait in all and of one user,
        on all servers that share the journal; this process's own are counted by its queue.

        Raises InvalidRequest if the id is taken, Refused (QUEUE_FULL), StorageError.
        """
        state = new_state(job, request)
        self._insert(state, request, attempt, submission, server, limits)
        self._live[job.id] = state

    @abstractmethod
    def _insert(
        self,
        state: GenerationState,
        request: SongRequest,
        attempt: Mapping[str, Any] | None,
        submission: Submission | None,
        server: str | None,
        limits: tuple[int, int] | None,
    ) -> None:
        """As `begin`."""

    @abstractmethod
    def reopen(self, state: GenerationState, attempt: Mapping[str, Any], limits: tuple[int, int] | None = None) -> None:
        """Make a failed generation this process's, which tries it again. attempt: as `begin_attempt` takes it. limits:
        as `begin` takes them.

        Raises Refused (NOT_RECOVERABLE) if something has happened to it since `state`, StorageError.
        """

    @abstractmethod
    def begin_attempt(self, generation_id: str, row: Mapping[str, Any]) -> None:
        """Keep the attempt's row of the run log so far, in place of an earlier attempt's. Raises StorageError."""

    @abstractmethod
    def last_attempt(self, generation_id: str) -> dict[str, Any]:
        """Return what was known of the last attempt's row when it began; empty for a generation of an older version."""

    def record(self, *events: FamilyEvent) -> None:
        """Write events of one generation, all or none, before this returns.

        Where that is refused now, they are kept in the reserve, and written later, in order. Progress is written once a
        second at most, and not later. Raises ValueError for a lifecycle event that isn't the next of its family:
        readers could never fill that gap. Raises StorageError once the journal is closed, and with the code INTERRUPTED
        if another process has ended the generation.
        """
        with self._lock:
            if self._closed:
                raise StorageError(f"The journal {self.path} is closed.")
            generation_id = events[0].generation_id
            state = self.state(generation_id)
            if state is None:
                raise ValueError(f"generation {generation_id} was never begun")
            for event in events:
                if event.delivery == "lifecycle" and not state.expects(event):
                    raise ValueError(f"{event.name} of {generation_id} has seq {event.seq}, which is not the next")
                state = apply(state, event)
            lifecycle = [event for event in events if event.delivery == "lifecycle"]
            now = time.monotonic()
            if lifecycle or now - self._saved_at.get(generation_id, 0.0) >= PROGRESS_SAVE_S:
                self._write(state, lifecycle)
                self._saved_at[generation_id] = now
            self._live[generation_id] = state
            self._settle(state)

    def _write(self, state: GenerationState, events: Sequence[FamilyEvent]) -> None:
        """Write events and the state after them now, or else see to it that they are written later."""
        if self.unwritten.has_events:
            error = StorageError(f"Earlier events wait to be written to {self.path}.")
        else:
            try:
                self._write_now(state, events)
            except StorageError as refused:
                if refused.code == ErrorCode.INTERRUPTED:
                    raise
                error = refused
            else:
                return
        if events:
            self.unwritten.add_events(events, error)

    @abstractmethod
    def _write_now(self, state: GenerationState, events: Sequence[FamilyEvent]) -> None:
        """Write lifecycle events of one generation, and the state after them."""

    @abstractmethod
    def _write_late(self, events: Sequence[FamilyEvent]) -> None:
        """Write those of the events, of any generations, that the journal lacks. Raises StorageError."""

    def _settle(self, state: GenerationState, *, written: bool = False) -> None:
        """Move a generation that has ended from those under way to those at hand, once the journal has all its
        events."""
        with self._lock:
            if state.status in ENDED and (written or not self.unwritten.events_of(state.id)):
                self._live.pop(state.id, None)
                self._saved_at.pop(state.id, None)
                self._keep_at_hand(state)

    @abstractmethod
    def _keep_at_hand(self, state: GenerationState) -> None:
        """Keep the state of a generation that has just ended in memory, for some time."""

    def replay(self, generation_id: str, family: Family, after_seq: int = 0) -> list[FamilyEvent]:
        """Return the lifecycle events of one family after `after_seq`, in order; [] for an unknown id.

        Raises StorageError, as every method that reads, if the generation's rows are damaged.
        """
        unwritten = self.unwritten.events_of(generation_id, family, after_seq)  # first: they may be written meanwhile
        events = self._stored_events(generation_id, family, after_seq)
        last = events[-1].seq if events else 0
        return [*events, *(event for event in unwritten if event.seq > last)]

    @abstractmethod
    def _stored_events(self, generation_id: str, family: Family, after_seq: int) -> list[FamilyEvent]:
        """As `replay`, of what is written."""

    def history(self, generation_id: str) -> list[FamilyEvent]:
        """Return the lifecycle events of both families, and the latest progress of each in its place.

        A store that gets these events ends in the same state as one that got every event live.
        """
        state = self.state(generation_id)
        latest = [] if state is None else state.latest_progress()
        events = [event for family in FAMILIES for event in self.replay(generation_id, family)]
        # Progress has the `seq` of the lifecycle event before it, so a stable sort puts it behind that event.
        return sorted([*events, *latest], key=lambda event: (event.family != "generation", event.seq))

    def state(self, generation_id: str) -> GenerationState | None:
        """Return what the generation's events add up to; None for an unknown id."""
        return self._live.get(generation_id) or self._stored_state(generation_id)

    @abstractmethod
    def _stored_state(self, generation_id: str) -> GenerationState | None:
        """As `state`, of what is written."""

    def is_at_hand(self, generation_id: str) -> bool:
        """Return whether `state` may be called in an event loop: else, a thread should call it."""
        return generation_id in self._live or self._is_stored_at_hand(generation_id)

    @abstractmethod
    def _is_stored_at_hand(self, generation_id: str) -> bool:
        """Return whether `_stored_state` costs no more than a look at one row of a file, or none at another machine."""

    @abstractmethod
    def request(self, generation_id: str) -> SongRequest:
        """Return the generation's request. Raises KeyError for an unknown id."""

    @abstractmethod
    def jobs(self, owner: str | None = None, limit: int = 100, before: str | None = None) -> list[Job]:
        """Return the newest `limit` jobs of `owner`, newest first; of all users if `owner` is None.

        before: only jobs that are older than the one with this `place_of`. A damaged job is logged and left out.
        Raises InvalidRequest for a place that no job has.
        """

    @abstractmethod
    def check(self) -> None:
        """Raise StorageError if the journal can't be read."""

    def interrupted(self) -> Iterator[GenerationState]:
        """Yield each generation that an exited process left pending or running, process by process, as this process's.

        What that process could not write is written first, and its death is counted where it was making the song.
        No other process gets a generation while it is yielded here: the caller must end it before it takes the next.
        Generations of living processes, this one included, are left out; so are those that are made elsewhere, and
        damaged rows, which are logged. While the journal can't be written, an exited process is left for later.
        """
        for process in dict.fromkeys([*(name for _, name in self._unfinished_here()), *self._liveness.known()]):
            try:
                with self._reap(process) as exited:
                    if exited is None:
                        continue
                    left = [generation_id for generation_id, name in self._unfinished_here() if name == process]
                    self._take_over(process, exited)
                    claimed = [self._claim(generation_id, process, died=exited.died) for generation_id in left]
                    yield from filter(None, claimed)
            except StorageError as error:
                if process not in self._postponed:
                    self._postponed.add(process)
                    _log.warning("What an exited process left is looked at later. %s", error)

    @abstractmethod
    def _unfinished_here(self) -> list[tuple[str, str]]:
        """Return the unfinished generations, oldest first, each with its process; without those made elsewhere."""

    def _reap(self, process: str) -> AbstractContextManager[Exit | None]:
        """As `LivenessLock.reap`."""
        return self._liveness.reap(process)

    def _take_over(self, process: str, exited: Exit) -> None:
        """Write what an exited process had in its reserve."""
        del process
        self.unwritten.take_over(exited.entries)

    @abstractmethod
    def _claim(self, generation_id: str, process: str, *, died: bool) -> GenerationState | None:
        """Make a generation of an exited process this one's, and return its state; None if it has ended, or is damaged.

        Raises StorageError if the journal can't be written.
        """

    @abstractmethod
    def left_elsewhere(self, server: str) -> list[str]:
        """Return the unfinished generations of `server` that no other living process follows, as this process's.

        server: its URL. Raises StorageError.
        """

    @abstractmethod
    def forget(self, generation_id: str) -> None:
        """Delete a generation that was begun, and of which nothing was heard. Raises StorageError."""

    @abstractmethod
    def unfinished(self) -> list[str]:
        """Return the generations that wait or run, of any process."""

    @abstractmethod
    def prune(self, kept: int, before: str | None = None, *, dry_run: bool = False) -> int:
        """Delete ended generations, but for the newest `kept`, and those created before a time (ISO 8601, UTC).

        Return how many were deleted, or would be. Raises StorageError.
        """

    @abstractmethod
    def shrink(self) -> bool:
        """Give back the room of what was deleted. Return False if that can't be done now."""

    def close(self) -> None:
        """Write what is left and the latest progress of unfinished generations, and close the journal. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self.unwritten.close()
        with self._lock:
            live, self._live = self._live, {}
            self._end(list(live.values()) if not self.unwritten.has_events else [])
        self._liveness.close()

    @abstractmethod
    def _end(self, unfinished: Sequence[GenerationState]) -> None:
        """Write the latest progress of those, if that can be done, and close what this has open."""
