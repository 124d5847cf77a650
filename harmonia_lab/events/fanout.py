"""`Fanout`: passes each event to every subscriber, in their order; one subscriber's failure stops no other.

Owns the list of subscribers. It does not number, store or drop events.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from harmonia_lab.protocol.events import FamilyEvent

__all__ = ["Fanout"]

_log = logging.getLogger(__name__)


class Fanout:
    """Callable: `fanout(event)`. Subscribers run in the calling thread; they must be quick."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: list[Callable[[FamilyEvent], object]] = []

    def subscribe(self, listener: Callable[[FamilyEvent], object]) -> Callable[[], None]:
        """Return the function that ends the subscription, which may be called twice."""
        with self._lock:
            self._listeners = [*self._listeners, listener]

        def unsubscribe() -> None:
            with self._lock:
                self._listeners = [each for each in self._listeners if each is not listener]

        return unsubscribe

    def __call__(self, event: FamilyEvent) -> None:
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:  # noqa: BLE001 - a listener that fails must not end the generation
                _log.exception("A listener failed on %s of generation %s.", event.name, event.generation_id)
