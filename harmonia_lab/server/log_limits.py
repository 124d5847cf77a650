"""What the libraries under the server may write to the log: one line of each kind in a minute, and no client's text.

Owns the loggers that those libraries get. Their own messages quote what a client sent: a narrative, the head of an
Authorization header, a session's id; and anybody can cause them, as often as they like.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any

__all__ = ["EVERY_S", "OncePerMinute", "handle_loop_error", "library_log"]

EVERY_S = 60.0
MAX_KINDS = 1000

_log = logging.getLogger(__name__)


class OncePerMinute:
    """`due(kind)`: None, or how many of that kind were left out since the last one that was written."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._written: dict[Hashable, float] = {}
        self._left_out: dict[Hashable, int] = {}

    def due(self, kind: Hashable) -> int | None:
        now = self._clock()
        with self._lock:
            if now - self._written.get(kind, -EVERY_S) < EVERY_S:
                self._left_out[kind] = self._left_out.get(kind, 0) + 1
                return None
            if len(self._written) >= MAX_KINDS:
                self._written.clear()
            self._written[kind] = now
            return self._left_out.pop(kind, 0)


class _LibraryFilter(logging.Filter):
    """Replaces a library's message by where it came from, without arguments and traceback."""

    def __init__(self, library: str) -> None:
        super().__init__()
        self._library, self._limit = library, OncePerMinute()

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[0] if record.exc_info else None
        if error is asyncio.CancelledError:
            return False  # the client has left
        kind = (record.funcName, record.lineno, error)
        left_out = self._limit.due(kind) if record.levelno >= logging.WARNING else None
        if left_out is None:
            return False
        what = "refused what a client sent" if error is None else f"could not use what a client sent ({error.__name__})"
        record.msg = f"{self._library} {what}, in {record.funcName}{_more(left_out)}."
        record.args, record.exc_info, record.exc_text = (), None, None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


def library_log(library: str) -> logging.Logger:
    """Return the logger for a library. library: its name, such as "aiohttp"."""
    log = logging.getLogger(f"harmonia_lab.server.{library}")
    log.setLevel(logging.WARNING)
    if not any(isinstance(one, _LibraryFilter) for one in log.filters):
        log.addFilter(_LibraryFilter(library))
    return log


_failed_connections = OncePerMinute()


def handle_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error that the event loop reports. One of a connection is a client's; any other is a defect of ours."""
    if "transport" not in context and "protocol" not in context:
        loop.default_exception_handler(context)
        return
    kind = type(context.get("exception")).__name__
    left_out = _failed_connections.due(kind)
    if left_out is not None:
        _log.warning("A connection failed (%s)%s.", kind, _more(left_out))


def _more(left_out: int) -> str:
    return f"; {left_out} more of this kind were not written" if left_out else ""
