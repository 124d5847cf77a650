"""Whose turn it is: users take turns, and each one's own jobs go in the order they came.

Owns that order alone. Threads, limits and what a job is are `handle.py`'s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

__all__ = ["Turns"]

T = TypeVar("T")


class Turns(Generic[T]):
    """What waits. Not for several threads at once."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[T]] = {}
        self._served: dict[str, int] = {}
        self._turn = 0

    def add(self, user: str, item: T) -> None:
        self._waiting.setdefault(user, deque()).append(item)

    def take(self) -> T | None:
        """The next one, whose user is now the last in the row; None where nothing waits."""
        user = self._next(self._waiting, self._served)
        if user is None:
            return None
        self._turn += 1
        self._served[user] = self._turn
        item = self._waiting[user].popleft()
        self._tidy(user)
        return item

    def remove(self, item: T) -> None:
        """Fine where it does not wait."""
        for user, items in self._waiting.items():
            if item in items:
                items.remove(item)
                self._tidy(user)
                return

    def order(self, *extra: tuple[str, T]) -> list[T]:
        """All that waits, and `extra` (user, item) as if it did, in the order in which they will be taken."""
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
        """How many wait, of one user or in all."""
        found: Iterable[deque[T]] = self._waiting.values() if user is None else (self._waiting.get(user, deque()),)
        return sum(map(len, found))

    def _next(self, waiting: dict[str, deque[T]], served: dict[str, int]) -> str | None:
        """Who waited longest since his last turn; among those who had none, who came first (dicts keep that order)."""
        return min((user for user, items in waiting.items() if items), key=lambda u: served.get(u, 0), default=None)

    def _tidy(self, user: str) -> None:
        if not self._waiting[user]:
            del self._waiting[user]
        if not self._waiting:  # nobody is behind any more, save who has just had a turn
            self._served = {u: turn for u, turn in self._served.items() if turn == self._turn}
