"""A benchmark's progress on standard error: a bar with the time left, or a line now and then where output is piped.

Owns the estimate. A task that was done before is expected to take as long again; the others, as long as the average.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Hashable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

__all__ = ["BenchProgress"]

LINE_S = 15.0
"""Seconds between two lines where there is no terminal."""


class BenchProgress:
    """planned: a key for each task, in order; tasks with equal keys take equally long. Use it as a context."""

    def __init__(self, planned: Sequence[Hashable]) -> None:
        self._planned, self._done = list(planned), 0
        self._seconds: dict[Hashable, float] = {}
        self._said = 0.0
        self._bar: Progress | None = None
        console = Console(stderr=True)
        if console.is_terminal or console.is_jupyter:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"))
            self._bar = Progress(*columns, console=console, transient=True)
            self._row = self._bar.add_task("", total=max(1, len(self._planned)), left="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def run(self, what: str, task: Callable[[], None]) -> None:
        """Run the next planned task. what: it, in words."""
        self._show(what)
        begin = time.perf_counter()
        task()
        if self._done < len(self._planned):
            self._seconds[self._planned[self._done]] = time.perf_counter() - begin
        self._done += 1

    def drop(self, key_of: Callable[[Hashable], bool]) -> None:
        """Take the remaining tasks whose key fits out of the plan."""
        ahead = [key for key in self._planned[self._done :] if not key_of(key)]
        self._planned[self._done :] = ahead

    def left_s(self) -> float:
        """Return the seconds that the remaining tasks are expected to take; 0 before the first one is done."""
        if not self._seconds:
            return 0.0
        average = sum(self._seconds.values()) / len(self._seconds)
        return sum(self._seconds.get(key, average) for key in self._planned[self._done :])

    def _show(self, what: str) -> None:
        left = f"about {self.left_s():.0f} s left" if self._seconds else ""
        if self._bar is not None:
            total = max(1, len(self._planned))
            self._bar.update(self._row, description=what, completed=self._done, total=total, left=left)
        elif self._done == 0 or time.perf_counter() - self._said >= LINE_S:
            self._said = time.perf_counter()
            share = 100 * self._done / max(1, len(self._planned))
            print(f"{share:3.0f} %  {what}{', ' if left else ''}{left}", file=sys.stderr, flush=True)
