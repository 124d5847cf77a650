"""Which failures are retried, after how long, and how often; and how generations of an exited process end.

Owns these rules. `generation.py` carries out the retries.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from harmonia_lab.errors import ErrorCode, HarmoniaError, StorageError
from harmonia_lab.events.event_log import EventLog
from harmonia_lab.events.state import GenerationState
from harmonia_lab.protocol.events import ErrorInfo, GenerationError
from harmonia_lab.protocol.models import SongRequest, iso_time
from harmonia_lab.store.journal import Journal
from harmonia_lab.store.run_log import RunLog

__all__ = ["Recovery", "fail_interrupted", "interrupted_error", "recovery_for"]


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recovery:
    """delay_s: seconds to wait before the retry. action: what is tried, as a status for people."""

    delay_s: float
    action: str


_RECOVERIES = {
    ErrorCode.OLLAMA_UNAVAILABLE: Recovery(1.0, "Reconnecting to the language model..."),
    ErrorCode.OLLAMA_TIMEOUT: Recovery(1.0, "Reconnecting to the language model..."),
}


def recovery_for(error: HarmoniaError, attempt: int) -> Recovery | None:
    """Return what to try after `error` ended attempt number `attempt` (from 1), or None if the error is final."""
    return _RECOVERIES.get(error.code) if attempt == 1 else None


def interrupted_error() -> HarmoniaError:
    """Return the error of a generation whose process exited before it was done."""
    return HarmoniaError(
        "The process that was making this song ended before it was done.",
        code=ErrorCode.INTERRUPTED,
        hint="Try again: finished work is kept.",
    )


def fail_interrupted(journal: Journal, run_log: RunLog) -> list[str]:
    """Fail with INTERRUPTED the generations that exited processes left pending or running; return their ids.

    Each gets its row in the run log, unless its process had written one. To be called when a process opens the journal,
    and when a process that it started has exited.
    """
    ended = []
    for state in journal.interrupted():
        error = ErrorInfo.of(interrupted_error())
        # The row comes first: if this process is killed now, the next one finds the generation, and its row.
        _log_interrupted(state, journal, run_log)
        EventLog(state, journal)(GenerationError(generation_id=state.id, error=error, stage=state.stage, final=True))
        ended.append(state.id)
    return ended


def _log_interrupted(state: GenerationState, journal: Journal, run_log: RunLog) -> None:
    try:
        row = journal.last_attempt(state.id) or _row_of(state, journal.request(state.id))
        if not run_log.has(row["run_id"]):
            run_log.append(row | {"status": "failed", "error_code": ErrorCode.INTERRUPTED, "stage": state.stage})
    except (StorageError, KeyError) as error:  # KeyError: the kept row is damaged, or has columns of a newer version
        _log.warning("The interrupted generation %s could not be logged. %s", state.id, error)


def _row_of(state: GenerationState, request: SongRequest) -> dict[str, Any]:
    """Return what the journal knows of an attempt that an older version of Harmonia Lab began: not its number."""
    return {
        "run_id": f"{state.id}-interrupted",
        "generation_id": state.id,
        "started_at": iso_time(state.started_at or state.kept_job.created_at),
        "seed": request.seed,
        "narrative_characters": len(request.narrative),
        "seconds_requested": request.seconds,
    }
