"""Where one generation stands: what its two families of events add up to, for who comes late or starts again.

Owns that sum and the check that no lifecycle event is missing from it. Keeping it is `journal.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from harmonia_lab.client.store import reduce_job
from harmonia_lab.protocol.commands import LastProgress, Snapshot
from harmonia_lab.protocol.events import (
    AudioGenerationComplete,
    AudioGenerationStarted,
    FamilyEvent,
    JobEvent,
    JobProgressEvent,
    MetadataGenerationComplete,
    MetadataGenerationStarted,
    ProgressEvent,
    StageName,
)
from harmonia_lab.protocol.models import Job, JobProgress, SongMetadata, SongRequest

__all__ = ["Standing", "after"]


@dataclass(frozen=True)
class Standing:
    """Where a generation stands. seq, tick, job_seq, job_tick: the last that were given out, by family.
    song: the file, once there is one. metadata: what stage 1 wrote or was given."""

    owner: str
    request: SongRequest
    job: Job
    stage: StageName
    seq: int = 0
    tick: int = 0
    job_seq: int = 0
    job_tick: int = 0
    song: Path | None = None
    progress: ProgressEvent | None = None
    metadata: SongMetadata | None = None

    def latest_progress(self) -> list[FamilyEvent]:
        """The latest progress event of each family that is still under way."""
        found: list[FamilyEvent] = [] if self.progress is None else [self.progress]
        if self.job.status == "processing" and self.job.progress != JobProgress():
            found.append(
                JobProgressEvent(
                    id=self.job.id,
                    progress=self.job.progress,
                    seq=self.job_seq,
                    tick=self.job_tick,
                    emitted_at=self.job.updated_at,
                )
            )
        return found

    def snapshot(self) -> Snapshot:
        """As the wire has it; `job.result.outputPath` is still the file's URI."""
        progress = None
        if self.progress is not None:
            progress = LastProgress.model_validate({"event": self.progress.name, "data": self.progress})
        return Snapshot(
            generation_id=self.job.id,
            status=self.job.status,
            stage=self.stage,
            seq=self.seq,
            job_seq=self.job_seq,
            job=self.job,
            progress=progress,
        )


def after(standing: Standing, event: FamilyEvent) -> Standing:
    """Where the generation stands after `event`.

    Raises ValueError for a lifecycle event that isn't the next of its family: that would be a gap nobody could fill.
    """
    seq = standing.job_seq if isinstance(event, JobEvent) else standing.seq
    if event.delivery == "lifecycle" and event.seq != seq + 1:
        raise ValueError(f"{event.name} of {event.generation_id} has seq {event.seq} after {seq}")
    if isinstance(event, JobEvent):
        job = reduce_job(standing.job, event) or standing.job
        tick = event.tick if isinstance(event, JobProgressEvent) else standing.job_tick
        progress = None if job.status == "pending" else standing.progress
        return replace(standing, job=job, job_seq=event.seq, job_tick=tick, progress=progress)
    if isinstance(event, ProgressEvent):
        return replace(standing, tick=event.tick, progress=event)
    if event.delivery != "lifecycle":
        return standing
    if isinstance(event, MetadataGenerationStarted):
        standing = replace(standing, stage="metadata")
    elif isinstance(event, MetadataGenerationComplete):
        standing = replace(standing, metadata=event.metadata)
    elif isinstance(event, AudioGenerationStarted):
        standing = replace(standing, stage="audio")
    elif isinstance(event, AudioGenerationComplete):
        standing = replace(standing, song=_path_of(event.audio_url))
    return replace(standing, seq=event.seq)


def _path_of(url: str) -> Path | None:
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None
