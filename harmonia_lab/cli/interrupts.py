"""Signals as interrupts that are not lost.

Owns that a KeyboardInterrupt which nobody has heard is raised again. What an interrupt ends is the command's business.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import NoReturn

__all__ = ["Interrupts"]

AGAIN_S = 1.0


class Interrupts:
    """Callable: a signal handler. Raises KeyboardInterrupt, and a second later again, unless it was `heard`: Python
    swallows what is raised inside a finaliser or a native callback."""

    def __init__(self) -> None:
        self._heard = threading.Event()

    def __call__(self, signum: int, frame: object) -> NoReturn:
        del signum, frame
        again = threading.Timer(AGAIN_S, self._again)
        again.daemon = True
        again.start()
        raise KeyboardInterrupt

    def heard(self) -> None:
        """It has arrived: what ends now may take its time."""
        self._heard.set()

    def _again(self) -> None:
        if not self._heard.is_set():
            os.kill(os.getpid(), signal.SIGINT)
