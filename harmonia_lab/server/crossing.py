"""The one crossing from the threads that make songs to the server's event loop.

Owns what is thinned out on the way: progress of one generation goes over once in `interval_s` at most, the latest only.
Lifecycle events go over at once, each of them, in order. Who receives what is `delivery.py`'s.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from harmonia_lab.protocol.events import FamilyEvent

__all__ = ["Crossing"]

Lane = tuple[str, str]


class Crossing:
    """Callable from any thread: `crossing(event)`. `deliver` is called in the loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, deliver: Callable[[FamilyEvent], None], interval_s: float
    ) -> None:
        self._loop, self._deliver, self._interval_s = loop, deliver, interval_s
        self._lock = threading.Lock()
        self._ready: list[FamilyEvent] = []
        self._progress: dict[Lane, FamilyEvent] = {}
        self._crossed_at: dict[Lane, float] = {}
        self._waking = False

    def __call__(self, event: FamilyEvent) -> None:
        lane = (event.generation_id, event.name if event.delivery == "preview" else event.family or "")
        with self._lock:
            if event.delivery == "progress":
                due = self._crossed_at.get(lane, 0.0) + self._interval_s
                self._progress[lane] = event
                if self._waking or len(self._progress) > 1 or time.monotonic() < due:
                    wake = not self._waking and len(self._progress) == 1
                    delay = max(0.0, due - time.monotonic())
                else:
                    wake, delay = True, 0.0
            else:
                held = self._progress.pop(lane, None)
                if held is not None:
                    self._ready.append(held)
                self._ready.append(event)
                wake, delay = not self._waking, 0.0
