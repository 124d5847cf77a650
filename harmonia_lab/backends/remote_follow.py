"""`FollowedSong`: one song that a server makes, and the order in which its events are handed on here.

Owns that order. Events come in the order of each family; the two families may be apart after a cut. An event that ends
the generation waits until the song is at home, and the job's end comes after the generation's: so a crash leaves the
journal with a song that has not ended, which the next process follows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harmonia_lab.errors import HarmoniaError
from harmonia_lab.generation.artifacts import SongFolder
from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.protocol.events import (
    FamilyEvent,
    JobCompletedEvent,
    JobStatusEvent,
    MetadataGenerationStarted,
    linked,
)
from harmonia_lab.store.run_log import RunLabels
from harmonia_lab.store.submissions import Submission

__all__ = ["FollowedSong"]


class FollowedSong:
    """Methods may be called from any thread. song: its file, once it is at home. error: why it didn't come home."""

    def __init__(
        self,
        handle: JobHandle,
        submission: Submission,
        folder: SongFolder,
        labels: RunLabels,
        *,
        owner: str,
        hand_on: Callable[[FollowedSong, FamilyEvent], None],
        bring_home: Callable[[FollowedSong, FamilyEvent], None],
    ) -> None:
        """owner: the song's user here; the server has another name for the same. hand_on: gets each event, in order.
        bring_home: called with the event that ends the generation, before that is handed on; `at_home` goes on."""
        self.id, self.handle, self.owner = handle.id, handle, owner
        self.submission, self.folder, self.labels = submission, folder, labels
        self.song: Path | None = None
        self.error: HarmoniaError | None = None
        self._hand_on, self._bring_home = hand_on, bring_home
        self._lock = threading.RLock()
        self._waiting: list[FamilyEvent] = []
        self._away = self._home = False
        """Whether the song is on its way home; whether it is there."""

    def take(self, event: FamilyEvent) -> None:
        """Take an event from the server."""
        with self._lock:
            self._waiting.append(event)
            self._go_on()

    def at_home(self) -> None:
        """Hand on what has waited for the song to come home."""
        with self._lock:
            self._away, self._home = False, True
            self._go_on()

    def again(self, handle: JobHandle) -> JobHandle:
        """Bring the song home once more, where that failed. handle: in place of the one that was told so."""
        with self._lock:
            self.handle, self._away = handle, False
            self._go_on()
        return handle

    def _go_on(self) -> None:
        while not self._away and (event := self._next()) is not None:
            if event.delivery == "preview":
                self._hand_on(self, event)
            elif not self.handle.state.expects(event):
                continue
            elif event.family == "generation" and event.ends and not self._home:
                self._waiting.insert(0, event)
                self._away = True
                self._bring_home(self, event)
            else:
                self._home = self._home and event.family == "job"  # another attempt comes home again
                self._hand_on(self, self._own(event))

    def _next(self) -> FamilyEvent | None:
        """Take the first event that may be handed on now out of those that wait."""
        job_waits = False
        for index, event in enumerate(self._waiting):
            if event.family == "job" and (job_waits := job_waits or self._is_early(event)):
                continue
            return self._waiting.pop(index)
        return None

    def _is_early(self, event: FamilyEvent) -> bool:
        """Return whether a job's end is not its generation's yet."""
        state = self.handle.state
        if isinstance(event, JobCompletedEvent):
            return state.song is None
        return event.delivery == "lifecycle" and event.ends and not state.generation_cursor.ended

    def _own(self, event: FamilyEvent) -> FamilyEvent:
        """Return the event as this lab's: with its own name for the user, and the song's file for the server's link."""
        changes: dict[str, Any] = {}
        if isinstance(event, JobStatusEvent | JobCompletedEvent) and event.job is not None:
            changes["job"] = event.job.model_copy(update={"user_id": self.owner})
        elif isinstance(event, MetadataGenerationStarted):
            changes["user_id"] = self.owner
        own = event.model_copy(update=changes) if changes else event
        return linked(own, "" if self.song is None else self.song.as_uri())
