"""Which failures are tried again, after how long, and how often. Owns the policy; the retrying is `generation.py`'s."""

from __future__ import annotations

from dataclasses import dataclass

from harmonia_lab.errors import ErrorCode, HarmoniaError

__all__ = ["Recovery", "recovery_for"]


@dataclass(frozen=True)
class Recovery:
    """delay_s: how long to wait first. action: what is tried, as a status that a person reads."""

    delay_s: float
    action: str


_RECOVERIES = {
    ErrorCode.OLLAMA_UNAVAILABLE: Recovery(1.0, "Reconnecting to the language model..."),
    ErrorCode.OLLAMA_TIMEOUT: Recovery(1.0, "Reconnecting to the language model..."),
}


def recovery_for(error: HarmoniaError, attempt: int) -> Recovery | None:
    """What to try after `error` ended attempt number `attempt` (from 1); None when the error is final."""
    return _RECOVERIES.get(error.code) if attempt == 1 else None
