"""`FairQueue`: users take turns, and each user's own items keep the order in which they came.

Owns that order alone. Threads and jobs are `job_queue.py`'s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

__all__ = ["FairQueue"]

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Items that wait, by user. Not for several threads at once."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[T]] = {}
        self._served: dict[str, int] = {}
        self._turn = 0

    def add(self, user: str, item: T) -> None:
        self._waiting.setdefault(user, deque()).append(item)

    def take(self) -> T | None:
        """Take out the next item, whose user is then the last to be served again; None where nothing waits."""
        user = self._next(self._waiting, self._served)
        if user is None:
            return None
        self._turn += 1
        self._served[user] = self._turn
        item = self._waiting[user].popleft()
        self._drop_empty(user)
        return item

    def remove(self, item: T) -> None:
        """Take out `item`. Fine for an item that doesn't wait."""
        for user, items in self._waiting.items():
            if item in items:
                items.remove(item)
                self._drop_empty(user)
                return

    def order(self, *extra: tuple[str, T]) -> list[T]:
        """Return all waiting items, and `extra` (user, item) among them, in the order in which they will be taken."""
        waiting = {user: deque(items) for user, items in self._waiting.items()}
        for user, item in extra:
            waiting.setdefault(user, deque()).append(item)
        served, turn, found = dict(self._served), self._turn, []
        while (following := self._next(waiting, served)) is not None:
            turn += 1
            served[following] = turn
            found.append(waiting[following].popleft())
        return found

    def count(self, user: str | None = None) -> int:
        """Return how many items wait, of one user or in all."""
        found: Iterable[deque[T]] = self._waiting.values() if user is None else (self._waiting.get(user, deque()),)
        return sum(map(len, found))

    def _next(self, waiting: dict[str, deque[T]], served: dict[str, int]) -> str | None:
        """Return the user served longest ago; of users not served yet, the first to come (dicts keep that order)."""
        return min((user for user, items in waiting.items() if items), key=lambda u: served.get(u, 0), default=None)

    def _drop_empty(self, user: str) -> None:
        if not self._waiting[user]:
            del self._waiting[user]
        if not self._waiting:  # every user has been served; only the one served just now still comes after others
            self._served = {u: turn for u, turn in self._served.items() if turn == self._turn}
