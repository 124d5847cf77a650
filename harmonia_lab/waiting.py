"""Waits that an interrupt (Ctrl-C, or the stop button of a notebook) ends within `POLL_S` seconds, on every platform.

Owns the polling, nothing else.
"""

from __future__ import annotations

import threading
import time

__all__ = ["POLL_S", "join", "wait_for"]

POLL_S = 0.05
"""Seconds between two checks, at most."""


def wait_for(event: threading.Event, timeout_s: float | None = None) -> bool:
    """Wait until `event` is set, or for `timeout_s` seconds; return whether it is set. None: no limit."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    # On Windows nothing interrupts one long `Event.wait`, hence the short ones.
    while not event.wait(POLL_S if deadline is None else max(0.0, min(POLL_S, deadline - time.monotonic()))):
        if deadline is not None and time.monotonic() >= deadline:
            return event.is_set()
    return True


def join(thread: threading.Thread, timeout_s: float | None = None) -> bool:
    """Wait until `thread` has ended, or for `timeout_s` seconds; return whether it has ended. None: no limit."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    pause_s = 0.001
    # Not `Thread.join`: an interrupt in it makes `is_alive()` False on Python 3.11 while the thread still runs.
    while thread.is_alive():
        if deadline is not None and time.monotonic() >= deadline:
            return False
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, POLL_S)
    return True
