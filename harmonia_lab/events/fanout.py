"""`Fanout`: hands each event, or each new state, to every subscriber; the failure of one does not reach the others.

Owns the list of subscribers. It does not number, store or drop events.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Fanout"]

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Fanout(Generic[T]):
    """Callable: `fanout(value)`. Subscribers run in the calling thread; they must be quick."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: list[Callable[[T], object]] = []

    def subscribe(self, listener: Callable[[T], object]) -> Callable[[], None]:
        """Return the function that ends the subscription, which may be called twice."""
        with self._lock:
            self._listeners = [*self._listeners, listener]

        def unsubscribe() -> None:
            with self._lock:
                self._listeners = [each for each in self._listeners if each is not listener]

        return unsubscribe

    def __call__(self, value: T) -> None:
        for listener in self._listeners:
            try:
                listener(value)
            except Exception:  # noqa: BLE001 - a listener that fails must not end a generation or a connection
                _log.exception("A listener failed on a %s.", type(value).__name__)
