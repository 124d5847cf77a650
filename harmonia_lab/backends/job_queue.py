"""The queue of one process: its worker thread, and what waiting jobs are told about their place.

Owns who runs (one job at a time: the engines share the device). The order is `fair_queue.py`'s.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from harmonia_lab.backends.fair_queue import Turns
from harmonia_lab.errors import ErrorCode, Refused
from harmonia_lab.generation.handle import JobHandle, QueueLimits

__all__ = ["JobQueue"]


class JobQueue:
    """Runs jobs one at a time on each device, users taking turns. Its threads start with the first job.

    Whose place changes is told so (`JobHandle.announce`) from a thread of its own: who submits or cancels never runs
    the listeners of another job.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._turns: dict[str, Turns[JobHandle]] = {}
        self._running: dict[str, JobHandle | None] = {}
        self._places: dict[JobHandle, int] = {}
        self._announcer: threading.Thread | None = None
        self._closed = False

    def check_room(self, user: str, limits: QueueLimits | None) -> None:
        """Raises Refused (QUEUE_FULL) where `user` can't add a job within `limits`, RuntimeError once it is closed."""
        with self._changed:
            self.check_open()
            if limits is None:
                return
            total = sum(turns.count() for turns in self._turns.values())
            own = sum(turns.count(user) for turns in self._turns.values())
        if total >= limits.total or own >= limits.per_user:
            waiting = f"{own} of yours wait" if own >= limits.per_user else f"{total} songs wait"
            raise Refused(
                f"The queue is full: {waiting}.", code=ErrorCode.QUEUE_FULL, hint="Try again when one is done."
            )

    def submit(self, job: JobHandle, *, user: str = "local", device: str = "cpu") -> None:
        """Announces the job's place, then lets it have its turn."""
        with self._changed:
            self.check_open()
            if device not in self._turns:
                self._turns[device] = Turns()
                self._running[device] = None
                self._start(f"harmonia-worker-{device}", lambda: self._work(device))
            if self._announcer is None:
                self._announcer = self._start("harmonia-queue", self._announce)
            place, eta_s = self._outlook(device, self._turns[device].order((user, job)))[job]
        # Before it can have its turn: the first thing that anybody hears of a job is that it waits.
        job.announce(place, eta_s)
        with self._changed:
            self.check_open()
            self._places[job] = place
            self._turns[device].add(user, job)
            self._changed.notify_all()
        job.when_done(lambda: self._forget(device, job))

    def close(self, grace_s: float) -> None:
        """Cancels what runs and what waits. Idempotent."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            jobs = [job for turns in self._turns.values() for job in turns.order()]
            jobs += [job for job in self._running.values() if job is not None]
            self._changed.notify_all()
        for job in jobs:
            job.cancel()
        for job in jobs:
            if not job.done:
                job.stop(grace_s)

    def check_open(self) -> None:
        """Raises RuntimeError once it is closed."""
        if self._closed:
            raise RuntimeError("This lab is closed; make a new one.")

    def _start(self, name: str, target: Callable[[], None]) -> threading.Thread:
        # A daemon: a notebook that is shut down must not wait for a song that nobody will hear.
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
        return thread

    def _work(self, device: str) -> None:
        while True:
            with self._changed:
                self._running[device] = None
                while (job := self._turns[device].take()) is None:
                    if self._closed:
                        return
                    self._changed.wait()
                self._running[device] = job
                self._places.pop(job, None)
                self._changed.notify_all()
            job.run()

    def _forget(self, device: str, job: JobHandle) -> None:
        with self._changed:
            self._turns[device].remove(job)
            self._places.pop(job, None)
            self._changed.notify_all()

    def _announce(self) -> None:
        """Tells each waiting job when its place has changed."""
        while True:
            with self._changed:
                while not (moved := self._moved()):
                    if self._closed:
                        return
                    self._changed.wait()
                self._places |= {job: place for job, (place, _) in moved.items()}
            for job, (place, eta_s) in moved.items():
                job.announce(place, eta_s)

    def _moved(self) -> dict[JobHandle, tuple[int, float]]:
        now: dict[JobHandle, tuple[int, float]] = {}
        for device, turns in self._turns.items():
            now |= self._outlook(device, turns.order())
        return {job: outlook for job, outlook in now.items() if self._places.get(job, outlook[0]) != outlook[0]}

    def _outlook(self, device: str, order: list[JobHandle]) -> dict[JobHandle, tuple[int, float]]:
        """Each waiting job's place (how many come before it) and the seconds until its song is done."""
        running = self._running[device]
        ahead_s = running.remaining_s if running is not None else 0.0
        outlook = {}
        for place, job in enumerate(order):
            ahead_s += job.remaining_s
            outlook[job] = (place, round(ahead_s, 1))
        return outlook
