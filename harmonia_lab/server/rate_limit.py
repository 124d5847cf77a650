"""How often somebody may: token buckets, one for each name. Owns the arithmetic; what is refused is the caller's."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

__all__ = ["Buckets"]

PRUNE_AT = 10_000
"""Names; above that, those who are back at their full allowance are forgotten."""


class Buckets:
    """`rate` a second on average, `burst` at once, for each name. Not for several threads at once."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._levels: dict[Hashable, tuple[float, float]] = {}

    def take(self, name: Hashable) -> bool:
        """False when `name` has had its share for now."""
        now = self._clock()
        level, at = self._levels.get(name, (float(self._burst), now))
        level = min(self._burst, level + (now - at) * self._rate)
        allowed = level >= 1
        self._levels[name] = (level - 1 if allowed else level, now)
        if len(self._levels) > PRUNE_AT:
            full_after = self._burst / self._rate
            self._levels = {n: (v, t) for n, (v, t) in self._levels.items() if now - t < full_after}
        return allowed
