"""Objects that work only in the process that made them: a fork has their locks, but none of their threads.

Owns how they refuse elsewhere: a call in a fork would wait for ever, and a pickle would hold locks and sockets.
"""

from __future__ import annotations

import os
from typing import NoReturn

__all__ = ["ProcessBound"]

REMEDY = "make a Lab there, in the function that the other process runs"


class ProcessBound:
    """Base of what can be neither pickled nor used in a fork of the process (multiprocessing, joblib)."""

    def __init__(self) -> None:
        self._process = os.getpid()

    @property
    def in_fork(self) -> bool:
        """Whether this is another process than the one that made the object."""
        return os.getpid() != self._process

    def check_process(self) -> None:
        """Raise RuntimeError in a fork."""
        if self.in_fork:
            raise RuntimeError(
                f"This {type(self).__name__} belongs to process {self._process}, and this is process {os.getpid()},"
                f" a fork of it, where its threads aren't: {REMEDY}."
            )

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"A {type(self).__name__} can't be pickled, copied, or sent to another process: {REMEDY}. A song can be."
        )
