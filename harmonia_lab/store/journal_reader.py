"""What the journal's file says of a generation: its request, its events, and the state that they add up to.

Owns that computation, the states of ended generations that are kept in memory, and what a damaged row costs: an error
for its own generation, and for no other. `journal.py` owns writing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from harmonia_lab.errors import HarmoniaError, StorageError
from harmonia_lab.events.state import GenerationState
from harmonia_lab.protocol.counts import GIVEN
from harmonia_lab.protocol.events import FAMILIES, Family, FamilyEvent
from harmonia_lab.protocol.models import ENDED, Job, SongRequest
from harmonia_lab.store.journal_file import JournalFile
from harmonia_lab.store.journal_rows import RowVersion, event_of, job_of, parse_place, stored_state, version_of

__all__ = ["JournalReader"]

AT_HAND = 128
"""Ended generations whose states are kept in memory, each for as long as no process has added an event to it."""

_log = logging.getLogger(__name__)


class JournalReader:
    """Every method may be called from any thread. Each raises StorageError if the file can't be read."""

    def __init__(self, file: JournalFile) -> None:
        self._file = file
        self._at_hand: dict[str, tuple[RowVersion, GenerationState]] = {}

    def state(self, generation_id: str) -> GenerationState | None:
        """Return what the generation's events add up to; None for an unknown id."""
        version = self.version(generation_id)
        kept = self.state_at_hand(generation_id, version)
        if kept is not None:
            return kept
        state = self.read_state(generation_id)
        # Another process may have added an event meanwhile.
        if state is not None and version is not None and version == version_of(state) and state.status in ENDED:
            self.keep_at_hand(state)
        return state

    def version(self, generation_id: str) -> RowVersion | None:
        """Return what changes in the generation's row with each event; None for an unknown id."""
        query = "SELECT status, seq, tick, job_seq, job_tick FROM generations WHERE id = ?"
        rows = self._file.read(query, (generation_id,))
        return RowVersion(*rows[0]) if rows else None

    def state_at_hand(self, generation_id: str, version: RowVersion | None) -> GenerationState | None:
        """Return the state that is in memory, if it is of that version."""
        kept = self._at_hand.get(generation_id)
        return kept[1] if kept is not None and kept[0] == version else None

    def keep_at_hand(self, state: GenerationState) -> None:
        kept = {**self._at_hand, state.id: (version_of(state), state)}
        if len(kept) > AT_HAND:
            del kept[next(iter(kept))]
        self._at_hand = kept  # replaced as a whole, since any thread may read it

    def read_state(self, generation_id: str) -> GenerationState | None:
        """As `state`, from the file alone."""
        query = "SELECT request, job, song, progress, tick, job_tick FROM generations WHERE id = ?"
        rows = self._file.read(query, (generation_id,))
        if not rows:
            return None
        request, job, song, progress, tick, job_tick = rows[0]
        events = [event for family in FAMILIES for event in self.events(generation_id, family)]
        with self.damage_as_storage_error(generation_id):
            return stored_state(request, job, song, progress, tick, job_tick, events)

    def events(self, generation_id: str, family: Family, after_seq: int = 0) -> list[FamilyEvent]:
        """Return the lifecycle events of one family after `after_seq`, in order; [] for an unknown id."""
        rows = self._file.read(
            "SELECT name, payload, song FROM events JOIN generations ON id = generation"
            " WHERE generation = ? AND family = ? AND events.seq > ? ORDER BY events.seq",
            (generation_id, family, after_seq),
        )
        with self.damage_as_storage_error(generation_id):
            return [event_of(name, payload, song) for name, payload, song in rows]

    def request(self, generation_id: str) -> SongRequest:
        """Return the generation's request. Raises KeyError for an unknown id."""
        for (request,) in self._file.read("SELECT request FROM generations WHERE id = ?", (generation_id,)):
            with self.damage_as_storage_error(generation_id):
                return SongRequest.model_validate_json(request, context=GIVEN)
        raise KeyError(generation_id)

    def last_attempt(self, generation_id: str) -> dict[str, Any]:
        """As `Journal.last_attempt`."""
        for (row,) in self._file.read("SELECT row FROM attempts WHERE generation = ?", (generation_id,)):
            with self.damage_as_storage_error(generation_id):
                return dict(json.loads(row))
        return {}

    def jobs(
        self,
        where: str,
        values: tuple[Any, ...],
        limit: int,
        before: str | None,
        live: Callable[[str], GenerationState | None],
    ) -> list[Job]:
        """As `Journal.jobs`, of the rows of `generations` for which `where` holds, which is no input. live: returns the
        state of a generation that is under way."""
        if before is not None:
            where, values = f"{where} AND (created_at, id) < (?, ?)", (*values, *parse_place(before))
        # The inner query reads no long columns, so that the rest of thousands of rows stays on the disk.
        query = (
            "SELECT id, job, song FROM generations WHERE id IN (SELECT id FROM generations"  # noqa: S608 - no input in it
            f" WHERE {where} ORDER BY created_at DESC, id DESC LIMIT ?) ORDER BY created_at DESC, id DESC"
        )
        found = []
        for generation_id, job, song in self._file.read_many(query, (*values, limit)):
            state = live(generation_id)
            try:
                with self.damage_as_storage_error(generation_id):
                    found.append(state.kept_job if state else job_of(job, song))
            except StorageError as error:
                _log.warning("%s", error)
        return found

    @contextmanager
    def damage_as_storage_error(self, generation_id: str) -> Iterator[None]:
        """Turn any error of decoding a generation's rows into a StorageError."""
        try:
            yield
        except (ValueError, LookupError, TypeError, HarmoniaError) as error:
            path = self._file.path
            raise StorageError(
                f"In {path}, the record of generation {generation_id} is damaged ({type(error).__name__}).",
                hint="Other generations are not affected, and neither is the song's folder.",
                details={"path": str(path)},
            ) from error
