"""`JobQueue`: the jobs of one process, each run in its turn, and the announcements of their positions meanwhile.

Owns its threads: one runs the jobs, or as many as jobs run at once; another one announces positions. `fair_queue.py`
owns the order.

A worker whose job was cancelled, by a person or by a stage's limit, and goes on for `unheard_s` seconds, is in a call
that can't be stopped: it is abandoned, and another worker takes the next job. (That call must let go of the
interpreter's lock. Where it doesn't, only another process can help: `server_process.py`.)
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable
from functools import partial

from harmonia_lab.backends.fair_queue import FairQueue
from harmonia_lab.backends.local_job import LocalJob
from harmonia_lab.errors import ErrorCode, HarmoniaError, Refused
from harmonia_lab.generation.handle import QueueLimits
from harmonia_lab.log_context import about

__all__ = ["JobQueue"]

_log = logging.getLogger(__name__)


class JobQueue:
    """Runs jobs, users taking turns. Its threads start with the first job.

    Listeners may be slow, so the second thread announces changed positions: a thread that submits a job
    announces that job alone.
    """

    def __init__(
        self,
        unheard_s: float,
        give_up: Callable[[LocalJob], None],
        width: Callable[[], int] = lambda: 1,
        ahead: int = 0,
    ) -> None:
        """give_up: ends a job without its worker, before the next job has its turn. It must not raise. width: returns
        how many jobs run at once; it may take a while. ahead: how many more have their turn already, for what takes
        the place of a job before that has quite ended."""
        self._unheard_s, self._give_up, self._width, self._ahead = unheard_s, give_up, width, ahead
        self._known_width = 1
        self._changed = threading.Condition()
        self._waiting: FairQueue[LocalJob] = FairQueue()
        self._workers: dict[threading.Thread, LocalJob | None] = {}
        """Each worker's thread, without abandoned ones, and the job that it runs."""
        self._positions: dict[LocalJob, int] = {}
        """The position of each waiting job that was announced last."""
        self._announcing = False
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
        self._known_width = max(1, self._width())
        with self._changed:
            if not self._announcing:
                self._announcing = True
                _start("harmonia-queue", self._announce)
            position, eta_s = self._outlook(self._waiting.order((user, job)))[job]
        # Before the job can have its turn: the first event of a job says that it waits.
        job.log.queued(position, eta_s)
        with self._changed:
            if job.handle.done:  # a listener has cancelled it
                return
            self._positions[job] = position
            self._waiting.add(user, job)
            self._add_workers()
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

    @property
    def closed(self) -> bool:
        return self._closed

    def check_open(self) -> None:
        """Raise RuntimeError if the queue is closed."""
        if self._closed:
            raise RuntimeError("This lab is closed; make a new one.")

    def _work(self) -> None:
        while (job := self._next_job()) is not None:
            returned = threading.Event()
            try:
                watched = job.generation.cancel_token.on_cancel(partial(self._begin_watch, job, returned))
                with watched, about(job.handle.id):
                    job.generation.run()
            except HarmoniaError as error:  # the job's events say so
                _log.debug("%s", error)
            except Exception as error:  # noqa: BLE001 - a defect in how one job ends must not stop the next one
                _log.exception("A defect: generation %s did not end as it should.", job.handle.id)
                job.fail(error)
            finally:
                returned.set()
            self._known_width = max(1, self._width())

    def _next_job(self) -> LocalJob | None:
        """Wait for the next job of this worker. Return None if the queue is closed, or the worker was abandoned."""
        this = threading.current_thread()
        with self._changed:
            if this not in self._workers:
                return None
            self._workers[this] = None
            self._add_workers()
            while (job := self._waiting.take()) is None:
                if self._closed:
                    del self._workers[this]
                    return None
                self._changed.wait()
            self._workers[this] = job
            self._positions.pop(job, None)
            self._changed.notify_all()
            return job

    def _begin_watch(self, job: LocalJob, returned: threading.Event) -> None:
        _start("harmonia-watch", self._watch, job, returned)

    def _watch(self, job: LocalJob, returned: threading.Event) -> None:
        """Give up a cancelled job whose worker doesn't return in time."""
        if returned.wait(self._unheard_s):
            return
        with self._changed:
            stuck = next((thread for thread, running in self._workers.items() if running is job), None)
            if stuck is None or returned.is_set():
                return
            del self._workers[stuck]
        try:
            self._give_up(job)
        finally:  # not before the job has ended and its engine is replaced
            with self._changed:
                self._add_workers()

    def _add_workers(self) -> None:
        """Start as many workers as are missing for the jobs that wait, or one."""
        most = self._known_width + self._ahead
        idle = sum(job is None for job in self._workers.values())
        wanted = min(most, len(self._workers) + max(self._waiting.count() - idle, not self._workers))
        for _ in range(wanted - len(self._workers)):
            thread = threading.Thread(target=self._work, name="harmonia-worker", daemon=True)
            self._workers[thread] = None
            thread.start()

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
        running = [job for job in self._workers.values() if job is not None]
        free_in = [0.0] * self._known_width
        outlook = {}
        for position, job in enumerate([*running, *order], -len(running)):
            ends_in = free_in[0] + job.remaining_s
            heapq.heapreplace(free_in, ends_in)
            if position >= 0:
                outlook[job] = (position, round(ends_in, 1))
        return outlook


def _start(name: str, target: Callable[..., None], *arguments: object) -> threading.Thread:
    # A daemon: a notebook that is shut down must not wait for a song.
    thread = threading.Thread(target=target, args=arguments, name=name, daemon=True)
    thread.start()
    return thread
