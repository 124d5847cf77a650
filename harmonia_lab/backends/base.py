"""What a backend is to `Lab`: the protocol, and the refusal of options that a backend can't take.

Owns no backend. A new one is a module beside this, and one line where `Lab` makes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from harmonia_lab.engines.base import AudioEngine
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.generation.handle import JobBackend, JobHandle, QueueLimits
from harmonia_lab.protocol.models import SongRequest

__all__ = ["LOCAL_USER", "Backend", "check_options"]

LOCAL_USER = "local"
"""The owner of songs that this process asks for itself."""


class Backend(JobBackend, Protocol):
    """Where songs are made. Methods may be called from any thread.

    `cancel`, `abandon` and `outcome` are `JobBackend`'s.
    """

    @property
    def running(self) -> bool:
        """Whether it takes songs."""
        ...

    def can(self, option: str) -> bool:
        """Whether songs can be given this option: "audio", "out", "user" or "limits"."""
        ...

    def owns(self, generation_id: str) -> bool:
        """Whether the generation is being made here, or waits here."""
        ...

    def submit(
        self,
        request: SongRequest,
        *,
        audio: str | AudioEngine | None = None,
        out: Path | str | None = None,
        user: str = LOCAL_USER,
        limits: QueueLimits | None = None,
    ) -> JobHandle:
        """Start a song and return at once. audio: another engine than the lab's. out: the song's own folder.

        Raises InvalidRequest where the generation's id is taken or an engine is unknown, Refused (QUEUE_FULL) beyond
        `limits`, StorageError where the journal can't be written.
        """
        ...

    def retry(
        self,
        generation_id: str,
        *,
        audio: str | AudioEngine | None = None,
        out: Path | str | None = None,
        limits: QueueLimits | None = None,
    ) -> JobHandle:
        """Try a failed generation again. audio, out: as when it was submitted.

        Raises Refused: NOT_FOUND, NOT_RECOVERABLE, or QUEUE_FULL beyond `limits`.
        """
        ...

    def close(self, grace_s: float) -> None:
        """Cancel what was submitted, wait `grace_s` seconds for its end, and take nothing more. Idempotent."""
        ...


def check_options(backend: Backend, options: dict[str, Any]) -> None:
    """Raise InvalidRequest if `backend` can't take one of `options`. An option that is None was not given."""
    refused = sorted(name for name, value in options.items() if value is not None and not backend.can(name))
    if refused:
        raise InvalidRequest(
            f"An isolated server can't take {', '.join(f'{name}=' for name in refused)} for one song.",
            hint="Leave it out, or stop the server (lab.server.stop()) and make the song in the kernel.",
            details={"fields": refused},
        )
