"""Many songs that are being made in the background, as their caller and their panel see them.

Owns the thread, the waits, the cancels, and what is known of the songs that are being made now. What is made, in which
order, and how it is told are `batch/handle.py`'s and `study/handle.py`'s.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar

from harmonia_lab.errors import HarmoniaError, InvalidRequest
from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.waiting import POLL_S, wait_for

__all__ = ["Present", "SongProgress", "SongsHandle", "told"]

_log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

ProgressStatus = Literal["waiting", "running", "made", "kept", "failed", "cancelled"]

Present = Callable[[Any], Mapping[str, Any] | None]
"""Shows a handle in a cell: returns a MIME bundle, or None for the handle's own text."""

SHORT = 78
"""Characters of a story that a row shows."""


@dataclass(frozen=True)
class SongProgress:
    """One song of many that are being made.

    number: its place, from 1. id: the generation's; None before it has begun. title: None until it is known. percent:
    0…100. stage: what is being done, for people to read. seconds: that the song took to make. rss_peak, gpu_peak:
    bytes, of this process with its children and of the whole GPU, while the song was made; None where that isn't known,
    and without a GPU. error, remedy: why there is no song, and what helps. folder: the song's.
    """

    number: int
    status: ProgressStatus
    narrative: str = ""
    id: str | None = None
    title: str | None = None
    seed: int | None = None
    percent: float = 0.0
    stage: str = ""
    seconds: float | None = None
    rss_peak: int | None = None
    gpu_peak: int | None = None
    error: str = ""
    remedy: str = ""
    folder: Path | None = None

    @property
    def short_narrative(self) -> str:
        """The story, cut where it is longer than a row."""
        return self.narrative if len(self.narrative) <= SHORT else f"{self.narrative[: SHORT - 1]}…"

    @property
    def heading(self) -> str:
        """What a list calls the song."""
        return self.title or self.short_narrative or f"row {self.number}"

    @property
    def detail(self) -> str:
        """What tells it apart from others of that heading."""
        seed = f"seed {self.seed}" if self.seed is not None else ""
        return " · ".join(filter(None, [f"row {self.number}", seed, self.short_narrative if self.title else ""]))


class SongsHandle(ABC, Generic[_Result]):
    """Songs being made. `handle.result()`, `await handle`, `handle.cancel()`; Jupyter shows its panel."""

    what = "songs"
    """A word for what is made, in errors."""
    unit = "songs"
    """What is counted."""

    def __init__(self, present: Present) -> None:
        self._present = present
        self.panel: Any = None
        """What shows it in a notebook's page, once it was shown."""
        self.stopped = False
        """Whether it is to end; the song that is being made is cancelled."""
        self._lock = threading.Lock()
        self._planned, self._ended = threading.Event(), threading.Event()
        self._result: _Result | None = None
        self._error: BaseException | None = None
        self._jobs: dict[int, JobHandle] = {}
        """The index of each song that is being made, and its job."""
        self._unwanted: set[int] = set()
        self._left: tuple[float, float] | None = None
        """Seconds left, and when that was so, as `time.monotonic` counts."""
        self._observers: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._work, name=f"harmonia-{self.what}", daemon=True)

    @abstractmethod
    def _make(self) -> _Result:
        """Make the songs, and return the result. Runs in a thread of its own."""

    @abstractmethod
    def _progress(self, index: int) -> SongProgress:
        """Return what is known of a song."""

    @property
    @abstractmethod
    def report(self) -> _Result:
        """The report as it is now."""

    @property
    @abstractmethod
    def total(self) -> int:
        """How many songs are asked for."""

    @property
    @abstractmethod
    def done(self) -> int:
        """How many have ended: with a song, also one of an earlier run, or with an error."""

    @property
    @abstractmethod
    def failures(self) -> int:
        """How many have ended without a song."""

    @property
    @abstractmethod
    def why_stopped(self) -> str:
        """Why it ended before its last song; "" where it didn't."""

    @property
    def note(self) -> str:
        """What is being done beside the songs, if anything."""
        return ""

    def start(self) -> Self:
        """Begin, and return when it is known what is made. Raises what is wrong before the first song."""
        self._thread.start()
        while not (self._planned.wait(POLL_S) or self._ended.is_set()):
            pass
        if not self._planned.is_set() and self._error is not None:
            raise self._error
        return self

    def _work(self) -> None:
        try:
            self._result = self._make()
        except BaseException as error:  # noqa: BLE001 - `result` raises it in the caller's thread
            self._error = error
        with self._lock:
            self._jobs.clear()
            self._left = None
        self._ended.set()
        self._tell()

    # For callers

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._ended.is_set()

    @property
    def state(self) -> str:
        """running, done, stopped, or failed, where an error that isn't one song's ended it: `result` raises that."""
        if not self.over:
            return "running"
        if self._error is not None:
            return "failed"
        return "stopped" if self.why_stopped else "done"

    @property
    def seconds_left(self) -> float | None:
        """About how long the rest will take; None at the end, and while there is no song to learn it from."""
        left = self._left
        return None if left is None else max(0.0, left[0] - (time.monotonic() - left[1]))

    @property
    def time_left(self) -> str:
        """`seconds_left` in words, such as "12 min left, until 05:12"; "" where it isn't known."""
        left = self.seconds_left
        return "" if left is None else told(left, datetime.now().astimezone())

    @property
    def running(self) -> SongProgress | None:
        """The song that is being made now; of several, the first."""
        index = min(self._jobs, default=None)
        return None if index is None else self._progress(index)

    @property
    def rows(self) -> list[SongProgress]:
        """All songs, in their order."""
        return [self._progress(index) for index in range(self.total)]

    def cancel(self, row: int | None = None) -> None:
        """Cancel all: what is made is kept, and the same call goes on. row: only this song, by its number.

        Nothing happens to what has ended. Raises InvalidRequest for a row that there isn't.
        """
        if row is not None and not 1 <= row <= self.total:
            raise InvalidRequest(
                f"There is no row {row}: this {self.what} has {self.total}.", details={"fields": ["row"]}
            )
        with self._lock:
            if row is None:
                self.stopped = True
            else:
                self._unwanted.add(row - 1)
            unwanted = [job for index, job in self._jobs.items() if row in (None, index + 1)]
        for job in unwanted:
            job.cancel()
        self._tell()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended, and return whether it has. An interrupt ends the wait alone, and is raised.

        timeout: seconds; None: no limit.
        """
        return wait_for(self._ended, timeout)

    def result(self, timeout: float | None = None) -> _Result:
        """Return the report at the end. Raises what the call would have raised, or TimeoutError after `timeout` s."""
        if not self.wait(timeout):
            raise TimeoutError(f"The {self.what} has not ended within {timeout:g} s.")
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def __await__(self) -> Generator[Any, None, _Result]:
        return self._wait_async().__await__()

    async def _wait_async(self) -> _Result:
        while not self.over:  # noqa: ASYNC110 - the event is a thread's, and a kernel's interrupt must get through
            await asyncio.sleep(POLL_S)
        return self.result()

    def observe(self, observer: Callable[[], None]) -> Callable[[], None]:
        """Call `observer` when a song begins or ends, in any thread. Return the function that ends the calls."""
        self._observers.append(observer)

        def end() -> None:
            with suppress(ValueError):
                self._observers.remove(observer)

        return end

    def _repr_mimebundle_(self, **_asked: Any) -> Mapping[str, Any]:
        return self._present(self) or {"text/plain": repr(self)}

    # For those who make the songs, in their thread

    def _begin(self, index: int, job: JobHandle, seconds_left: float | None) -> None:
        """Note a song that is made now. seconds_left: of all, this song included."""
        with self._lock:
            self._jobs[index] = job
            wanted = not self.stopped and index not in self._unwanted
        if not wanted:  # that was said before there was a job to cancel
            job.cancel()
        self._left = None if seconds_left is None else (seconds_left, time.monotonic())
        self._tell()

    def is_cancelled(self, index: int) -> bool:
        """Return whether this song isn't wanted any more."""
        return index in self._unwanted

    def _running_values(self, index: int) -> dict[str, Any] | None:
        """Return what the job that makes song `index` says of it; None where none does."""
        job = self._jobs.get(index)
        if job is None:
            return None
        progress, metadata = job.progress, job.state.metadata
        return {
            "status": "running",
            "id": job.id,
            "title": metadata.title if metadata is not None else None,
            "percent": progress.overall_progress if progress is not None else 0.0,
            "stage": progress.status if progress is not None else "",
        }

    def _error_values(self, index: int, error: HarmoniaError) -> dict[str, Any]:
        """Return what is said of a song that ended with `error`."""
        if index in self._unwanted:
            return {"status": "cancelled", "remedy": "The same call makes it."}
        return {"status": "failed", "error": f"[{error.code}] {error.message}", "remedy": error.hint or ""}

    def _tell(self) -> None:
        for observer in tuple(self._observers):
            try:
                observer()
            except Exception:  # noqa: BLE001 - a defect in a view must not end the night
                _log.exception("A view of a %s failed.", self.what)


def told(seconds: float, now: datetime) -> str:
    """Return words such as "2 h 10 min left, until 05:12"."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s left"
    minutes = round(seconds / 60)
    length = f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
    if minutes >= 48 * 60:
        length = f"{minutes / 60 / 24:.1f} days"
    end = now + timedelta(seconds=seconds)
    return f"{length} left, until {end:%H:%M}" if end.date() == now.date() else f"{length} left, until {end:%a %H:%M}"
