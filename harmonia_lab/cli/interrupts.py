"""Signals as interrupts that are not lost.

Owns which signals stop a command, and the handler that raises KeyboardInterrupt until the command has acknowledged it
(not how the command then ends).
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import NoReturn

__all__ = ["STOPS", "Interrupts", "handle"]

AGAIN_S = 1.0
STOPS: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)
"""How services and batch systems stop a process, and what a terminal sends that is closed: SIGHUP, or on Windows
SIGBREAK, which is Ctrl-Break's too. (There, a closed terminal's processes are ended while they handle it: what is left
is as after a kill, and children end by their standard input.)"""


def handle(numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], object]) -> None:
    """Let `handler` take these signals. One that hangs up stays ignored if it is: `nohup` did that."""
    for number in numbers:
        if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN:
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
            _interrupt_main_thread()


def _interrupt_main_thread() -> None:
    """Interrupt the main thread, also in a call of the system, where that can be done."""
    if sys.platform == "win32":
        _thread.interrupt_main(signal.SIGINT)  # `os.kill` would end the process
    else:
        os.kill(os.getpid(), signal.SIGINT)
