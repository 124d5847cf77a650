"""Generations that run in the background: the worker thread, and the handle that a caller keeps.

Owns the queue (first come, first served, one at a time: the engines share the machine's cores). What a generation does
is `song.py`'s.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Generator
from typing import Any

from harmonia_lab.errors import Cancelled, HarmoniaError
from harmonia_lab.pipeline.song import Generation, Status
from harmonia_lab.protocol.events import Event, LifecycleEvent, ProgressEvent
from harmonia_lab.protocol.models import Song

__all__ = ["JobHandle", "Worker"]

POLL_S = 0.05
"""How often a wait looks up, so that an interrupt is noticed: a bare `Event.wait()` would sit through it on Windows,
and `Thread.join()` interrupted on Python 3.11 makes `is_alive()` lie."""


class JobHandle:
    """A song being made. `await job`, `job.result()`, `job.cancel()`; `job.progress` is the latest progress event."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._done = threading.Event()
        self._song: Song | None = None
        self._error: HarmoniaError | None = None
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self.progress: ProgressEvent | None = None
        self.events: list[LifecycleEvent] = []
        """The lifecycle events so far, in order."""

    @property
    def id(self) -> str:
        return self._generation.id

    @property
    def status(self) -> Status:
        return self._generation.status

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def cancel(self) -> bool:
        """Asks it to stop; False when it had ended already. Works from any thread, also in mid-step."""
        if self.status == "pending" and self._generation.abandon():
            self._finish(None, Cancelled())  # it had not begun: no need to wait for its turn
            return True
        return self._generation.cancel()

    def wait(self, timeout: float | None = None) -> bool:
        """True when it has ended. timeout: seconds; None waits for ever. An interrupt gets through."""
        remaining = timeout
        while not self._done.is_set() and (remaining is None or remaining > 0):
            step = POLL_S if remaining is None else min(POLL_S, remaining)
            self._done.wait(step)
            remaining = None if remaining is None else remaining - step
        return self._done.is_set()

    def result(self, timeout: float | None = None) -> Song:
        """The song. Raises the HarmoniaError that ended it (Cancelled included), or TimeoutError after `timeout` s."""
        if not self.wait(timeout):
            raise TimeoutError(f"Generation {self.id} has not ended within {timeout:g} s.")
        if self._error is not None:
            raise self._error
        assert self._song is not None
        return self._song

    def __await__(self) -> Generator[Any, None, Song]:
        return self._wait_async().__await__()

    async def _wait_async(self) -> Song:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(ended.set)

        with self._lock:
            if self._done.is_set():
                ended.set()
            else:
                self._callbacks.append(wake)
        await ended.wait()
        return self.result()

    def stop(self, grace_s: float) -> bool:
        """Cancels, waits `grace_s` seconds, then ends it without the worker. True when it ended as cancelled.

        For the moment before the process exits: a worker that is left behind may still hold memory.
        """
        self.cancel()
        if not self.wait(grace_s) and self._generation.abandon():
            self._finish(None, Cancelled())
        self.wait(5.0)
        return self.status == "cancelled"

    def observe(self, event: Event) -> None:
        """Takes note of an event of this generation."""
        if isinstance(event, ProgressEvent):
            self.progress = event
        elif isinstance(event, LifecycleEvent):
            self.events.append(event)

    def run(self) -> None:
        """Called once, by the worker."""
        try:
            song = self._generation.run()
        except HarmoniaError as error:
            self._finish(None, error)
        else:
            self._finish(song, None)

    def _finish(self, song: Song | None, error: HarmoniaError | None) -> None:
        with self._lock:
            if self._done.is_set():
                return
            self._song, self._error = song, error
            self._done.set()
            callbacks = self._callbacks
        for callback in callbacks:
            callback()


class Worker:
    """One thread that runs jobs in the order they came. It starts with the first and ends with `close`."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[JobHandle | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._jobs: list[JobHandle] = []
        self._closed = False

    def submit(self, job: JobHandle) -> None:
        with self._lock:
            if self._closed:
                raise RuntimeError("This lab is closed; make a new one.")
            self._jobs = [j for j in self._jobs if not j.done] + [job]
            self._queue.put(job)
            if self._thread is None:
                # A daemon: a notebook that is shut down must not wait for a song that nobody will hear.
                self._thread = threading.Thread(target=self._work, name="harmonia-worker", daemon=True)
                self._thread.start()

    def close(self, grace_s: float) -> None:
        """Cancels what runs and what waits. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._queue.put(None)
        for job in self._jobs:
            job.cancel()
        for job in self._jobs:
            if not job.done:
                job.stop(grace_s)

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            job.run()
