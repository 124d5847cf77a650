"""Signals as interrupts that are not lost.

Owns which signals stop a command, and the handler that raises KeyboardInterrupt until the command has acknowledged it
(not how the command then ends).
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import NoReturn

__all__ = ["STOPS", "Interrupts", "handle"]

AGAIN_S = 1.0
STOPS = (signal.SIGTERM, signal.SIGHUP)
"""How services and batch systems stop a process, and what a terminal sends that is closed."""


def handle(numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], object]) -> None:
    """Let `handler` take these signals. One that hangs up stays ignored if it is: `nohup` did that."""
    for number in numbers:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


class Interrupts:
    """A signal handler. It raises KeyboardInterrupt, and again a second later, unless the command called `acknowledge`:
    Python swallows an exception that is raised inside a finaliser or a native callback."""

    def __init__(self) -> None:
        self._acknowledged = threading.Event()

    def __call__(self, signum: int, frame: object) -> NoReturn:
        del signum, frame
        again = threading.Timer(AGAIN_S, self._again)
        again.daemon = True
        again.start()
        raise KeyboardInterrupt

    def acknowledge(self) -> None:
        """Stop raising it. The command is ending, however long that takes."""
        self._acknowledged.set()

    def _again(self) -> None:
        if not self._acknowledged.is_set():
            os.kill(os.getpid(), signal.SIGINT)
