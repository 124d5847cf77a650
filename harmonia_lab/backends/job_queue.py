"""`JobQueue`: the jobs of one process, run one at a time, and the announcements of their positions meanwhile.

Owns two threads: one runs the jobs, one announces positions. One job runs at a time, since all songs of a lab share
stage 1's engine and the device. `fair_queue.py` owns the order.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from harmonia_lab.backends.fair_queue import FairQueue
from harmonia_lab.backends.local_job import LocalJob
from harmonia_lab.errors import ErrorCode, HarmoniaError, Refused
from harmonia_lab.generation.handle import QueueLimits

__all__ = ["JobQueue"]

_log = logging.getLogger(__name__)


class JobQueue:
    """Runs jobs one at a time, users taking turns. Its threads start with the first job.

    Listeners may be slow, so the second thread announces changed positions: a thread that submits a job
    announces that job alone.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: FairQueue[LocalJob] = FairQueue()
        self._running: LocalJob | None = None
        self._positions: dict[LocalJob, int] = {}
        """The position of each waiting job that was announced last."""
        self._threads: list[threading.Thread] = []
        self._closed = False

    def check_limits(self, user: str, limits: QueueLimits | None) -> None:
        """Raise Refused (QUEUE_FULL) if `user` can't add a job within `limits`, RuntimeError if the queue is closed."""
        with self._changed:
            self.check_open()
            total, own = self._waiting.count(), self._waiting.count(user)
        if limits is not None and (total >= limits.total or own >= limits.per_user):
            waiting = f"{own} of your songs wait" if own >= limits.per_user else f"{total} songs wait"
            raise Refused(
                f"The queue is full: {waiting}.", code=ErrorCode.QUEUE_FULL, hint="Try again when one is done."
            )

    def submit(self, job: LocalJob, *, user: str) -> None:
        """Announce the job's position, then let it have its turn. Call `check_limits` first."""
        with self._changed:
            if not self._threads:
                self._threads = [_start("harmonia-worker", self._work), _start("harmonia-queue", self._announce)]
            position, eta_s = self._outlook(self._waiting.order((user, job)))[job]
        # Before the job can have its turn: the first event of a job says that it waits.
        job.log.queued(position, eta_s)
        with self._changed:
            if job.handle.done:  # a listener has cancelled it
                return
            self._positions[job] = position
            self._waiting.add(user, job)
            self._changed.notify_all()

    def remove(self, job: LocalJob) -> None:
        """Take out a job that needs no turn any more. Do nothing if it doesn't wait."""
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
                job.generation.run()
            except HarmoniaError as error:  # the job's events say so
                _log.debug("%s", error)
            except Exception as error:  # noqa: BLE001 - a defect in how one job ends must not stop the next one
                _log.exception("A defect: generation %s did not end as it should.", job.handle.id)
                job.fail(error)

    def _announce(self) -> None:
        """Tell the listeners of each waiting job when its position has changed."""
        while True:
            with self._changed:
                while not (moved := self._moved()):
                    if self._closed:
                        return
                    self._changed.wait()
                self._positions |= {job: position for job, (position, _) in moved.items()}
            for job, (position, eta_s) in moved.items():
                job.log.queued(position, eta_s)

    def _moved(self) -> dict[LocalJob, tuple[int, float]]:
        outlook = self._outlook(self._waiting.order())
        return {job: (now, eta_s) for job, (now, eta_s) in outlook.items() if self._positions.get(job, now) != now}

    def _outlook(self, order: list[LocalJob]) -> dict[LocalJob, tuple[int, float]]:
        """Return each waiting job's position, from 0, and the estimated seconds until its song is done."""
        ahead_s = self._running.remaining_s if self._running is not None else 0.0
        outlook = {}
        for position, job in enumerate(order):
            ahead_s += job.remaining_s
            outlook[job] = (position, round(ahead_s, 1))
        return outlook


def _start(name: str, target: Callable[[], None]) -> threading.Thread:
    # A daemon: a notebook that is shut down must not wait for a song.
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread
