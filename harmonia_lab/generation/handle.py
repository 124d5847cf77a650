"""`JobHandle`: a caller's handle of a song that is being made, wherever it is made.

Owns how a job's events become its status, its song or its error, and how callers wait for that. The backends
(`backends/`) make the songs.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol

from harmonia_lab.errors import HarmoniaError, Refused
from harmonia_lab.events.state import GenerationState, apply
from harmonia_lab.process_bound import ProcessBound
from harmonia_lab.protocol.events import FamilyEvent, LifecycleEvent, ProgressEvent
from harmonia_lab.protocol.models import JobStatus, Song
from harmonia_lab.waiting import POLL_S, wait_for

__all__ = ["JobBackend", "JobHandle", "QueueLimits"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class QueueLimits:
    """How many songs may wait: in all, and of one user."""

    total: int = 100
    per_user: int = 20


class JobBackend(Protocol):
    """The part of a backend that a handle uses. See `backends.base.Backend`."""

    def cancel(self, generation_id: str) -> bool:
        """Ask the generation to stop. Return False if it is being cancelled already; raise Refused if it has ended."""
        ...

    def abandon(self, generation_id: str) -> bool:
        """End the generation as cancelled, without its worker. Return False if that can't be decided here."""
        ...

    def outcome(self, state: GenerationState) -> Song:
        """Return the song of a generation that has ended, or raise the HarmoniaError that ended it."""
        ...


class JobHandle(ProcessBound):
    """A song being made. `await job`, `job.result()`, `job.cancel()`; `job.progress` is the latest progress event."""

    def __init__(
        self,
        backend: JobBackend,
        generation_id: str,
        state: GenerationState | None = None,
        panel: Callable[[str], Any] | None = None,
    ) -> None:
        """state: where an earlier attempt left the generation. panel: makes a view of the generation with an id."""
        super().__init__()
        self.id = generation_id
        self._backend, self._panel = backend, panel
        self._state = state or GenerationState(generation_id)
        self._done = threading.Event()
        self._song: Song | None = None
        self._error: HarmoniaError | None = None
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self.progress: ProgressEvent | None = None
        self.milestones: list[ProgressEvent] = []
        """The first progress event of each status, in order."""
        self.events: list[LifecycleEvent] = []
        """The generation's lifecycle events in this attempt, in order."""

    def panel(self) -> Any:
        """Return a live view for a notebook; at the end of a cell, the job itself shows it. See `Lab.panel`."""
        assert self._panel is not None, "made without a lab"
        return self._panel(self.id)

    def _ipython_display_(self) -> None:
        """Show the job in Jupyter and IPython."""
        self.panel().display()

    def _display_(self) -> Any:
        """Return what marimo shows."""
        return self.panel()._display_()

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> Any:
        """Return the job as one output that doesn't move."""
        return self.panel()._repr_mimebundle_(include, exclude)

    def __repr__(self) -> str:
        return f"JobHandle({self.id}, {self.status})"

    @property
    def status(self) -> JobStatus:
        return self._state.status

    @property
    def state(self) -> GenerationState:
        """What the job's events add up to so far."""
        return self._state

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def cancel(self) -> bool:
        """Ask the job to stop, from any thread, also in mid-step. Return False if it has ended or was asked before."""
        try:
            return not self.done and self._backend.cancel(self.id)
        except Refused:  # it has ended meanwhile
            return False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job has ended, and return whether it has. An interrupt is raised.

        timeout: seconds; None: no limit.
        """
        if not self.done:
            self.check_process()
        return wait_for(self._done, timeout)

    def result(self, timeout: float | None = None) -> Song:
        """Return the song. Raises the HarmoniaError that ended it (Cancelled included), or TimeoutError. An interrupt
        ends the wait alone, and says so.

        timeout: seconds; None: no limit.
        """
        try:
            ended = self.wait(timeout)
        except KeyboardInterrupt as interrupt:
            _say_it_goes_on(interrupt, self)
            raise
        if not ended:
            raise TimeoutError(f"Generation {self.id} has not ended within {timeout:g} s.")
        if self._error is not None:
            raise self._error
        assert self._song is not None
        return self._song

    def __await__(self) -> Generator[Any, None, Song]:
        return self._wait_async().__await__()

    async def _wait_async(self) -> Song:
        import asyncio  # noqa: PLC0415 - 40 ms, for those alone who await

        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: its coroutines have ended
                loop.call_soon_threadsafe(ended.set)

        self.when_done(wake)
        try:
            while not ended.is_set():
                # A kernel raises the interrupt of a waiting cell only when its event loop runs a callback.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), POLL_S)
        except (asyncio.CancelledError, KeyboardInterrupt) as interrupt:
            _say_it_goes_on(interrupt, self)
            raise
        return self.result()

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, when the job has ended; at once if it has."""
        with self._lock:
            if not self._done.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def stop(self, grace_s: float) -> bool:
        """Cancel, wait `grace_s` seconds, then end the job without its worker. Return whether it ended as cancelled.

        For the moment before the process exits: a worker that is left behind may still hold memory. An error of the end
        is logged alone: it would take the place of the interrupt that mostly asks for it.
        """
        try:
            self.cancel()
            if not self.wait(grace_s):
                self._backend.abandon(self.id)
            self.wait(5.0)
        except HarmoniaError as error:
            _log.warning("Generation %s was not ended: %s", self.id, error)
        return self.status == "cancelled"

    def observe(self, event: FamilyEvent, *, resolve: bool = True) -> bool:
        """Apply the job's next event; the last one resolves the job. Return False for an event that isn't the next.

        resolve: False for a job that is about to be tried again.
        """
        with self._lock:
            if not self._state.expects(event):
                return False
            self._state = state = apply(self._state, event)
            if isinstance(event, ProgressEvent):
                if self.progress is None or event.status != self.progress.status:
                    self.milestones.append(event)
                self.progress = event
            elif isinstance(event, LifecycleEvent):
                self.events.append(event)
        if state.over and resolve:
            self._resolve(state)
        return True

    def fail(self, error: HarmoniaError) -> None:
        """End the job where its events can't tell how it ended. Idempotent."""
        self._finish(None, error)

    def _resolve(self, state: GenerationState) -> None:
        try:
            song = self._backend.outcome(state)
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
            try:
                callback()
            except Exception:  # noqa: BLE001 - a defect in one callback must not stop the others
                _log.exception("A callback failed at the end of generation %s.", self.id)


def _say_it_goes_on(interrupt: BaseException, job: JobHandle) -> None:
    """Have the interrupt of a wait say that the song is still being made, in a traceback and in a notebook's cell."""
    if job.done:
        return
    told = (
        f"Only the wait has ended: song {job.id} is still being made. `job.cancel()` stops it, `await job` waits again."
    )
    interrupt.add_note(told)
    # IPython prints these lines in place of a traceback.
    interrupt.__dict__["_render_traceback_"] = lambda: [f"{type(interrupt).__name__}: interrupted.", told]
