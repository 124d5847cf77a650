"""What a server needs of a lab."""

from __future__ import annotations

from typing import Any, Protocol

from harmonia_lab.events.fanout import Fanout
from harmonia_lab.generation.handle import QueueLimits
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.store.journal import Journal
from harmonia_lab.store.metrics import Metrics

__all__ = ["ServedLab"]


class ServedLab(Protocol):
    """The part of `Lab` that a server uses. Methods may block, and any thread may call them."""

    events: Fanout
    metrics: Metrics

    @property
    def journal(self) -> Journal: ...

    def offers(self) -> tuple[str, str]:
        """Return the names of the language model and of the audio model that make the songs."""
        ...

    def submit_request(self, request: SongRequest, *, user: str, limits: QueueLimits | None) -> Any: ...

    def cancel(self, generation_id: str) -> None: ...

    def retry(self, generation_id: str, *, limits: QueueLimits | None) -> Any: ...
