"""`LocalJob`: one generation of this process, from its place in the queue to its end.

Owns what a handle and the queue ask of a generation. `local.py` makes jobs, `job_queue.py` gives each its turn.
"""

from __future__ import annotations

import contextlib

from harmonia_lab.errors import HarmoniaError
from harmonia_lab.events.event_log import EventLog
from harmonia_lab.events.state import GenerationState
from harmonia_lab.generation.generation import Generation
from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.protocol.events import ErrorInfo, GenerationError
from harmonia_lab.protocol.models import Song

__all__ = ["LocalJob"]


class LocalJob:
    """The `JobBackend` of its own handle: the handle of an earlier attempt never gets the outcome of a later one."""

    handle: JobHandle
    log: EventLog
    generation: Generation

    @property
    def remaining_s(self) -> float:
        """Estimated seconds until the job is done, once it has its turn."""
        eta_s = self.handle.progress.eta_seconds if self.handle.progress is not None else None
        return self.generation.expected_s if eta_s is None else eta_s

    def fail(self, error: Exception) -> None:
        """End the job, whose generation raised `error`: a defect, which may have kept back the events of its end."""
        failure = HarmoniaError(f"A defect in Harmonia Lab: {type(error).__name__}: {error}")
        self.generation.outcome = failure
        with contextlib.suppress(Exception):  # the defect may be in what takes the events
            self.log(
                GenerationError(
                    generation_id=self.handle.id,
                    error=ErrorInfo.of(failure),
                    stage=self.handle.state.stage,
                    final=True,
                )
            )
        self.handle.fail(failure)  # for a log that has ended already

    def cancel(self, generation_id: str) -> bool:
        """As `JobBackend.cancel`. A job that waits for its turn ends at once: no worker has to stop first."""
        del generation_id
        waits = self.generation.status == "pending"
        return (waits and self.generation.abandon()) or self.generation.cancel()

    def abandon(self, generation_id: str) -> bool:
        del generation_id
        return self.generation.abandon()

    def outcome(self, state: GenerationState) -> Song:
        del state
        outcome = self.generation.outcome
        assert outcome is not None, "set before the event that ends the generation"
        if isinstance(outcome, HarmoniaError):
            raise outcome
        return outcome
