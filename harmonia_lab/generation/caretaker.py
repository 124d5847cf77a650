"""What a process does for its home while it has the journal open: it ends the songs of processes that exit meanwhile,
and deletes what is not to be kept.

Owns one thread, and how often it looks. `interrupted.py` decides how a song ends, `retention.py` what is deleted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from harmonia_lab.errors import HarmoniaError
from harmonia_lab.generation.interrupted import end_interrupted
from harmonia_lab.generation.retention import FRESH_S, Retention, clean
from harmonia_lab.protocol.events import FamilyEvent
from harmonia_lab.store.journal_core import JournalCore
from harmonia_lab.store.run_log import RunLog
from harmonia_lab.store.sounds import Sounds
from harmonia_lab.waiting import join

__all__ = ["Caretaker"]

LOOK_S = 1.0
"""Seconds between two looks for exited processes. A look takes a fifth of a millisecond."""

CLEAN_S = 3600.0
"""Seconds between two looks at the folder of songs."""

STOP_S = 5.0

_log = logging.getLogger(__name__)


class Caretaker:
    """`stop()` ends it. It is a daemon: nothing waits for it at an exit."""

    def __init__(
        self,
        journal: JournalCore,
        run_log: RunLog,
        songs: Path,
        retention: Retention,
        publish: Callable[[FamilyEvent], object],
        sounds: Sounds,
        is_needed: Callable[[], bool] = lambda: True,
    ) -> None:
        """publish: gets the events of the songs that end here. is_needed: returns False while another process looks
        after the home, and this one has to end that one's songs in a way of its own."""
        self._journal, self._run_log, self._publish, self._is_needed = journal, run_log, publish, is_needed
        self._songs, self._retention, self._sounds = songs, retention, sounds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="harmonia-caretaker", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread. Idempotent."""
        self._stopping.set()
        if self._thread is not threading.current_thread():
            join(self._thread, STOP_S)

    def _work(self) -> None:
        clean_at = time.monotonic()
        while not self._stopping.wait(LOOK_S):
            if not self._is_needed():
                continue
            try:
                for generation_id in end_interrupted(self._journal, self._run_log, self._publish):
                    _log.warning("Generation %s has ended: the process that made it has exited.", generation_id)
                if time.monotonic() >= clean_at:
                    clean_at = time.monotonic() + CLEAN_S
                    self._clean()
            except HarmoniaError as error:
                _log.debug("%s", error)
            except Exception:  # noqa: BLE001 - a defect must not keep later exits from being noticed
                _log.exception("A defect in looking after the home.")

    def _clean(self) -> None:
        done = clean(self._songs, self._journal, self._retention, fresh_s=FRESH_S)
        for deletion in done.deleted:
            _log.info("%s was deleted: %s.", deletion.folder.path.name, deletion.reason)
        if removed := self._sounds.clean():
            _log.info("%d uploaded sounds were deleted: no song has named them for a week.", removed)
