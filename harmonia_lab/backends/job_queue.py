"""`JobQueue`: the jobs of one process, run one at a time, and what waiting jobs are told about their place.

Owns the worker thread. One job runs at a time: all songs of a lab share stage 1's engine and the device. The order is
`fair_queue.py`'s.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from harmonia_lab.backends.fair_queue import FairQueue
from harmonia_lab.errors import ErrorCode, HarmoniaError, Refused
from harmonia_lab.generation.handle import QueueLimits

__all__ = ["JobQueue", "QueueItem"]

_log = logging.getLogger(__name__)


class QueueItem(Protocol):
    """What the queue asks of a job."""

    @property
    def remaining_s(self) -> float:
        """Estimated seconds until the job is done, once it has its turn."""
        ...

    def announce(self, position: int, eta_s: float) -> None:
        """Tell the job's listeners how many jobs come before it, and the seconds until it is done."""

    @property
    def run(self) -> Callable[[], object]:
        """Does the work. May raise the HarmoniaError that ended the job, which the job's listeners know already."""
        ...

    def fail(self, error: HarmoniaError) -> None:
        """End the job, whose work raised something else: a defect."""


T = TypeVar("T", bound=QueueItem)


class JobQueue(Generic[T]):
    """Runs jobs one at a time, users taking turns. Its threads start with the first job.

    A thread of its own announces changed positions: a caller that submits or cancels never runs another job's
    listeners.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: FairQueue[T] = FairQueue()
        self._running: T | None = None
        self._positions: dict[T, int] = {}
        """The position that each waiting job was told last."""
        self._threads: list[threading.Thread] = []
        self._closed = False

    def check_room(self, user: str, limits: QueueLimits | None) -> None:
        """Raise Refused (QUEUE_FULL) if `user` can't add a job within `limits`, RuntimeError if the queue is closed."""
        with self._changed:
            self.check_open()
            total, own = self._waiting.count(), self._waiting.count(user)
        if limits is not None and (total >= limits.total or own >= limits.per_user):
            waiting = f"{own} of yours wait" if own >= limits.per_user else f"{total} songs wait"
            raise Refused(
                f"The queue is full: {waiting}.", code=ErrorCode.QUEUE_FULL, hint="Try again when one is done."
            )

    def submit(self, job: T, *, user: str) -> None:
        """Announce the job's position, then let it have its turn."""
        with self._changed:
            self.check_open()
            if not self._threads:
                self._threads = [_start("harmonia-worker", self._work), _start("harmonia-queue", self._announce)]
            position, eta_s = self._outlook(self._waiting.order((user, job)))[job]
        # Before the job can have its turn: the first thing that listeners are told of a job is that it waits.
        job.announce(position, eta_s)
        with self._changed:
            self.check_open()
            self._positions[job] = position
            self._waiting.add(user, job)
            self._changed.notify_all()

    def remove(self, job: T) -> None:
        """Take out a job that needs no turn any more. Fine for a job that doesn't wait."""
        with self._changed:
            self._waiting.remove(job)
            self._positions.pop(job, None)
            self._changed.notify_all()

    def close(self) -> None:
        """Take no more jobs; the threads end once no job waits. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def check_open(self) -> None:
        """Raise RuntimeError if the queue is closed."""
        if self._closed:
            raise RuntimeError("This lab is closed; make a new one.")

    def _work(self) -> None:
        while True:
            with self._changed:
                self._running = None
                while (job := self._waiting.take()) is None:
                    if self._closed:
                        return
                    self._changed.wait()
                self._running = job
                self._positions.pop(job, None)
                self._changed.notify_all()
            try:
                job.run()
            except HarmoniaError as error:
                _log.debug("%s", error)
            except Exception as error:  # noqa: BLE001 - a defect in how one job ends must not stop the next one
                _log.exception("A defect: a job did not end as it should.")
                job.fail(HarmoniaError(f"A defect in Harmonia Lab: {type(error).__name__}: {error}"))

    def _announce(self) -> None:
        """Tell each waiting job when its position has changed."""
        while True:
            with self._changed:
                while not (moved := self._moved()):
                    if self._closed:
                        return
                    self._changed.wait()
                self._positions |= {job: position for job, (position, _) in moved.items()}
            for job, (position, eta_s) in moved.items():
                job.announce(position, eta_s)

    def _moved(self) -> dict[T, tuple[int, float]]:
        outlook = self._outlook(self._waiting.order())
        return {job: (now, eta_s) for job, (now, eta_s) in outlook.items() if self._positions.get(job, now) != now}

    def _outlook(self, order: list[T]) -> dict[T, tuple[int, float]]:
        """Return each waiting job's position, from 0, and the estimated seconds until its song is done."""
        ahead_s = self._running.remaining_s if self._running is not None else 0.0
        outlook = {}
        for position, job in enumerate(order):
            ahead_s += job.remaining_s
            outlook[job] = (position, round(ahead_s, 1))
        return outlook


def _start(name: str, target: Callable[[], None]) -> threading.Thread:
    # A daemon: a notebook that is shut down must not wait for a song that nobody will hear.
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread
