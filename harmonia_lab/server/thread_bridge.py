"""Events passed from the threads that generate songs to the server's event loop.

Owns the throttling: progress of one channel is passed at most once in `interval_s`, and only the latest. Lifecycle
events and previews are passed at once, each of them, in order. `delivery.py` decides which sockets get them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable

from harmonia_lab.log_context import GENERATION
from harmonia_lab.protocol.events import Channel, FamilyEvent

__all__ = ["ThreadBridge"]

_log = logging.getLogger(__name__)


class ThreadBridge:
    """Callable from any thread: `bridge(event)`. It calls `deliver` in the loop, with one event at a time, and with the
    time at which the event came, in seconds of the monotonic clock."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, deliver: Callable[[FamilyEvent, float], None], interval_s: float
    ) -> None:
        self._loop, self._deliver, self._interval_s = loop, deliver, interval_s
        self._lock = threading.Lock()
        self._ready: list[tuple[FamilyEvent, float]] = []
        self._progress: dict[Channel, tuple[FamilyEvent, float]] = {}
        self._delivered_at: dict[Channel, float] = {}
        self._scheduled = self._timer_set = False
        self.replaced = 0
        """Progress events that a newer one took the place of."""

    def __call__(self, event: FamilyEvent) -> None:
        channel, now = event.channel, time.monotonic()
        with self._lock:
            if event.delivery == "progress":
                self.replaced += channel in self._progress
                self._progress[channel] = event, now
                wake = not self._scheduled and not (self._timer_set and now < self._due(channel))
            else:
                if event.delivery == "lifecycle":
                    self._delivered_at.pop(channel, None)
                    held = self._progress.pop(channel, None)
                    self._ready += [held] if held is not None else []
                self._ready.append((event, now))
                wake = not self._scheduled
            self._scheduled = self._scheduled or wake
        if wake:
            with contextlib.suppress(RuntimeError):  # the loop has closed; the journal has the lifecycle events
                self._loop.call_soon_threadsafe(self._deliver_ready)

    def _due(self, channel: Channel) -> float:
        return self._delivered_at.get(channel, 0.0) + self._interval_s

    def _deliver_ready(self, *, by_timer: bool = False) -> None:
        now = time.monotonic()
        with self._lock:
            self._scheduled = False
            self._timer_set = self._timer_set and not by_timer
            ready, self._ready = self._ready, []
            for channel in [channel for channel in self._progress if self._due(channel) <= now]:
                ready.append(self._progress.pop(channel))
                self._delivered_at[channel] = now
            if self._progress and not self._timer_set:
                self._timer_set = True
                delay_s = min(map(self._due, self._progress)) - now
                self._loop.call_later(delay_s, functools.partial(self._deliver_ready, by_timer=True))
        for event, at in ready:
            token = GENERATION.set(event.generation_id)  # `about`, without the generator
            try:
                self._deliver(event, at)
            except Exception:  # noqa: BLE001 - a defect in sending one event must not keep the others back
                _log.exception("%s of generation %s could not be sent.", event.name, event.generation_id)
            finally:
                GENERATION.reset(token)
