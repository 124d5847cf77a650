"""The fan-out: passes each event to every listener, in order of subscription; one listener's error stops no other.

Owns the list of listeners. It does not number, store or drop events.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from harmonia_lab.protocol.events import FamilyEvent

__all__ = ["Fanout"]

Listener = Callable[[FamilyEvent], None]
_log = logging.getLogger(__name__)


class Fanout:
    """`fanout(event)` calls the listeners in the emitting thread, so they must be quick."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every event from now on. Return the function that ends this, which is idempotent."""
        with self._lock:
            self._listeners = [*self._listeners, listener]

        def unsubscribe() -> None:
            with self._lock:
                self._listeners = [other for other in self._listeners if other is not listener]

        return unsubscribe

    def __call__(self, event: FamilyEvent) -> None:
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:  # noqa: BLE001 - a defect of a listener must not end the generation
                _log.exception("A listener failed on %s of generation %s.", event.name, event.generation_id)
