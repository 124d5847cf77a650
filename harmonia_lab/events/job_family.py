"""A generation as a job: generation events in, the same events with the job family's after them out.

Owns what each generation event means for the job, and the numbering of the job family. It keeps and sends nothing.
"""

from __future__ import annotations

from datetime import datetime

from harmonia_lab.client.store import reduce_job
from harmonia_lab.protocol.events import (
    AudioGenerationComplete,
    Event,
    FamilyEvent,
    GenerationCancelled,
    GenerationError,
    JobCompletedEvent,
    JobEvent,
    JobFailedEvent,
    JobProgressEvent,
    JobStatusEvent,
    LifecycleEvent,
    MetadataGenerationComplete,
    ProgressEvent,
)
from harmonia_lab.protocol.models import Job, JobProgress, JobResult, JobStatus, SongMetadata, utc_now

__all__ = ["JobView"]


class JobView:
    """Follows one generation. Not for several threads at once: events have one order."""

    def __init__(self, job: Job, *, metadata: SongMetadata | None = None, seq: int = 0, tick: int = 0) -> None:
        """job: as it stands. metadata: where stage 1 is skipped or done. seq, tick: the last that were given out."""
        self.job = job
        self._metadata = metadata
        self._seq = seq
        self._tick = tick

    def queued(self, *, position: int | None = None, eta_seconds: float | None = None) -> JobEvent:
        """It waits: for the first time, at another place in the queue, or to be tried again.

        position: how many come before it. A job that is new or had ended is announced whole.
        """
        now = utc_now()
        announced = None
        if self._seq == 0 or self.job.status != "pending":
            announced = self.job.model_copy(
                update={"status": "pending", "progress": JobProgress(), "updated_at": now, "result": None}
            )
        status = JobStatusEvent(
            id=self.job.id,
            status="pending",
            job=announced,
            position=position,
            eta_seconds=eta_seconds,
            emitted_at=now,
        )
        return self._number(status)

    def observe(self, event: Event) -> list[FamilyEvent]:
        """`event`, then what it means for the job."""
        return [event, *(self._number(each) for each in self._meaning(event))]

    def _meaning(self, event: Event) -> list[JobEvent]:
        moment, job_id = event.emitted_at, self.job.id
        if isinstance(event, ProgressEvent):
            percentage = max(self.job.progress.percentage, event.overall_progress)
            progress = JobProgress(current=int(percentage), percentage=percentage, message=event.status)
            return [JobProgressEvent(id=job_id, progress=progress, emitted_at=moment)]
        if isinstance(event, MetadataGenerationComplete):
            self._metadata = event.metadata
        if isinstance(event, AudioGenerationComplete):
            done = self._ended("completed", moment, JobResult(output_path=event.audio_url, metadata=self._metadata))
            done = done.model_copy(update={"progress": JobProgress(current=100, percentage=100.0, message="Done")})
            # The result first: who stops listening at the status must have had it.
            return [
                JobCompletedEvent(job=done, emitted_at=moment),
                JobStatusEvent(id=job_id, status="completed", emitted_at=moment),
            ]
        if isinstance(event, GenerationError) and event.final:
            error = event.error
            failed = self._ended("failed", moment, JobResult(error=error.message))
            return [
                JobFailedEvent(
                    id=job_id, error=error.message, code=error.code, recoverable=error.recoverable, emitted_at=moment
                ),
                JobStatusEvent(id=job_id, status="failed", job=failed, emitted_at=moment),
            ]
        if isinstance(event, GenerationCancelled):
            cancelled = self._ended("cancelled", moment, None)
            return [JobStatusEvent(id=job_id, status="cancelled", job=cancelled, emitted_at=moment)]
        if isinstance(event, LifecycleEvent) and self.job.status == "pending":
            return [JobStatusEvent(id=job_id, status="processing", emitted_at=moment)]
        return []

    def _ended(self, status: JobStatus, moment: datetime, result: JobResult | None) -> Job:
        """With the progress that it had: who missed that learns it now."""
        return self.job.model_copy(update={"status": status, "updated_at": moment, "result": result})

    def _number(self, event: JobEvent) -> JobEvent:
        stamp = {}
        if event.delivery == "lifecycle":
            self._seq += 1
        else:
            self._tick += 1
            stamp["tick"] = self._tick
        numbered = event.model_copy(update={**stamp, "seq": self._seq})
        self.job = reduce_job(self.job, numbered) or self.job
        return numbered
