"""A generation that another process works at, as its events tell it: what a `JobHandle` in the kernel is of.

Owns what the events add up to: status, song or error. Each event counts once, whether it comes live, replayed, or from
the journal after the other process has died.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harmonia_lab.errors import Cancelled, ErrorCode, HarmoniaError, Refused, error_of
from harmonia_lab.generation.generation import Status
from harmonia_lab.generation.song_loading import read_song
from harmonia_lab.protocol.events import (
    Family,
    FamilyEvent,
    GenerationCancelled,
    GenerationError,
    GenerationTimeout,
    JobStatusEvent,
)
from harmonia_lab.protocol.models import Song

__all__ = ["RemoteGeneration"]


class RemoteGeneration:
    """`take` is called by one thread, the rest by any."""

    def __init__(self, generation_id: str, stop: Callable[[str], object], had: dict[Family, int] | None = None) -> None:
        """stop: asks the other process to cancel it. had: the last lifecycle events of earlier attempts, by family."""
        self.id = generation_id
        self.status: Status = "pending"
        self.expected_s = 0.0
        self.over = False
        """Whether nothing follows in either family."""
        self._stop = stop
        self._had: dict[Family, int] = had or {"generation": 0, "job": 0}
        self._cancelling = False
        self._open: set[Family] = {"generation", "job"}
        self._finished: tuple[Path, float] | None = None
        self._error: HarmoniaError = HarmoniaError(
            "The process that was making this song ended before it was done.",
            code=ErrorCode.INTERRUPTED,
            hint="Try again: finished work is kept.",
        )

    def take(self, event: FamilyEvent) -> bool:
        """Whether it is news."""
        assert event.family is not None
        had = self._had[event.family]
        if event.seq < had or (event.seq == had and event.delivery == "lifecycle"):
            return False
        if event.delivery == "lifecycle":
            self._had[event.family] = event.seq
        if isinstance(event, JobStatusEvent):
            self.status = event.status
            self.expected_s = event.eta_seconds or 0.0
        elif isinstance(event, GenerationError) and event.final:
            self._error = error_of(event.error.code, event.error.message, details=event.error.details)
        elif isinstance(event, GenerationTimeout):
            self._error = _timeout(event)
        elif isinstance(event, GenerationCancelled) and event.reason != "timeout":
            self._error = Cancelled()
        if event.ends:
            self._open.discard(event.family)  # after a cut, one family may have caught up before the other
            self.over = not self._open
        return True

    def finish(self, song: Path, duration: float) -> None:
        """song: the file. duration: seconds of audio."""
        self._finished = (song, duration)

    def lose(self) -> None:
        """The other process has died, and nobody tells how this ended."""
        self.status, self.over = "failed", True

    def run(self) -> Song:
        """The outcome, once it is over."""
        if self._finished is None:
            raise self._error
        song, duration = self._finished
        return read_song(song.parent, duration=duration)

    def cancel(self) -> bool:
        """Raises Disconnected where the other process can't be reached."""
        if self.over or self._cancelling:
            return False
        self._cancelling = True
        try:
            self._stop(self.id)
        except Refused:  # it has ended meanwhile
            return False
        except BaseException:
            self._cancelling = False
            raise
        return True

    def abandon(self) -> bool:
        """How it ends is decided over there."""
        return False


def _timeout(event: GenerationTimeout) -> HarmoniaError:
    code = ErrorCode.OLLAMA_TIMEOUT if event.stage == "metadata" else ErrorCode.AUDIO_TIMEOUT
    return error_of(code, f"Stage {event.stage} took longer than its limit of {event.timeout_after:g} s.")
