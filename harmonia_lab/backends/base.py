"""`Backend`: what `Lab` asks of a place where songs are made.

Owns the protocol, and no backend. A new one is a module beside this, and one line where `Lab` makes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harmonia_lab.engines.base import AudioEngine
from harmonia_lab.generation.handle import JobHandle, QueueLimits
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.store.run_log import A_SONG, RunLabels

__all__ = ["LOCAL_USER", "SONGS_AHEAD", "Backend", "JobOptions"]

LOCAL_USER = "local"
"""The owner of songs that this process asks for itself."""
SONGS_AHEAD = 2
"""Songs beyond those that are made at once which have their turn already, where several are made at once: they take
the places of songs whose folders are still on their way home, and songs of equal length end two at a time."""


@dataclass(frozen=True)
class JobOptions:
    """How a song is submitted. audio: another engine than the lab's. out: the song's own folder. user: its owner; users
    take turns. limits: of the queue; None for none. labels: for its rows in the run log. replaces: as `SongFolder` has
    it. The journal keeps them for a retry, also by another process."""

    audio: str | AudioEngine | None = None
    out: Path | str | None = None
    user: str = LOCAL_USER
    limits: QueueLimits | None = None
    labels: RunLabels = A_SONG
    replaces: bool = False


class Backend(Protocol):
    """Where songs are made. Methods may be called from any thread."""

    @property
    def running(self) -> bool:
        """Whether it takes songs."""
        ...

    def owns(self, generation_id: str) -> bool:
        """Whether the generation is being made here, or waits here."""
        ...

    def submit(self, request: SongRequest, options: JobOptions) -> JobHandle:
        """Start a song and return at once.

        Raises InvalidRequest if the generation's id is taken, an engine is unknown or the backend can't take an option,
        Refused (QUEUE_FULL) beyond `limits`, StorageError if the journal can't be written.
        """
        ...

    def retry(self, generation_id: str, options: JobOptions) -> JobHandle:
        """Try a failed generation again, in its own folder and with its own engine. options: of these, only limits, and
        audio, where another engine is to be taken.

        Raises Refused: NOT_FOUND, NOT_RECOVERABLE, QUARANTINED, or QUEUE_FULL beyond `limits`.
        """
        ...

    def cancel(self, generation_id: str) -> bool:
        """As `JobBackend.cancel`, for a generation of any attempt."""
        ...

    def close(self, grace_s: float) -> None:
        """Cancel what was submitted, wait `grace_s` seconds for its end, and take nothing more. Idempotent."""
        ...
