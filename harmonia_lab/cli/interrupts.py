"""Signals as interrupts that are not lost.

Owns which signals stop a command, the hook that raises a KeyboardInterrupt again which Python swallowed, and the
handler that raises one until the command has acknowledged it (not how the command then ends).
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

__all__ = ["STOPS", "Interrupts", "handle", "swallowed_raised_again"]

AGAIN_S = 1.0
SWALLOWED_S = 0.05
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


@contextlib.contextmanager
def swallowed_raised_again() -> Iterator[None]:
    """Raise a KeyboardInterrupt again soon, where Python can only print it: inside a finaliser or a native callback."""
    before = sys.unraisablehook

    def hook(unraisable: UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            _later(SWALLOWED_S, _interrupt_main_thread)  # not at once: the finaliser may still be running
        else:
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


class Interrupts:
    """A signal handler. It raises KeyboardInterrupt, and again a second later, unless the command called `acknowledge`:
    native code may drop an exception without a word to anybody."""

    def __init__(self) -> None:
        self._acknowledged = threading.Event()

    def __call__(self, signum: int, frame: object) -> NoReturn:
        del signum, frame
        _later(AGAIN_S, self._again)
        raise KeyboardInterrupt

    def acknowledge(self) -> None:
        """Stop raising it. The command is ending, however long that takes."""
        self._acknowledged.set()

    def _again(self) -> None:
        if not self._acknowledged.is_set():
            _interrupt_main_thread()


def _later(seconds: float, call: Callable[[], None]) -> None:
    # Not `threading.Timer`: the main thread, in whose middle this runs, may hold the lock that `Thread.start` takes.
    def wait() -> None:
        time.sleep(seconds)
        call()

    _thread.start_new_thread(wait, ())


def _interrupt_main_thread() -> None:
    """Interrupt the main thread, also in a call of the system, where that can be done."""
    if sys.platform == "win32":
        _thread.interrupt_main(signal.SIGINT)  # `os.kill` would end the process
    else:
        os.kill(os.getpid(), signal.SIGINT)
