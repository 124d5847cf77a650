"""The engine that "auto" takes where the expected one failed: it says so in every song, and is otherwise itself.

Owns where the warning is said. Which engine stands in for which is decided in `engine_registry.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from harmonia_lab.engines.base import (
    CancelToken,
    MetadataEngine,
    MetadataProgress,
    MetadataResult,
    Remedy,
    fresh_engine,
    processes_of,
    remedy_of,
)
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.protocol.models import SongRequest

__all__ = ["StandInEngine"]


class StandInEngine:
    """A `MetadataEngine`: another one, whose songs carry a warning in their metadata, their record and an event."""

    def __init__(self, engine: MetadataEngine, warning: str) -> None:
        self.name = engine.name
        self.warning = warning
        self._engine = engine

    @property
    def model(self) -> str:
        return self._engine.model

    def write(
        self, request: SongRequest, seed: int, report: Callable[[MetadataProgress], None], cancel: CancelToken
    ) -> MetadataResult:
        report(MetadataProgress(0.0, "analysis", self.warning))
        result = self._engine.write(request, seed, report, cancel)
        warnings = [self.warning, *result.metadata.warnings]
        return replace(
            result,
            metadata=result.metadata.model_copy(update={"warnings": warnings}),
            record={**result.record, "warnings": [self.warning]},
        )

    def process_ids(self) -> Sequence[int]:
        return processes_of(self._engine)

    def recover(self, error: HarmoniaError, attempt: int, cancel: CancelToken) -> Remedy | None:
        return remedy_of(self._engine, error, attempt, cancel)

    def fresh(self) -> StandInEngine:
        return StandInEngine(fresh_engine(self._engine), self.warning)

    def release(self) -> None:
        self._engine.release()

    def close(self) -> None:
        self._engine.close()
