"""The one crossing from the threads that make songs to the server's event loop.

Owns what is thinned out on the way: progress of one generation goes over once in `interval_s` at most, the latest only.
Lifecycle events go over at once, each of them, in order. Who receives what is `delivery.py`'s.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable

from harmonia_lab.protocol.events import FamilyEvent

__all__ = ["Crossing"]

Lane = tuple[str, str]
"""generation id, family: what has its own progress."""

_log = logging.getLogger(__name__)


class Crossing:
    """Callable from any thread: `crossing(event)`. `deliver` is called in the loop, one event at a time."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, deliver: Callable[[FamilyEvent], None], interval_s: float
    ) -> None:
        self._loop, self._deliver, self._interval_s = loop, deliver, interval_s
        self._lock = threading.Lock()
        self._ready: list[FamilyEvent] = []
        self._progress: dict[Lane, FamilyEvent] = {}
        self._crossed_at: dict[Lane, float] = {}
        self._woken = self._timer = False

    def __call__(self, event: FamilyEvent) -> None:
        lane = (event.generation_id, event.family or "")
        with self._lock:
            if event.delivery == "progress":
                self._progress[lane] = event
                wake = not self._woken and not (self._timer and time.monotonic() < self._due(lane))
            else:
                if event.delivery == "lifecycle":
                    self._crossed_at.pop(lane, None)
                    held = self._progress.pop(lane, None)
                    self._ready += [held] if held is not None else []
                self._ready.append(event)
                wake = not self._woken
            self._woken = self._woken or wake
        if wake:
            try:
                self._loop.call_soon_threadsafe(self._cross)
            except RuntimeError:
                return  # the server has stopped since; the journal keeps what matters

    def _due(self, lane: Lane) -> float:
        return self._crossed_at.get(lane, 0.0) + self._interval_s

    def _cross(self) -> None:
        now = time.monotonic()
        with self._lock:
            self._woken = False
            crossing, self._ready = self._ready, []
            for lane in [lane for lane in self._progress if self._due(lane) <= now]:
                crossing.append(self._progress.pop(lane))
                self._crossed_at[lane] = now
            if self._progress and not self._timer:
                self._timer = True
                self._loop.call_later(min(map(self._due, self._progress)) - now, self._on_timer)
        for event in crossing:
            try:
                self._deliver(event)
            except Exception:  # noqa: BLE001 - one event's defect must not keep the others from crossing
                _log.exception("%s of generation %s could not be sent.", event.name, event.generation_id)

    def _on_timer(self) -> None:
        with self._lock:
            self._timer = False
        self._cross()
