"""The lease by which servers that share a Redis know that this process lives.

Owns the thread that renews it, what is known of other processes' leases, and when Redis has come back. Leases run out
while Redis is away, since their ends are moments: nobody is known to be dead before Redis has been up, and this process
in touch with it, for longer than a lease.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from harmonia_lab.errors import StorageError
from harmonia_lab.store.process_liveness import LivenessLock
from harmonia_lab.store.reserve import Exit
from harmonia_lab.store.shared.connection import PREFIX, RedisConnection
from harmonia_lab.waiting import join

__all__ = ["BEAT_S", "LEASE_S", "Lease"]

LEASE_S = 10.0
BEAT_S = 3.0
"""Seconds between two renewals."""

AWAY_S = 0.5
"""Seconds between two tries while Redis is away."""

STOP_S = 5.0

_log = logging.getLogger(__name__)


class Lease:
    """Held from its making on; `stop()` gives it up. Any thread may call its methods."""

    def __init__(
        self,
        connection: RedisConnection,
        liveness: LivenessLock,
        about: Mapping[str, Any],
        returned: Callable[[], None],
        kept: Callable[[float], None],
    ) -> None:
        """about: what other servers may know of this one. returned: called in the lease's thread when Redis is back.
        kept: called after a renewal with the moment (monotonic) before which everything written is still there."""
        self._connection, self._name, self._returned, self._kept = connection, liveness.name, returned, kept
        self.about = dict(about)
        self.seconds = LEASE_S
        self._run_id = ""
        self._beat_at = self._steady_since = 0.0
        self._away = False
        self._stopping, self._wake = threading.Event(), threading.Event()
        self._beat()
        liveness.when_leaving(self._leave)
        self._thread = threading.Thread(target=self._work, name="harmonia-lease", daemon=True)
        self._thread.start()

    @property
    def away(self) -> bool:
        """Whether Redis did not answer last time."""
        return self._away

    def stop(self) -> None:
        """Idempotent."""
        if not self._stopping.is_set():
            self._stopping.set()
            self._wake.set()
            join(self._thread, STOP_S)
            self._leave()

    def tell(self, **about: Any) -> None:
        """Let the other servers know something of this one, soon."""
        self.about |= about
        self._wake.set()

    def exit_of(self, process: str) -> Exit | None:
        """Return how a process exited; None if it may live. Raise StorageError."""
        alive, left = self._connection.read_together(
            lambda ask: (ask.exists(f"{PREFIX}lease:{process}"), ask.exists(f"{PREFIX}left:{process}"))
        )
        steady = not self._away and time.monotonic() - self._steady_since > self.seconds
        if alive or not (left or steady):
            return None
        return Exit(died=not left)

    def about_process(self, process: str) -> dict[str, Any] | None:
        """Return what a living process says of itself; None if it doesn't live. Raise StorageError."""
        text = self._connection.read(lambda client: client.get(f"{PREFIX}lease:{process}"))
        return None if text is None else dict(json.loads(text))

    def _work(self) -> None:
        wait_s = BEAT_S
        while not self._stopping.is_set():
            self._wake.wait(wait_s)
            self._wake.clear()
            if self._stopping.is_set():
                return
            try:
                again = self._beat()
                if again or self._away:
                    self._away = False
                    _log.warning("%s is back.", self._connection.label)
                    self._returned()
                wait_s = BEAT_S
            except StorageError as error:
                if not self._away:
                    _log.warning("%s", error)
                self._away, wait_s = True, AWAY_S
            except Exception:  # noqa: BLE001 - without the lease, other servers would end this one's songs
                _log.exception("A defect in the lease.")
                wait_s = AWAY_S

    def _beat(self) -> bool:
        """Renew the lease. Return whether Redis has restarted since the last time."""
        at = time.monotonic()
        value = json.dumps(self.about)
        _, info = self._connection.read_together(
            lambda ask: (
                ask.set(f"{PREFIX}lease:{self._name}", value, px=round(self.seconds * 1000)),
                ask.info("server"),
            )
        )
        restarted = bool(self._run_id) and info["run_id"] != self._run_id
        if restarted or at - self._beat_at > self.seconds or not self._run_id:
            self._steady_since = at
        self._run_id, self._beat_at = info["run_id"], at
        if not restarted and not self._away:
            self._kept(at)
        return restarted

    def _leave(self) -> None:
        try:
            self._connection.call("leave", self._name)
        except StorageError as error:
            _log.debug("The lease runs out by itself. %s", error)
