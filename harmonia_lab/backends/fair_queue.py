"""`FairQueue`: users take turns, and each user's own items keep the order in which they came.

Owns that order alone. Threads and jobs are `job_queue.py`'s.
"""

from __future__ import annotations

from collections import deque
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
        """Take out the next item, whose user is then the last to be served again; None if nothing waits."""
        if not self._waiting:
            return None
        # The user who was served longest ago; of users not served yet, the first to come: dicts keep that order.
        user = min(self._waiting, key=lambda user: self._served.get(user, 0))
        self._turn += 1
        self._served[user] = self._turn
        item = self._waiting[user].popleft()
        self._drop_empty(user)
        return item

    def remove(self, item: T) -> None:
        """Take out `item`. Do nothing if it doesn't wait."""
        for user, items in self._waiting.items():
            if item in items:
                items.remove(item)
                self._drop_empty(user)
                return

    def order(self, *extra: tuple[str, T]) -> list[T]:
        """Return all waiting items in the order in which they will be taken, as if `extra` (user, item) waited too."""
        trial = FairQueue[T]()
        trial._waiting = {user: deque(items) for user, items in self._waiting.items()}
        trial._served, trial._turn = dict(self._served), self._turn
        for user, item in extra:
            trial.add(user, item)
        return list(iter(trial.take, None))

    def count(self, user: str | None = None) -> int:
        """Return how many items wait, of one user or in all."""
        return sum(len(items) for name, items in self._waiting.items() if user in (None, name))

    def _drop_empty(self, user: str) -> None:
        if not self._waiting[user]:
            del self._waiting[user]
        if not self._waiting:  # every user has been served; only the one served just now still comes after others
            self._served = {u: turn for u, turn in self._served.items() if turn == self._turn}
