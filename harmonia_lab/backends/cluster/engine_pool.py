"""The engines that a worker keeps between songs.

Owns which are loaded: one set for each lab's settings, and as many of it as songs use it at once.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from harmonia_lab.backends.metadata_choice import MetadataChoice
from harmonia_lab.engine_registry import AudioEngines

__all__ = ["EnginePool", "EngineSet"]

IDLE_SETS = 2
"""Of other settings that are kept loaded while nobody uses them: models are large."""


class EngineSet:
    """One lab's engines. settings: the lab's parameters that choose them, as plain JSON values."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Raises InvalidRequest, or the error of an engine that isn't here."""
        self.metadata = MetadataChoice(settings["metadata"], settings["model"], settings["metadata_settings"])
        self.audio = AudioEngines(settings["audio"], settings["audio_model"], settings["audio_settings"])

    def close(self) -> None:
        self.metadata.close()
        self.audio.close()


class EnginePool:
    """Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[tuple[str, EngineSet]] = []
        self.made = 0
        """How many sets were made."""

    @contextlib.contextmanager
    def lend(self, settings: Mapping[str, Any]) -> Iterator[EngineSet]:
        """Lend the engines of a lab to one song. Raises as `EngineSet`."""
        key = json.dumps(settings, sort_keys=True)
        with self._lock:
            found = next((each for each in self._idle if each[0] == key), None)
            if found is not None:
                self._idle.remove(found)
            else:
                self.made += 1
        engines = found[1] if found is not None else EngineSet(settings)
        try:
            yield engines
        finally:
            with self._lock:
                self._idle.append((key, engines))
                surplus, self._idle = self._idle[:-IDLE_SETS], self._idle[-IDLE_SETS:]
            for _, each in surplus:
                each.close()

    def close(self) -> None:
        """Close what isn't lent."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, each in idle:
            each.close()
