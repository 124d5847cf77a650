"""Rate limits: a token bucket for each key. Owns the arithmetic; the caller refuses what exceeds the limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

__all__ = ["TokenBucket"]

PRUNE_AT = 10_000
"""Keys. With more, those whose bucket is full again are forgotten."""


class TokenBucket:
    """Allows each key `rate` calls a second on average, and `burst` at once. Not safe for several threads."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._levels: dict[Hashable, tuple[float, float]] = {}

    def take(self, key: Hashable) -> bool:
        """Take one token of `key`. Return False if it has none left."""
        now = self._clock()
        level, at = self._levels.get(key, (float(self._burst), now))
        level = min(self._burst, level + (now - at) * self._rate)
        allowed = level >= 1
        self._levels[key] = (level - 1 if allowed else level, now)
        if len(self._levels) > PRUNE_AT:
            full_after = self._burst / self._rate
            self._levels = {k: (v, t) for k, (v, t) in self._levels.items() if now - t < full_after}
        return allowed
