"""Which failures are retried, after how long, and how often; and how generations of an exited process end.

Owns these rules. `generation.py` carries out the retries.
"""

from __future__ import annotations

from dataclasses import dataclass

from harmonia_lab.errors import ErrorCode, HarmoniaError
from harmonia_lab.events.event_log import EventLog
from harmonia_lab.protocol.events import ErrorInfo, GenerationError
from harmonia_lab.store.journal import Journal

__all__ = ["Recovery", "fail_interrupted", "interrupted_error", "recovery_for"]


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


def fail_interrupted(journal: Journal) -> list[str]:
    """Fail with INTERRUPTED the generations that exited processes left pending or running; return their ids.

    To be called when a process opens the journal, and when a process that it started has exited.
    """
    ended = []
    for state in journal.interrupted():
        error = ErrorInfo.of(interrupted_error())
        EventLog(state, journal)(GenerationError(generation_id=state.id, error=error, stage=state.stage, final=True))
        ended.append(state.id)
    return ended
