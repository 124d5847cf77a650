"""Rate limits: a token bucket for each key.

Owns the arithmetic, and the refusal that says when to try again. The caller says what a token is: a message, a song, or
a piece of the server's work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

from harmonia_lab.errors import ErrorCode, Refused

__all__ = ["BYTES_PER_TOKEN", "TokenBucket", "cost_of", "rate_limited"]

PRUNE_AT = 10_000
"""Keys. With more, those whose bucket is full again are forgotten."""

BYTES_PER_TOKEN = 4096
"""A message, or what answers it, costs one token more for each so many bytes."""


class TokenBucket:
    """Allows each key `rate` tokens a second on average, and `burst` at once. Not safe for several threads."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._levels: dict[Hashable, tuple[float, float]] = {}
        self.spent: dict[Hashable, float] | None = None
        """Tokens taken here since somebody last looked, by key; None if nobody does."""

    def take(self, key: Hashable, tokens: float = 1.0) -> bool:
        """Take tokens of `key`. Return False, and take none, if it has less than one left.

        The level may sink below 0: what turns out to cost more than was left is made up for by waiting.
        """
        level, now = self._level(key)
        allowed = level >= 1
        self._levels[key] = (level - tokens if allowed else level, now)
        if allowed:
            self._count(key, tokens)
        self._prune(now)
        return allowed

    def charge(self, key: Hashable, tokens: float) -> None:
        """Take tokens for what was done already, whether or not there are any."""
        self.charge_elsewhere(key, tokens)
        self._count(key, tokens)

    def charge_elsewhere(self, key: Hashable, tokens: float) -> None:
        """As `charge`, for what another server that shares the limit has done."""
        level, now = self._level(key)
        self._levels[key] = (level - tokens, now)
        self._prune(now)

    def require(self, key: Hashable, what: str, tokens: float = 1.0) -> None:
        """Take tokens of `key`. Raise Refused (RATE_LIMITED) if it has less than one left.

        what: what there are too many of.
        """
        if not self.take(key, tokens):
            raise rate_limited(f"Too many {what} in too short a time.", self.wait_s(key))

    def wait_s(self, key: Hashable) -> float:
        """Return the seconds until `key` has a token."""
        return max(0.0, (1 - self._level(key)[0]) / self._rate)

    def _level(self, key: Hashable) -> tuple[float, float]:
        now = self._clock()
        level, at = self._levels.get(key, (float(self._burst), now))
        return min(self._burst, level + (now - at) * self._rate), now

    def _count(self, key: Hashable, tokens: float) -> None:
        if self.spent is not None:
            self.spent[key] = self.spent.get(key, 0.0) + tokens

    def _prune(self, now: float) -> None:
        if len(self._levels) > PRUNE_AT:
            self._levels = {
                key: (level, at)
                for key, (level, at) in self._levels.items()
                if level + (now - at) * self._rate < self._burst
            }


def cost_of(size: int) -> float:
    """Return the tokens that `size` bytes cost, beside the one of their message."""
    return size / BYTES_PER_TOKEN


def rate_limited(message: str, retry_after_s: float) -> Refused:
    """Return the refusal of what may succeed in `retry_after_s` seconds."""
    return Refused(
        message,
        code=ErrorCode.RATE_LIMITED,
        hint="Wait a moment.",
        details={"retryAfter": max(0.1, round(retry_after_s, 1))},
    )
