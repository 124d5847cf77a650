"""What a server needs of a lab, and which models its clients may name.

Owns the protocol alone: `lab.Lab` is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from harmonia_lab.engines.base import AudioEngine, MetadataEngine
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.events.fanout import Fanout
from harmonia_lab.generation.handle import QueueLimits
from harmonia_lab.listening.home import ListeningHome
from harmonia_lab.metadata_engines.ollama.names import canonical_name
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.store.journal_core import JournalCore
from harmonia_lab.store.metrics import Metrics
from harmonia_lab.store.run_log import RunLog
from harmonia_lab.store.sounds import Sounds

if TYPE_CHECKING:
    from harmonia_lab.store.shared.redis_journal import RedisJournal

__all__ = ["ServedLab", "check_models"]


class ServedLab(Protocol):
    """The part of `Lab` that a server uses. Methods may block, and any thread may call them."""

    events: Fanout
    metrics: Metrics
    sounds: Sounds

    @property
    def listening(self) -> ListeningHome: ...

    @property
    def log(self) -> RunLog: ...

    @property
    def journal(self) -> JournalCore: ...

    @property
    def shared(self) -> RedisJournal | None:
        """The journal, where several servers share it."""
        ...

    @property
    def metadata_engine(self) -> MetadataEngine: ...

    @property
    def audio_engine(self) -> AudioEngine: ...

    def language_models(self, timeout_s: float) -> Sequence[str]:
        """Return the names of the models of stage 1's server. Raise MetadataError if it doesn't answer in time."""
        ...

    def engines_for(self, request: SongRequest) -> dict[str, Any]:
        """Return what a request would be made with, by stage. Raise MetadataError where that isn't there."""
        ...

    def offers(self) -> tuple[str, str]:
        """Return the names of the language model and of the audio model that make the songs."""
        ...

    def with_sounds(self, request: SongRequest, user: str) -> SongRequest:
        """Return the request with the files of the user's sounds in place of their ids. Raise Refused (NOT_FOUND) for
        what is no id of these: a client's request names no file."""
        ...

    def submit_request(self, request: SongRequest, *, user: str, limits: QueueLimits | None) -> Any: ...

    def cancel(self, generation_id: str) -> None: ...

    def retry(self, generation_id: str, *, limits: QueueLimits | None) -> Any: ...


def check_models(lab: ServedLab, request: SongRequest) -> None:
    """Raise InvalidRequest for a model that the lab doesn't use. A client's name is never a path or a download."""
    model, audio_model = lab.offers()
    wanted = canonical_name(request.model or "")
    if wanted and wanted != model:
        raise InvalidRequest(
            "This server does not offer that model.",
            hint=f"Leave out model, or send {model}.",
            details={"fields": ["model"]},
        )
    if request.audio_model and request.audio_model != audio_model:
        raise InvalidRequest(
            "This server does not offer that audio model.",
            hint=f"Leave out audioModel, or send {audio_model}.",
            details={"fields": ["audioModel"]},
        )
