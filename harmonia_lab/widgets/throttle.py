"""How often views are drawn: at once after a pause, then at most `RATE` times a second, however many events arrive.

Owns one thread that draws all views of this process, and waits while nothing changes. Each view decides what it draws.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Iterable
from typing import Protocol

__all__ = ["HEARTBEAT_S", "RATE", "THROTTLE", "Throttle", "ThrottledView"]

RATE = 5
"""Drawings a second. Each costs a message to the browser, and the browser a layout of the page."""

HEARTBEAT_S = 2.0
"""Seconds between drawings of a live view that no event changes: its memory reading is kept up to date."""

_log = logging.getLogger(__name__)


class ThrottledView(Protocol):
    live: bool
    """Whether the view is drawn every `HEARTBEAT_S` seconds too."""

    def paint(self) -> None:
        """Draw the present state."""


class Throttle:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._marked: dict[ThrottledView, None] = {}
        self._known: weakref.WeakSet[ThrottledView] = weakref.WeakSet()
        self._thread: threading.Thread | None = None

    def mark(self, view: ThrottledView) -> None:
        """Have `view` drawn soon. Never waits for a drawing."""
        with self._changed:
            self._known.add(view)
            self._marked[view] = None
            if self._thread is None:
                # A daemon: it must not keep a kernel from ending.
                self._thread = threading.Thread(target=self._work, name="harmonia-panels", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._marked:
                    beats = any(view.live for view in self._known)
                    if not self._changed.wait(HEARTBEAT_S if beats else None):
                        self._marked.update(dict.fromkeys(view for view in self._known if view.live))
                marked, self._marked = self._marked, {}
            _paint(marked)
            del marked  # or this thread would keep a view that nobody else refers to
            time.sleep(1 / RATE)


def _paint(views: Iterable[ThrottledView]) -> None:
    for view in views:
        try:
            view.paint()
        except Exception:  # noqa: BLE001 - one broken view must not freeze the others
            _log.exception("A panel could not be drawn.")


THROTTLE = Throttle()
"""Draws all views of this process."""
