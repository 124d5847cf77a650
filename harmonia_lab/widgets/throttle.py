"""How often views are drawn: at once after a pause, then at most `RATE` times a second, however many events come.

Owns one thread for all views of this process, asleep while nothing changes. What is drawn is each view's business.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from typing import Protocol

__all__ = ["HEARTBEAT_S", "RATE", "Pacer", "Painter"]

RATE = 10
"""Drawings a second. A bar that moves ten times a second looks smooth; each costs a message to the browser."""

HEARTBEAT_S = 2.0
"""How often a live view is drawn without news: its memory reading goes on."""

_log = logging.getLogger(__name__)


class Painter(Protocol):
    live: bool
    """Whether it wants the heartbeat."""

    def paint(self) -> None:
        """Draws what is known now."""


class Pacer:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._marked: dict[Painter, None] = {}
        self._known: weakref.WeakSet[Painter] = weakref.WeakSet()
        self._thread: threading.Thread | None = None

    def mark(self, painter: Painter) -> None:
        """It has something new. Never waits for a drawing."""
        with self._changed:
            self._known.add(painter)
            self._marked[painter] = None
            if self._thread is None:
                # A daemon: it must not keep a kernel from ending.
                self._thread = threading.Thread(target=self._work, name="harmonia-panels", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._marked:
                    beats = any(painter.live for painter in self._known)
                    if not self._changed.wait(HEARTBEAT_S if beats else None):
                        self._marked.update(dict.fromkeys(p for p in self._known if p.live))
                marked, self._marked = self._marked, {}
            for painter in marked:
                try:
                    painter.paint()
                except Exception:  # noqa: BLE001 - one broken view must not freeze the others
                    _log.exception("A panel could not be drawn.")
            del marked
            time.sleep(1 / RATE)
