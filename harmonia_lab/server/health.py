"""Whether this server can serve, and the state of the engines that make its songs.

Owns both answers, and how long each holds. A server that can't make songs for now still serves: clients join, replay
and download. So engines never make it unready. Nothing here runs in the event loop: a disk or an Ollama server can
hang.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

from harmonia_lab.errors import ErrorCode, HarmoniaError
from harmonia_lab.protocol.events import AudioGenerationComplete, FamilyEvent, GenerationError
from harmonia_lab.server.descriptors import Descriptors
from harmonia_lab.server.served_lab import ServedLab

__all__ = ["ENGINES_KEPT_S", "EngineState", "Health", "Readiness"]

READY_S = 1.0
"""Seconds for which an answer of `/readyz` holds: anybody may ask, and each looks at the disk."""

ENGINES_KEPT_S = 5.0
ANSWER_S = 3.0
"""Seconds that stage 1's server has to answer."""

CLOSE_S = 1.0

SMALLEST_FREE = 4 * 2**20
"""Bytes that must be free where the journal is: a full disk loses a song's replay."""

_MISSING = (ErrorCode.AUDIO_UNAVAILABLE, ErrorCode.MUSICGEN_UNAVAILABLE)

_log = logging.getLogger(__name__)


class Readiness(NamedTuple):
    """code: of what keeps the server from serving; None if nothing does. checks: "ok" or a code, by what is checked."""

    code: ErrorCode | None
    checks: dict[str, str]


class EngineState(NamedTuple):
    """state: "ready", "unknown" before the first answer, or the code of the error that its songs would end with."""

    stage: Literal["metadata", "audio"]
    engine: str
    state: str


class Health:
    """Any thread may call its methods, but for the event loop's: `readiness` waits for the disk. `health(event)` learns
    from songs whether stage 2's engine is there, as a fan-out listener."""

    def __init__(self, lab: ServedLab, descriptors: Descriptors, clock: Callable[[], float] = time.monotonic) -> None:
        self._lab, self._descriptors, self._clock = lab, descriptors, clock
        self._lock = threading.Lock()
        self._readiness: tuple[float, Readiness] | None = None
        self._asked_at: float | None = None
        self._asking: threading.Thread | None = None
        self._metadata = "unknown"
        self._audio = "ready"

    def __call__(self, event: FamilyEvent) -> None:
        if isinstance(event, AudioGenerationComplete):
            self._audio = "ready"
        elif isinstance(event, GenerationError) and event.error.code in _MISSING:
            self._audio = event.error.code

    def readiness(self) -> Readiness:
        """Return whether sockets can be served: that needs the journal, room on its disk, and file descriptors."""
        with self._lock:
            if self._readiness is None or self._clock() >= self._readiness[0] + READY_S:
                checks = {"journal": self._journal(), "disk": self._disk(), "descriptors": self._file_descriptors()}
                faults = [ErrorCode(found) for name, found in checks.items() if found != "ok" and self._needs(name)]
                self._readiness = self._clock(), Readiness(faults[0] if faults else None, checks)
            return self._readiness[1]

    def engines(self) -> list[EngineState]:
        """Return the engines' state as it was known last, and ask again in a thread if that is older than 5 s."""
        now = self._clock()
        with self._lock:
            asking = self._asking is not None and self._asking.is_alive()
            if not asking and (self._asked_at is None or now >= self._asked_at + ENGINES_KEPT_S):
                self._asked_at = now
                self._asking = threading.Thread(target=self._ask, name="harmonia-health", daemon=True)
                self._asking.start()
        return [
            EngineState("metadata", self._lab.metadata_engine.name, self._metadata),
            EngineState("audio", self._lab.audio_engine.name, self._audio),
        ]

    def close(self) -> None:
        """Wait for the thread that asks, CLOSE_S at most."""
        if self._asking is not None:
            self._asking.join(CLOSE_S)

    def free_bytes(self) -> int | None:
        """Return the bytes that are free on the journal's disk."""
        try:
            return shutil.disk_usage(self._lab.journal.path.parent).free
        except OSError:
            return None

    def _ask(self) -> None:
        try:
            self._lab.language_models(ANSWER_S)
            self._metadata = "ready"
        except HarmoniaError as error:
            self._metadata = str(error.code)
        except Exception:  # noqa: BLE001 - another package's engine must not end in a traceback every five seconds
            _log.debug("Stage 1's engine could not be asked.", exc_info=True)
            self._metadata = str(ErrorCode.INTERNAL)

    def _journal(self) -> str:
        try:
            self._lab.journal.check()
        except HarmoniaError as error:
            return str(error.code)
        return "ok"

    def _disk(self) -> str:
        free = self.free_bytes()
        if free is None:
            return str(ErrorCode.STORAGE_UNWRITABLE)
        return "ok" if free >= SMALLEST_FREE else str(ErrorCode.STORAGE_FULL)

    def _needs(self, check: str) -> bool:
        """Whether a server can't serve without what was checked. Without Redis, all servers would be unready at once,
        and nobody would be told why: songs go on, and commands are answered that it is away."""
        return check != "journal" or self._lab.shared is None

    def _file_descriptors(self) -> str:
        try:
            newest = os.open(os.devnull, os.O_RDONLY)
        except OSError:
            return str(ErrorCode.RATE_LIMITED)
        os.close(newest)
        return str(ErrorCode.RATE_LIMITED) if self._descriptors.are_scarce(newest) else "ok"
