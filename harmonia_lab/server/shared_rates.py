"""Rate limits that hold for several servers together: each tells the others what its clients have spent.

Owns what is told, how often, and by which name. A client that asks two servers at once may spend more than its limit
for SHARED_EVERY_S, since no message of a client waits for Redis. `rate_limit.py` owns the buckets.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from harmonia_lab.server.rate_limit import TokenBucket
from harmonia_lab.store.shared.feed import Feed

__all__ = ["SharedRates"]

SHARED_EVERY_S = 0.25

MOST = 1000
"""Keys that are told at a time: those that have spent most."""


class SharedRates:
    """`start()` in the event loop, `stop()`. buckets: by a name that all servers have for it; their keys are texts."""

    def __init__(self, feed: Feed, buckets: Mapping[str, TokenBucket]) -> None:
        self._feed, self._buckets = feed, buckets
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        for bucket in self._buckets.values():
            bucket.spent = {}
        self._feed.on_spent = self._take
        self._timer = self._loop.call_later(SHARED_EVERY_S, self._tell)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._feed.on_spent = lambda _: None

    def _tell(self) -> None:
        spent: list[tuple[str, str, float]] = []
        for name, bucket in self._buckets.items():
            if bucket.spent:
                spent += [(name, str(key), round(tokens, 3)) for key, tokens in bucket.spent.items()]
                bucket.spent = {}
        if spent:
            spent.sort(key=lambda each: -each[2])
            self._feed.tell_spent(spent[:MOST])
        self._timer = self._loop.call_later(SHARED_EVERY_S, self._tell)

    def _take(self, spent: list[Any]) -> None:
        """Called in the feed's thread."""
        with contextlib.suppress(RuntimeError):  # the loop has closed
            self._loop.call_soon_threadsafe(self._charge, spent)

    def _charge(self, spent: list[Any]) -> None:
        for name, key, tokens in spent:
            if (bucket := self._buckets.get(name)) is not None:
                bucket.charge_elsewhere(key, tokens)
