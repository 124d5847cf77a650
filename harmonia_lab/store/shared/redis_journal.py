"""The journal in a Redis that several servers share: a stream for each family of each generation, and a row.

Owns what this process writes there, and the copies of what it reads (`mirror.py`), so that no event loop waits for
Redis. Each write names this process; `scripts.lua` refuses it where another one has taken the generation over.
`lease.py` says who lives, `feed.py` what others write. Every method may be called from any thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from harmonia_lab.errors import ErrorCode, Refused, StorageError
from harmonia_lab.events.fanout import Fanout
from harmonia_lab.events.state import GenerationState, apply
from harmonia_lab.protocol.events import FAMILIES, Family, FamilyEvent
from harmonia_lab.protocol.models import ENDED, SongRequest
from harmonia_lab.storage import storage_errors
from harmonia_lab.store.journal import KEPT_GENERATIONS, id_in_use
from harmonia_lab.store.journal_rows import dump, place_of
from harmonia_lab.store.process_liveness import LivenessLock
from harmonia_lab.store.reserve import Exit
from harmonia_lab.store.shared.connection import PREFIX, RedisConnection
from harmonia_lab.store.shared.feed import Feed
from harmonia_lab.store.shared.lease import Lease
from harmonia_lab.store.shared.mirror import Copy, Mirror
from harmonia_lab.store.shared.reading import RedisReading
from harmonia_lab.store.shared.rows import (
    ask_for_copy,
    copy_of,
    event_arguments,
    state_fields,
    submission_fields,
)
from harmonia_lab.store.shared.tables import NowhereElse, RedisShares, RedisSubmissions
from harmonia_lab.store.submissions import Submission

__all__ = ["RedisJournal"]

KEPT_AFTER_END_S = 2.0
"""Seconds beyond a generation's end for which its events are kept here, and handed in again where Redis has lost them:
with `appendfsync everysec` it may lose what it acknowledged in the last one or two."""

DELETED_AT_ONCE = 200

PASSED_ON = 4096
"""Generations of which is remembered how far their events were passed on. (Sockets are sent no event twice.)"""

_log = logging.getLogger(__name__)


@dataclass
class _Own:
    """A generation that this process writes. begun: the arguments of `begin`, to hand it in again; None where another
    process began it. ended_at: seconds of the monotonic clock."""

    begun: list[Any] | None
    ended_at: float | None = None


class RedisJournal(RedisReading):
    shares: RedisShares
    submissions: RedisSubmissions

    def __init__(self, url: str, home: Path, *, about: Mapping[str, Any] | None = None) -> None:
        """home: the folder for what this process can't write now. about: what other servers may know of this one.

        Raise InvalidRequest for an address that can't be used, StorageError if Redis doesn't answer.
        """
        self.connection = RedisConnection(url)
        self.elsewhere_events = Fanout()
        """Passes on what other servers' songs do, as `Lab.events` does with this process's."""
        self.wanted: Callable[[FamilyEvent, str], bool] = lambda _event, _owner: True
        """Whether anybody here follows an event of another server's song; with its owner. The server sets it."""
        self.followed: set[str] = set()
        """Ids of other servers' songs that somebody follows here, whatever `wanted` says."""
        self.on_lost: Callable[[str], object] = lambda _: None
        """Called with the id of a song that this process makes, and that another server has ended."""
        self._mirror = Mirror()
        self._own: dict[str, _Own] = {}
        self._lost: set[str] = set()
        """Generations that were this process's, until another one took them over."""
        self._passed_on: OrderedDict[str, dict[Family, int]] = OrderedDict()
        self._acting_as: str | None = None
        with ExitStack() as undo:
            undo.callback(self.connection.close)
            for doubt in self.connection.doubts():
                _log.warning("%s", doubt)
            path = home / "shared-journal"
            with storage_errors(home):
                home.mkdir(parents=True, exist_ok=True, mode=0o700)
            liveness = LivenessLock(home / f"{path.name}.processes")
            undo.callback(liveness.close)
            super().__init__(path, liveness)
            self.process = liveness.name
            self.shares = RedisShares(self.connection, self._mirror, self.load, self._listed)
            self.submissions = RedisSubmissions(self.connection)
            self.elsewhere = NowhereElse()
            self.lease = Lease(self.connection, liveness, about or {}, self._returned, self._forget_ended)
            undo.callback(self.lease.stop)
            self.feed = Feed(self.connection, self.process, self._mirror, self._catch_up, self._heard, self._is_wanted)
            undo.callback(self.feed.stop)
            with suppress(StorageError):
                self.prune(KEPT_GENERATIONS)
            undo.pop_all()

    def _insert(
        self,
        state: GenerationState,
        request: SongRequest,
        attempt: Mapping[str, Any] | None,
        submission: Submission | None,
        server: str | None,
        limits: tuple[int, int] | None,
    ) -> None:
        if server is not None:
            raise StorageError("A journal that servers share keeps no songs that are made elsewhere.")
        job = state.kept_job
        fields = ["request", dump(request.to_wire()), *state_fields(state), *submission_fields(submission)]
        if attempt is not None:
            fields += ["attempt", dump(attempt), "attempt_process", self.process]
        out = "" if submission is None or submission.out is None else str(submission.out)
        begun = [job.id, self.process, job.user_id, place_of(job), 0, *(limits or (0, 0)), out]
        begun += [len(fields) // 2, *fields]
        answer = self.connection.call("begin", *begun)
        if answer[0] == "TAKEN":
            raise id_in_use(job.id)
        _check_room(answer)
        with self._lock:
            self._own[job.id] = _Own(begun)
            self._mirror.put(job.id, Copy(answer[1], state, self.process))

    def reopen(self, state: GenerationState, attempt: Mapping[str, Any], limits: tuple[int, int] | None = None) -> None:
        if self.unwritten.events_of(state.id):
            self.unwritten.flush()
        seqs = (state.generation_cursor.seq, state.job_cursor.seq)
        answer = self.connection.call("reopen", state.id, self.process, dump(attempt), *seqs, *(limits or (0, 0)))
        _check_room(answer)
        if answer[0] != "OK":
            raise Refused(
                f"Generation {state.id} cannot be tried again: another server does so, or its last events wait for"
                " Redis.",
                code=ErrorCode.NOT_RECOVERABLE,
            )
        with self._lock:
            self._own[state.id] = _Own(None)
            self._lost.discard(state.id)
        self.load(state.id)

    def begin_attempt(self, generation_id: str, row: Mapping[str, Any]) -> None:
        answer = self.connection.call("attempt", generation_id, self.process, dump(row))
        if answer[0] != "OK":
            raise self._fenced(generation_id)

    def record(self, *events: FamilyEvent) -> None:
        with self._lock:
            if events[0].generation_id in self._lost:  # the feed may have heard of it first
                raise self._fenced(events[0].generation_id)
            super().record(*events)
        for event in events:
            if event.delivery != "lifecycle":
                self.feed.tell(event)

    def _write_now(self, state: GenerationState, events: Sequence[FamilyEvent]) -> None:
        answer = self._append(state, events)
        if answer[0] in ("GONE", "SEQ"):  # Redis has come back without what it had acknowledged
            self._hand_in_again(state.id)
            answer = self._append(state, events)
        if answer[0] == "FENCED":
            self._lose(state.id)
            raise self._fenced(state.id)
        if answer[0] != "OK":
            raise StorageError(f"{self.connection.label} lacks earlier events of generation {state.id}.")
        self._wrote(state, events, answer[1])

    def _append(self, state: GenerationState, events: Sequence[FamilyEvent]) -> list[Any]:
        fields = state_fields(state)
        process = self._acting_as or self.process
        arguments = [state.id, process, state.status, len(fields) // 2, *fields, *event_arguments(events)]
        return self.connection.call("append", *arguments)

    def _wrote(self, state: GenerationState, events: Sequence[FamilyEvent], number: int) -> None:
        """Have the copy here say what Redis has now."""
        with self._lock:
            copy = self._mirror.get(state.id)
            if copy is None or copy.process != self.process:
                self._mirror.drop(state.id)  # loaded when somebody asks
                return
            both = {
                family: [*copy.events.get(family, ()), *(event for event in events if event.family == family)]
                for family in FAMILIES
            }
            self._mirror.put(state.id, Copy(max(number, copy.number), state, self.process, both, copy.shares))
            if (own := self._own.get(state.id)) is not None:
                own.ended_at = time.monotonic() if state.status in ENDED else None

    def _write_late(self, events: Sequence[FamilyEvent]) -> None:
        by_generation = groupby(sorted(events, key=lambda event: event.generation_id), lambda one: one.generation_id)
        for generation_id, group in [(name, list(group)) for name, group in by_generation]:
            with self._lock:
                before = self._copy(generation_id).state
                if before is None and self._acting_as is None:
                    self._hand_in_again(generation_id)
                    before = self._copy(generation_id).state
                if before is None:
                    continue  # it was deleted
                missing = [event for event in group if event.seq > before.cursor(event.family).seq]
                state = before
                for event in missing:
                    state = apply(state, event)
                try:
                    self._write_now(state, missing) if missing else None
                except StorageError as error:
                    if error.code != ErrorCode.INTERRUPTED:
                        raise
                    _log.warning("Late events are dropped. %s", error)
                    continue
            self._settle(self._live.get(generation_id, state), written=True)

    def _hand_in_again(self, generation_id: str) -> None:
        """Write a generation of this process whole, as far as Redis lacks it. Raise StorageError."""
        own, copy = self._own.get(generation_id), self._mirror.get(generation_id)
        if own is None or copy is None or copy.state is None or copy.process != self.process:
            return
        if own.begun is not None:
            self.connection.call("begin", *own.begun[:4], 1, 0, 0, *own.begun[7:])
        events = [event for family in FAMILIES for event in copy.events.get(family, ())]
        if self._append(copy.state, events)[0] == "FENCED":
            self._lose(generation_id)

    def _returned(self) -> None:
        """Hand in what Redis has lost, once it is back after a restart; then what waits. Called by the lease."""
        for generation_id in list(self._own):
            with self._lock:
                self._hand_in_again(generation_id)
        self.feed.read_again()
        self.unwritten.flush()

    def _forget_ended(self, at: float) -> None:
        """Drop what would be handed in again of generations that ended long before `at`, seconds of the monotonic
        clock, at which Redis had lost nothing."""
        before = at - KEPT_AFTER_END_S
        with self._lock:
            over = [name for name, own in self._own.items() if own.ended_at is not None and own.ended_at < before]
            for name in over:
                del self._own[name]

    def _lose(self, generation_id: str) -> None:
        """Another process has this process's generation: stop writing it."""
        self._lost.add(generation_id)
        own = self._own.pop(generation_id, None)
        self._live.pop(generation_id, None)
        self._mirror.drop(generation_id)
        if own is not None and own.ended_at is not None:
            return  # it had ended here, and is tried again elsewhere
        _log.warning(
            "Generation %s was taken over by another server while this one was not to be heard.", generation_id
        )
        threading.Thread(target=self.on_lost, args=(generation_id,), name="harmonia-lost", daemon=True).start()

    def _fenced(self, generation_id: str) -> StorageError:
        return StorageError(
            f"Another server has ended generation {generation_id}.",
            code=ErrorCode.INTERRUPTED,
            hint="This server was not to be heard for longer than its lease. Try the song again.",
        )

    def _keep_at_hand(self, state: GenerationState) -> None:
        del state  # the copy says so already

    def reserved_for(self, generation_id: str, user: str | None, seconds: float) -> str | None:
        """Return the user for whom an id is reserved on all servers. user: reserve it for this one, if it is free."""
        key = f"{PREFIX}reserved:{generation_id}"

        def ask(pipeline: Any) -> None:
            if user is not None:
                pipeline.set(key, user, nx=True, px=round(seconds * 1000))
            pipeline.get(key)

        found: str | None = self.connection.read_together(ask)[-1]
        return found

    def _unfinished_here(self) -> list[tuple[str, str]]:
        found = self.connection.read(lambda client: client.hgetall(f"{PREFIX}unfinished"))
        return sorted(found.items())

    @contextmanager
    def _reap(self, process: str) -> Iterator[Exit | None]:
        if process == self.process:
            yield None
        elif process in self._liveness.known():  # of this home: the lock of its file tells at once
            with self._liveness.reap(process) as exited:
                yield exited
        else:
            yield self.lease.exit_of(process)

    def _take_over(self, process: str, exited: Exit) -> None:
        self._acting_as = process
        try:
            with self._lock:
                super()._take_over(process, exited)
        finally:
            self._acting_as = None

    def _claim(self, generation_id: str, process: str, *, died: bool) -> GenerationState | None:
        certain = process in self._liveness.known()
        answer = self.connection.call(
            "take", generation_id, process, self.process, int(died), 0 if certain else round(self.lease.seconds)
        )
        if answer[0] != "OK":
            return None
        with self._lock:
            self._own[generation_id] = _Own(None)
            self._lost.discard(generation_id)
            try:
                state = self.load(generation_id).state
            except StorageError as damage:
                _log.warning("%s", damage)
                return None
        return None if state is None or state.status in ENDED else state

    def left_elsewhere(self, server: str) -> list[str]:
        del server
        return []

    def forget(self, generation_id: str) -> None:
        with self._lock:
            self.connection.call("delete", 1, generation_id)
            for kept in (self._live, self._own):
                kept.pop(generation_id, None)
            self._lost.discard(generation_id)
            self._mirror.drop(generation_id)

    def unfinished(self) -> list[str]:
        return [generation_id for generation_id, _ in self._unfinished_here()]

    def prune(self, kept: int, before: str | None = None, *, dry_run: bool = False) -> int:
        def ask(pipeline: Any) -> None:
            pipeline.zrange(f"{PREFIX}ended", 0, -kept - 1) if kept else pipeline.zrange(f"{PREFIX}ended", 0, -1)
            pipeline.zrangebylex(f"{PREFIX}ended", "-", f"({before or ''}")

        many, old = self.connection.read_together(ask)
        ids = [place.partition("~")[2] for place in dict.fromkeys([*many, *(old if before else ())])]
        if dry_run:
            return len(ids)
        parts = [ids[first : first + DELETED_AT_ONCE] for first in range(0, len(ids), DELETED_AT_ONCE)]
        return sum(self.connection.call("delete", 0, *part)[1] for part in parts)

    def shrink(self) -> bool:
        return True  # Redis gives back memory by itself

    def _catch_up(self, generation_id: str) -> list[FamilyEvent]:
        """Read what has changed; return the events of other processes that were not passed on yet, in order. Called by
        the feed, in its thread. What is passed on is counted apart from the copy, which others may load meanwhile."""
        copy = self._mirror.get(generation_id)
        answers = self.connection.read_together(lambda pipeline: ask_for_copy(pipeline, generation_id))
        with self._damage(generation_id):
            fresh, events = copy_of(answers)
        with self._lock:
            if fresh.process == self.process and self._mirror.get(generation_id) is not None:
                self._mirror.set_shares(generation_id, fresh.shares)  # all else was written here, perhaps further
                return []
            if generation_id in self._own and fresh.process != self.process:
                self._lose(generation_id)
            if copy is None or copy.process == self.process or not copy.is_ahead_of(fresh):
                self._mirror.put(generation_id, fresh)
        if fresh.process == self.process:
            return []
        passed_on = self._passed_on.setdefault(generation_id, {})
        self._passed_on.move_to_end(generation_id)
        news = [event for event in events if event.seq > passed_on.get(event.family, 0)]
        passed_on |= {event.family: event.seq for event in news}
        if len(self._passed_on) > PASSED_ON:
            self._passed_on.popitem(last=False)
        return sorted(news, key=lambda event: event.emitted_at)

    def _heard(self, event: FamilyEvent) -> None:
        """Pass on an event of another process. Called by the feed."""
        if event.delivery == "progress":
            copy = self._mirror.get(event.generation_id)
            if copy is None or copy.state is None or not copy.state.expects(event):
                return
            state = apply(copy.state, event)
            self._mirror.put(event.generation_id, Copy(copy.number, state, copy.process, copy.events, copy.shares))
        self.elsewhere_events(event)

    def _is_wanted(self, event: FamilyEvent) -> bool:
        if event.generation_id in self.followed:
            return True
        copy = self._mirror.get(event.generation_id)
        return copy is not None and copy.state is not None and self.wanted(event, copy.state.owner)

    def close(self) -> None:
        self.feed.stop()  # before the lock is held, which it may wait for
        super().close()

    def _end(self, unfinished: Sequence[GenerationState]) -> None:
        with suppress(StorageError):
            for state in unfinished:
                self._append(state, [])
        self.lease.stop()
        self.connection.close()


def _check_room(answer: list[Any]) -> None:
    if answer[0] == "FULL":
        _, waiting, own = answer
        raise Refused(
            f"The queue is full: {waiting} songs wait on all servers, {own} of them yours.",
            code=ErrorCode.QUEUE_FULL,
            hint="Try again when one is done.",
        )
