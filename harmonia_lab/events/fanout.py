"""One emit, many sinks: hands each event to every subscriber, in order, and keeps one's failure from the others.

Owns the list of subscribers. It does not number, store or drop events.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from harmonia_lab.protocol.events import FamilyEvent

__all__ = ["Fanout"]

Sink = Callable[[FamilyEvent], None]
_log = logging.getLogger(__name__)


class Fanout:
    """Callable: `fanout(event)`. Sinks run in the emitting thread; they must be quick."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sinks: list[Sink] = []

    def subscribe(self, sink: Sink) -> Callable[[], None]:
        """Returns the function that ends the subscription; calling it twice is fine."""
        with self._lock:
            self._sinks = [*self._sinks, sink]

        def unsubscribe() -> None:
            with self._lock:
                self._sinks = [s for s in self._sinks if s is not sink]

        return unsubscribe

    def __call__(self, event: FamilyEvent) -> None:
        for sink in self._sinks:
            try:
                sink(event)
            except Exception:  # noqa: BLE001 - whatever a listener raises is its own business
                # A broken listener must not end a generation, nor go unnoticed.
                _log.exception("A listener failed on %s of generation %s.", event.name, event.generation_id)
