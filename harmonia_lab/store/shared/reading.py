"""What a journal in Redis reads: a generation as a copy that is kept, lists of jobs, rows.

Owns the reads, and what a damaged row costs: an error for its own generation, and for no other. `redis_journal.py` owns
the writes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harmonia_lab.errors import HarmoniaError, StorageError
from harmonia_lab.events.state import GenerationState
from harmonia_lab.protocol.counts import GIVEN
from harmonia_lab.protocol.events import Family, FamilyEvent
from harmonia_lab.protocol.models import Job, SongRequest
from harmonia_lab.store.journal_core import JournalCore
from harmonia_lab.store.journal_rows import parse_place
from harmonia_lab.store.shared.connection import PREFIX, RedisConnection
from harmonia_lab.store.shared.mirror import Copy, Mirror
from harmonia_lab.store.shared.rows import ask_for_copy, copy_of, listed_job, row_key

__all__ = ["RedisReading"]

_log = logging.getLogger(__name__)


class RedisReading(JournalCore):
    """The half of `RedisJournal` that reads. What an event loop asks for comes from a copy, if one is kept."""

    connection: RedisConnection
    _mirror: Mirror

    def load(self, generation_id: str) -> Copy:
        """Read a generation, and keep the copy."""
        answers = self.connection.read_together(lambda pipeline: ask_for_copy(pipeline, generation_id))
        with self._damage(generation_id):
            copy, _ = copy_of(answers)
        return self._mirror.put(generation_id, copy)

    def _copy(self, generation_id: str) -> Copy:
        return self._mirror.get(generation_id) or self.load(generation_id)

    def _stored_events(self, generation_id: str, family: Family, after_seq: int) -> list[FamilyEvent]:
        return self._copy(generation_id).after(family, after_seq)

    def _stored_state(self, generation_id: str) -> GenerationState | None:
        return self._copy(generation_id).state

    def _is_stored_at_hand(self, generation_id: str) -> bool:
        return self._mirror.get(generation_id) is not None

    def request(self, generation_id: str) -> SongRequest:
        text = self.connection.read(lambda client: client.hget(row_key(generation_id), "request"))
        if text is None:
            raise KeyError(generation_id)
        with self._damage(generation_id):
            return SongRequest.model_validate_json(text, context=GIVEN)

    def jobs(self, owner: str | None = None, limit: int = 100, before: str | None = None) -> list[Job]:
        return self._listed("jobs" if owner is None else f"jobs:{owner}", limit, before)

    def _listed(self, name: str, limit: int, before: str | None) -> list[Job]:
        """Return the newest jobs of the sorted set `name`, newest first."""
        latest = "+"
        if before is not None:
            parse_place(before)
            latest = f"({before}"
        places = self.connection.read(
            lambda client: client.zrevrangebylex(f"{PREFIX}{name}", latest, "-", start=0, num=limit)
        )
        ids = [place.partition("~")[2] for place in places]

        def ask(pipeline: Any) -> None:
            for generation_id in ids:
                pipeline.hmget(row_key(generation_id), "job", "song")

        found = []
        for generation_id, (job, song) in zip(ids, self.connection.read_together(ask) if ids else (), strict=True):
            live = self._live.get(generation_id)
            try:
                with self._damage(generation_id):
                    found.append(live.kept_job if live is not None else listed_job(job, song)[0])
            except StorageError as error:
                _log.warning("%s", error)
        return found

    def check(self) -> None:
        self.connection.read(lambda client: client.ping())

    def holder(self, generation_id: str) -> tuple[str, str]:
        """Return the process that has a generation, and the one of its last attempt; "" where there is none."""
        found = self.connection.read(lambda client: client.hmget(row_key(generation_id), "process", "attempt_process"))
        return found[0] or "", found[1] or ""

    def last_attempt(self, generation_id: str) -> dict[str, Any]:
        row = self.connection.read(lambda client: client.hget(row_key(generation_id), "attempt"))
        with self._damage(generation_id):
            return {} if row is None else dict(json.loads(row))

    @contextmanager
    def _damage(self, generation_id: str) -> Iterator[None]:
        """Turn any error of decoding a generation's row into a StorageError."""
        try:
            yield
        except StorageError:
            raise
        except (ValueError, LookupError, TypeError, HarmoniaError) as error:
            raise StorageError(
                f"In {self.connection.label}, the record of generation {generation_id} is damaged"
                f" ({type(error).__name__}).",
                hint="Other generations are not affected, and neither is the song's folder.",
            ) from error
