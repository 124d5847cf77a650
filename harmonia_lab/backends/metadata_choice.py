"""The engine of a lab's stage 1, looked for when a song first needs it.

Owns when `engine_registry.choose_metadata` is called, once (not what it chooses).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from harmonia_lab.engine_registry import check_metadata, choose_metadata
from harmonia_lab.engines.base import (
    CancelToken,
    MetadataEngine,
    MetadataProgress,
    MetadataResult,
    Remedy,
    Renewable,
    fresh_engine,
    remedy_of,
)
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.protocol.models import SongRequest

__all__ = ["MetadataChoice"]

_log = logging.getLogger(__name__)


class MetadataChoice:
    """The engine of one lab's stage 1, chosen when it is first asked for: given metadata, or the log, need none.

    It is a `MetadataEngine` itself, for songs that need none.
    """

    def __init__(self, choice: str | MetadataEngine, model: str | None, settings: Mapping[str, Any]) -> None:
        """The arguments of `choose_metadata`. Raises InvalidRequest for an unknown name or setting."""
        self._arguments = (choice, model, settings)
        self._lock = threading.Lock()
        self._chosen: tuple[MetadataEngine, str] | None = None
        if not isinstance(choice, str):
            self._chosen = choose_metadata(choice, model, settings)
        else:
            check_metadata(choice, settings)

    @property
    def engine(self) -> MetadataEngine:
        """Raises MetadataError where the engine can't be had."""
        return self._choose()[0]

    @property
    def reason(self) -> str:
        """Why it is that one. Raises as `engine`."""
        return self._choose()[1]

    @property
    def name(self) -> str:
        return self.engine.name

    @property
    def model(self) -> str:
        return self.engine.model

    def write(
        self, request: SongRequest, seed: int, report: Callable[[MetadataProgress], None], cancel: CancelToken
    ) -> MetadataResult:
        return self.engine.write(request, seed, report, cancel)

    def renew(self, engine: object) -> MetadataEngine | None:
        """Replace the engine, in which a thread is stuck, and return the new one; None if `engine` is another one.

        An object that was given, and isn't `Renewable`, stays.
        """
        with self._lock:
            if self._chosen is None or self._chosen[0] is not engine:
                return None
            old, reason = self._chosen
            if isinstance(old, Renewable) or not isinstance(self._arguments[0], str):
                self._chosen = fresh_engine(old), reason
            else:
                self._chosen = choose_metadata(*self._arguments)
            return self._chosen[0]

    def recover(self, error: HarmoniaError, attempt: int, cancel: CancelToken) -> Remedy | None:
        return remedy_of(self.engine, error, attempt, cancel)

    def release(self) -> None:
        if self._chosen is not None:
            self._chosen[0].release()

    def close(self) -> None:
        if self._chosen is not None:
            self._chosen[0].close()

    def _choose(self) -> tuple[MetadataEngine, str]:
        with self._lock:
            if self._chosen is None:
                self._chosen = choose_metadata(*self._arguments)
                _log.info("Stage 1: %s (%s).", self._chosen[0].name, self._chosen[1])
            return self._chosen
