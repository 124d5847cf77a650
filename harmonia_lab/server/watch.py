"""Changes of files and tables that other processes make, noticed while the server runs.

Owns one thread, which looks at each source every POLL_S seconds and tells the event loop. A look is a `stat` or one
small query; the thread is apart from the loop because a disk can hang. What a change means is the caller's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from harmonia_lab.errors import HarmoniaError
from harmonia_lab.waiting import join

__all__ = ["Source", "Watch"]

POLL_S = 0.25
"""Seconds between two looks: what is revoked must have ended within a second."""

STOP_S = 5.0

_log = logging.getLogger(__name__)


class Source(NamedTuple):
    """look: returns a value that differs after a change; runs in the thread. changed: called in the event loop after
    each change."""

    look: Callable[[], Hashable]
    changed: Callable[[], None]


class Watch:
    """`stop()` ends it. What a source shows when the watch is made counts as known."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sources: Sequence[Source]) -> None:
        self._loop, self._sources = loop, sources
        self._known = [self._look(source) for source in sources]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="harmonia-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread. Idempotent."""
        self._stopping.set()
        join(self._thread, STOP_S)

    def _work(self) -> None:
        while not self._stopping.wait(POLL_S):
            for index, source in enumerate(self._sources):
                now = self._look(source)
                if now is not None and now != self._known[index]:
                    self._known[index] = now
                    with contextlib.suppress(RuntimeError):  # the loop has closed
                        self._loop.call_soon_threadsafe(source.changed)

    @staticmethod
    def _look(source: Source) -> Hashable:
        """Return None where the source can't be seen now."""
        try:
            return source.look()
        except (HarmoniaError, OSError) as error:
            _log.debug("A source of changes could not be read: %s", error)
            return None
