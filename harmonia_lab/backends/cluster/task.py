"""One task of Dask's for one song: who has claimed it, what comes from there, and when it is lost.

Owns the rule that one claim counts. Dask starts a dead worker's task again by itself, and a silent worker isn't dead:
so a task asks before it makes anything, a second claim ends the first one's task once that isn't heard any more, and
what an earlier task's worker still says is refused. What a loss means for the song is `generation.py`'s.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harmonia_lab._version import __version__
from harmonia_lab.backends.cluster.cluster import Cluster
from harmonia_lab.backends.cluster.frames import CHUNK_BYTES, SILENCE_S
from harmonia_lab.backends.cluster.listener import ConnectionEnd
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import AudioError, Cancelled, Disconnected, ErrorCode, HarmoniaError

__all__ = ["ClusterTask", "Grant", "WorkerLost"]

CHECK_S = 0.25
HEARD_S = 0.1
"""Seconds that a cancelled song waits for its worker's own end: a library that loads may hold the interpreter there."""
CANCEL_S = 2.0
"""Seconds after which a cancelled song ends whose worker isn't connected."""
SUBMITS = 3
"""How often a task is given to Dask which no worker could begin."""

_log = logging.getLogger(__name__)

Grant = Callable[[Mapping[str, Any]], tuple[dict[str, Any], list[tuple[str, Path | bytes]]]]
"""Gets what the claiming worker is. Returns the song, and the files that the worker needs, by their names there."""


class WorkerLost(HarmoniaError):
    """The worker that had claimed the song is gone, or wasn't heard. died: whether its process is known to be gone."""

    default_code = ErrorCode.INTERRUPTED

    def __init__(self, worker: str, *, died: bool) -> None:
        what = "died" if died else f"was not heard for {SILENCE_S:g} s"
        super().__init__(
            f"The worker {worker} that was making this song {what}.", hint="Try again: finished work is kept."
        )
        self.died = died


class ClusterTask:
    """A context: the task is given to Dask by `messages`, and is over at its end. One thread reads the messages; `wake`
    and `cancel` may be called from any."""

    def __init__(self, cluster: Cluster, wait_s: float, avoid: Collection[str] = (), unheard_s: float = 90.0) -> None:
        """wait_s: how long the song waits for a worker with a place, or for the scheduler. avoid: as
        `Cluster.submit` has it. unheard_s: how long a worker may go on with a song that was cancelled."""
        self._cluster, self._wait_s, self._avoid, self._unheard_s = cluster, wait_s, avoid, unheard_s
        self._cancelled_at: float | None = None
        self._left_behind = False
        """Whether the song has ended, and its worker may not have stopped yet."""
        self._name = secrets.token_hex(8)
        self._future: Any = None
        self._submits = 0
        self._silent: frozenset[str] = frozenset()
        """Workers that were silent when Dask got the task."""
        self._scheduler = ""
        """The id of the scheduler that got the task."""
        self._waits_since = time.monotonic()
        self._connection: ConnectionEnd | None = None
        self._down_since = 0.0
        self._looked = 0.0
        self._process: str | None = None
        self._last = 0
        self.worker: dict[str, Any] = {}
        """What the worker that has claimed the song says it is."""

    def __enter__(self) -> Self:
        self._inbox = self._cluster.listener.open(self._name)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._cluster.listener.forget(self._name)
        if self._connection is not None:
            self._connection.send({"ack": self._last})
            self._connection.send({"over": True})
            self._connection.close()
        if self._future is not None and self._left_behind:
            self._cluster.see_end(self._future, str(self.worker.get("address")), self._unheard_s)
        elif self._future is not None:
            with contextlib.suppress(Exception):  # Dask's client may be closed
                self._future.cancel() if error is not None else self._future.release()

    @property
    def claimed(self) -> bool:
        return self._process is not None

    def cancel(self, reason: str) -> None:
        """Tell the worker, and wake the reader."""
        self._cancelled_at = self._cancelled_at or time.monotonic()
        connection = self._connection
        if connection is not None:
            connection.send({"cancel": reason})
        self._inbox.put((None, None))

    def messages(self, grant: Grant, cancel: CancelToken) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Yield what the worker says, in order, each once; one that is yielded is acknowledged when the next is asked
        for, or at the context's end. There is no end: the caller knows the last message.

        Raises WorkerLost, Cancelled, AudioError (AUDIO_UNAVAILABLE) where no worker takes the song in time,
        Disconnected where there is no scheduler as long.
        """
        self._submit()
        while True:
            self._check_stopped(cancel)
            try:
                connection, message = self._inbox.get(timeout=HEARD_S if cancel.cancelled else CHECK_S)
            except queue.Empty:
                self._check(cancel)
                continue
            if connection is None or message is None:
                if connection is not None and connection is self._connection:
                    self._connection, self._down_since = None, time.monotonic()
                self._check(cancel)
                continue
            head, body = message
            if "claim" in head:
                self._take_claim(connection, head["claim"], grant, cancel)
            elif connection is self._connection:
                number = int(head.get("n", 0))
                if number and number <= self._last:
                    connection.send({"ack": self._last})
                    continue
                if number:
                    self._last = number
                yield head, body
                if number:
                    connection.send({"ack": number})

    def _submit(self) -> None:
        self._silent, self._scheduler = self._cluster.silent, self._cluster.scheduler
        self._future = self._cluster.submit(self._name, self._avoid)
        self._submits += self._future is not None

    def _take_claim(self, connection: ConnectionEnd, worker: dict[str, Any], grant: Grant, cancel: CancelToken) -> None:
        process = str(worker.get("process"))
        if self._process is None:
            self._check_version(worker)
            self._process, self._connection, self.worker = process, connection, worker
            _give(connection, *grant(worker))
        elif process == self._process:
            self._connection = connection
            if worker.get("begun"):
                connection.send({"again": self._last})
            else:  # the connection was cut before the song was there, with its files
                _give(connection, *grant(worker))
        elif self._connection is not None and time.monotonic() - self._connection.heard < SILENCE_S:
            connection.send({"wait": True})
            return
        else:  # Dask has started the task again, since the worker that had it is gone
            connection.send({"over": True})
            raise WorkerLost(self._worker_name, died=True)
        if cancel.cancelled:
            connection.send({"cancel": cancel.reason})

    def _check(self, cancel: CancelToken) -> None:
        if self._process is None:
            cancel.raise_if_cancelled()
            self._check_waiting()
        elif self._connection is None:
            self._check_cut(cancel)
        elif time.monotonic() - self._connection.heard > SILENCE_S:
            self._connection.close()
            raise WorkerLost(self._worker_name, died=False)

    def _check_stopped(self, cancel: CancelToken) -> None:
        """Raise if a person's cancel was not answered in time. A stage that is too long has `unheard_s` for its end."""
        if self._cancelled_at is None or self._connection is None or cancel.reason == "timeout":
            return
        if time.monotonic() - self._cancelled_at > HEARD_S:
            self._left_behind = True
            raise Cancelled

    def _check_waiting(self) -> None:
        """Give the task to Dask again, if it has lost it; raise if it can't be begun."""
        now = time.monotonic()
        status = None if self._future is None else self._future.status
        if status == "error" and self._submits >= SUBMITS:
            error = self._future.exception(timeout=1)
            raise AudioError(
                f"No worker of the cluster could begin the song: {type(error).__name__}.",
                code=ErrorCode.AUDIO_UNAVAILABLE,
                hint="Is the same version of harmonia-lab installed on every worker? Their logs say more.",
            )
        if status in ("cancelled", "lost", "error", None) and self._cluster.slots:
            self._submit()
        elif status == "pending" and self._cluster.slots and self._was_given_away:
            self._future.cancel()
            self._submit()
        if self._cluster.slots:
            self._waits_since = now
        elif now - self._waits_since > self._wait_s:
            why = self._cluster.without_slots
            if not self._cluster.connected:
                raise Disconnected(why)
            raise AudioError(why, code=ErrorCode.AUDIO_UNAVAILABLE)

    @property
    def _was_given_away(self) -> bool:
        """Whether Dask may have given the task to a worker that has become silent, or it was a scheduler's that has
        died, of whose tasks the one in its place knows nothing."""
        return bool(self._cluster.silent - self._silent) or self._cluster.scheduler != self._scheduler

    def _check_cut(self, cancel: CancelToken) -> None:
        """Raise if the worker that isn't connected is gone, or has been away for too long."""
        now = time.monotonic()
        if cancel.cancelled and now - self._down_since > CANCEL_S:
            raise Cancelled
        if now - self._looked > CHECK_S:
            self._looked = now
            workers = self._cluster.workers(now=True)
            if workers and self.worker.get("address") not in workers:
                raise WorkerLost(self._worker_name, died=True)
        if now - self._down_since > SILENCE_S:
            raise WorkerLost(self._worker_name, died=False)

    def _check_version(self, worker: Mapping[str, Any]) -> None:
        if worker.get("version") != __version__:
            raise AudioError(
                f"The worker {worker.get('worker')} has Harmonia Lab {worker.get('version')}, and this lab"
                f" {__version__}.",
                code=ErrorCode.AUDIO_UNAVAILABLE,
                hint="Install the same version on every worker.",
            )

    @property
    def _worker_name(self) -> str:
        return f"{self.worker.get('worker')} ({self.worker.get('host')})"


def _give(connection: ConnectionEnd, song: Mapping[str, Any], files: Sequence[tuple[str, Path | bytes]]) -> None:
    connection.send({"go": song})
    for name, content in files:
        _send_file(connection, name, content)
    connection.send({"begin": True})


def _send_file(connection: ConnectionEnd, name: str, content: Path | bytes) -> None:
    if isinstance(content, bytes):
        connection.send({"piece": name, "offset": 0}, content)
        return
    with content.open("rb") as file:
        connection.send({"piece": name, "offset": 0})  # an empty file comes, too
        offset = 0
        while data := file.read(CHUNK_BYTES):
            connection.send({"piece": name, "offset": offset}, data)
            offset += len(data)
