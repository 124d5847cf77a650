"""File descriptors: how many this process may open, and how many of them connections may not take.

Owns the process's soft limit, which starting a server raises, and the reserve for songs, the journal and the log.
"""

from __future__ import annotations

import logging
import sys

__all__ = ["Descriptors"]

RESERVED = 256
"""Descriptors that no connection gets, or a quarter of a limit that is below 1,024."""

WANTED = 65_536
"""The soft limit that is asked for. Each connection takes one descriptor, and so does each download."""

_log = logging.getLogger(__name__)


class Descriptors:
    """limit: descriptors that this process may open; None where the system has no such limit."""

    def __init__(self) -> None:
        """Raise the soft limit up to WANTED, as far as the hard limit allows. Leave a higher one as it is."""
        self.limit = _raised_limit()

    def are_scarce(self, newest: int) -> bool:
        """Return whether a connection that got the descriptor `newest` leaves fewer than the reserve.

        The system gives the lowest number that is free, so this counts whatever else the process has open.
        """
        return self.limit is not None and newest >= self.limit - min(RESERVED, self.limit // 4)


def _raised_limit() -> int | None:
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415 - Windows has none

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:
            _log.info("The limit of open files stays at %d: %s.", soft, error)
        else:
            soft = wanted
    return soft
