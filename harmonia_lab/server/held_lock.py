"""The notice that one C call holds the interpreter's lock, so that no thread of this process runs, nor its server.

Owns the timer and the words. While the lock is held, no Python code can say anything, nor a limit or a cancel end the
call: what speaks then is faulthandler's own C thread, which writes the stack of every thread to standard error.
"""

from __future__ import annotations

import faulthandler
import logging
import sys
import threading
import time
from typing import Any, Self, TextIO

__all__ = ["HELD_S", "HeldLockWatch"]

HELD_S = 30.0
"""Seconds without a turn for Python until the stacks are written: by then, clients take the server for gone."""

_log = logging.getLogger(__name__)


class HeldLockWatch:
    """Sets faulthandler's timer again and again, in a thread of its own: it runs out only where that thread can't run.

    The process has one such timer: start one watch, and in a process that is the server's own (not in a kernel).
    """

    def __init__(self, held_s: float = HELD_S, file: TextIO | None = None) -> None:
        """file: for the stacks, open to the end; standard error by default."""
        self._held_s, self._file = held_s, file
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="harmonia-held-lock", daemon=True)

    def start(self) -> None:
        self._set_timer()
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _set_timer(self) -> None:
        # A service may have no standard error at all.
        file: Any = self._file or sys.__stderr__
        if file is not None:
            faulthandler.dump_traceback_later(self._held_s, file=file)

    def _run(self) -> None:
        before = time.monotonic()
        try:
            while not self._over.wait(self._held_s / 4):
                self._set_timer()
                now = time.monotonic()
                if now - before > self._held_s:
                    _log.warning(_WORDS, now - before)
                before = now
        finally:
            faulthandler.cancel_dump_traceback_later()


_WORDS = (
    'No Python code ran for %.0f s: one call of a library held the interpreter, and the stacks after "Timeout" on'
    " standard error say which. The server answered nobody meanwhile, and nothing could end the call. Serve with"
    " lab.serve(isolated=True), whose kernel ends such a process, or restart the server when /healthz doesn't answer:"
    " its songs can then be tried again."
)
