"""Generations that run in the background: the queue, its worker threads, and the handle that a caller keeps.

Owns who waits, who runs (one at a time on each device: the engines share it) and what is said about the waiting. The
order is `fair_queue.py`'s, what a generation does is `generation.py`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol

from harmonia_lab.errors import Cancelled, HarmoniaError
from harmonia_lab.generation.generation import Status
from harmonia_lab.protocol.events import Event, LifecycleEvent, ProgressEvent
from harmonia_lab.protocol.models import Song

__all__ = ["JobHandle", "QueueLimits", "Work"]

_log = logging.getLogger(__name__)

POLL_S = 0.05
"""How often a wait looks up, so that an interrupt is noticed: a bare `Event.wait()` would sit through it on Windows,
and `Thread.join()` interrupted on Python 3.11 makes `is_alive()` lie."""


class Work(Protocol):
    """What a handle is of: a `pipeline.song.Generation`, or one that another process works at."""

    @property
    def id(self) -> str: ...

    @property
    def status(self) -> Status: ...

    @property
    def expected_s(self) -> float:
        """Seconds that it is expected to take."""
        ...

    def run(self) -> Song:
        """Blocks until the end. Raises the HarmoniaError that ended it."""
        ...

    def cancel(self) -> bool:
        """False when it had ended, or was being cancelled already."""
        ...

    def abandon(self) -> bool:
        """Ends it as cancelled without waiting for who works at it. False where that can't be decided here."""
        ...


class JobHandle:
    """A song being made. `await job`, `job.result()`, `job.cancel()`; `job.progress` is the latest progress event."""

    def __init__(
        self,
        generation: Work,
        announce: Callable[[int, float], None] = lambda _place, _eta_s: None,
        panel: Callable[[str], Any] | None = None,
    ) -> None:
        """announce: called with its place in the queue and the seconds until its song is done, whenever that changes
        while it waits. panel: makes a view of the generation with this id."""
        self._generation = generation
        self._panel = panel
        self.announce = announce
        self._done = threading.Event()
        self._song: Song | None = None
        self._error: HarmoniaError | None = None
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self.progress: ProgressEvent | None = None
        self.milestones: list[ProgressEvent] = []
        """The first progress event of each status, in order."""
        self.events: list[LifecycleEvent] = []
        """The lifecycle events so far, in order."""

    @property
    def id(self) -> str:
        return self._generation.id

    def panel(self) -> Any:
        """A live view for a notebook; at the end of a cell, the job itself shows it. See `Lab.panel`."""
        assert self._panel is not None, "made without a lab"
        return self._panel(self.id)

    def _ipython_display_(self) -> None:
        """How Jupyter shows a job."""
        self.panel().display()

    def __repr__(self) -> str:
        return f"JobHandle({self.id}, {self.status})"

    @property
    def status(self) -> Status:
        return self._generation.status

    @property
    def remaining_s(self) -> float:
        """Estimated seconds until its song is done, once it has its turn."""
        eta_s = self.progress.eta_seconds if self.progress is not None else None
        return self._generation.expected_s if eta_s is None else eta_s

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
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(ended.set)

        self.when_done(wake)
        while not ended.is_set():
            # A kernel notices an interrupt of the cell that waits here when its loop turns, and not before.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), POLL_S)
        return self.result()

    def when_done(self, callback: Callable[[], None]) -> None:
        """Calls it once, when this has ended; at once where it has."""
        with self._lock:
            if not self._done.is_set():
                self._callbacks.append(callback)
                return
        callback()

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
            if self.progress is None or event.status != self.progress.status:
                self.milestones.append(event)
            self.progress = event
        elif isinstance(event, LifecycleEvent):
            self.events.append(event)

    def run(self) -> None:
        """Called once, by the worker."""
        if self.done:  # cancelled between its turn and now
            return
        try:
            song = self._generation.run()
        except HarmoniaError as error:
            _let_go(error)
            self._finish(None, error)
        except Exception as error:  # noqa: BLE001 - a defect in how one song ends must stop no other; who waits hears of it
            _log.exception("A defect: generation %s did not end as it should.", self.id)
            self._finish(None, HarmoniaError(f"A defect in Harmonia Lab: {type(error).__name__}: {error}"))
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
            try:
                callback()
            except Exception:  # noqa: BLE001 - one listener's defect must keep neither the others nor the next song
                _log.exception("A listener failed at the end of generation %s.", self.id)


def _let_go(error: BaseException | None) -> None:
    """Of what was on the stack when it was raised: hundreds of megabytes of audio, which would stay for as long as
    somebody keeps the handle. The traceback still says where."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


@dataclass(frozen=True)
class QueueLimits:
    """How many songs may wait: in all, and of one user."""

    total: int = 100
    per_user: int = 20
