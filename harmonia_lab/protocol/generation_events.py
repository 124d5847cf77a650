"""The generation family: the guide's nine events, and `audio-preview`.

Owns their names on the wire, fields and units, what each means for the job (`for_job`), and which of them end a
generation (`ends`). Each field is described by the string under it, which `schema.py` reads.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from harmonia_lab.errors import HarmoniaError
from harmonia_lab.protocol.job_events import (
    Channel,
    Count,
    JobCompletedEvent,
    JobEvent,
    JobFailedEvent,
    JobProgressEvent,
    JobStatusEvent,
    WireEvent,
)
from harmonia_lab.protocol.models import (
    Instrument,
    Job,
    JobProgress,
    JobResult,
    Percentage,
    SongMetadata,
    Timestamp,
    WireModel,
    utc_now,
)

__all__ = [
    "AudioGenerationComplete",
    "AudioGenerationProgress",
    "AudioGenerationStarted",
    "AudioPreview",
    "ErrorInfo",
    "Event",
    "GenerationCancelled",
    "GenerationError",
    "GenerationTimeout",
    "LifecycleEvent",
    "MetadataGenerationComplete",
    "MetadataGenerationProgress",
    "MetadataGenerationStarted",
    "PartialMetadata",
    "ProgressEvent",
    "StageName",
]

StageName = Literal["metadata", "audio", "unknown"]


class Event(WireEvent):
    """An event of the generation family."""

    family = "generation"
    generation_id: str
    """Which generation."""
    seq: Count = 0
    """That of the last lifecycle event."""

    @property
    def channel(self) -> Channel:
        """Where its `seq` counts."""
        return Channel("generation", self.generation_id)

    @property
    def ends(self) -> bool:
        """Whether nothing follows it in its family, unless the generation is tried again."""
        return False

    def for_job(self, job: Job, metadata: SongMetadata | None) -> list[JobEvent]:
        """Return what the event means for `job`, as events without `seq`. metadata: what stage 1 wrote or was given."""
        del metadata
        started = self.delivery == "lifecycle" and job.status == "pending"
        return [JobStatusEvent(id=job.id, status="processing", emitted_at=self.emitted_at)] if started else []


class LifecycleEvent(Event):
    seq: Count = 0
    """1, 2, 3 … within one generation, without gaps."""

    delivery = "lifecycle"


class ProgressEvent(Event):
    delivery = "progress"
    tick: Count = 0
    """Only grows within one generation."""
    progress: Percentage
    """Percentage of the stage."""
    status: str
    """What is being done."""
    overall_progress: Percentage
    """Percentage of the whole generation; never goes back within one attempt."""
    eta_seconds: Annotated[float, Field(ge=0)] | None = None
    """Estimated seconds until the song is done."""

    def for_job(self, job: Job, metadata: SongMetadata | None) -> list[JobEvent]:
        """`job:progress`, which never goes back."""
        del metadata
        percentage = max(job.progress.percentage, self.overall_progress)
        progress = JobProgress(current=int(percentage), percentage=percentage, message=self.status)
        return [JobProgressEvent(id=job.id, progress=progress, emitted_at=self.emitted_at)]


class MetadataGenerationStarted(LifecycleEvent):
    """Stage 1 begins."""

    name = "metadata-generation-started"
    user_id: str
    """The owner."""
    narrative: str
    """The story, as given."""
    timestamp: Timestamp = Field(default_factory=utc_now)
    """When it began."""
    model: str
    """The language model's name."""


class PartialMetadata(WireModel):
    """What stage 1 has written so far."""

    title: str | None = None
    """Absent until they are known."""
    lyrics: str | None = None
    """Absent until they are known."""
    genre: str | None = None
    """Absent until they are known."""
    mood: list[str] | None = None
    """Absent until they are known."""


class MetadataGenerationProgress(ProgressEvent):
    """Stage 1 goes on."""

    name = "metadata-generation-progress"
    current_step: Literal["analysis", "title", "lyrics", "genre", "mood"]
    """What is being written."""
    tokens_generated: Count | None = None
    """So far."""
    partial: PartialMetadata | None = None
    """What is written."""


class MetadataGenerationComplete(LifecycleEvent):
    """Stage 1 is done."""

    name = "metadata-generation-complete"
    metadata: SongMetadata
    """What it wrote."""
    duration: Annotated[float, Field(ge=0)]
    """Milliseconds that it took (the guide's unit here)."""


class AudioGenerationStarted(LifecycleEvent):
    """Stage 2 begins."""

    name = "audio-generation-started"
    song_id: str
    """The song's name from here on."""
    instruments: list[Instrument]
    """In the order of rendering."""
    duration: Annotated[float, Field(gt=0)]
    """Seconds of audio asked for (the guide's unit here)."""
    bpm: float
    """Quarter notes a minute."""


class AudioGenerationProgress(ProgressEvent):
    """Stage 2 goes on."""

    name = "audio-generation-progress"
    current_instrument: str | None = None
    """The one being rendered; absent while loading, mixing and writing."""
    instruments_completed: Count
    """How many."""
    total_instruments: Count
    """How many."""


class AudioGenerationComplete(LifecycleEvent):
    """The song is done."""

    name = "audio-generation-complete"
    song_id: str
    """As when stage 2 began."""
    audio_url: str
    """Where it can be fetched, for a while: it is made anew each time the event is sent."""
    duration: Annotated[float, Field(gt=0)]
    """Seconds of audio (the guide's unit here)."""
    file_size: Count
    """Bytes."""
    checksum: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 in hex."""

    @property
    def ends(self) -> bool:
        return True

    def for_job(self, job: Job, metadata: SongMetadata | None) -> list[JobEvent]:
        result = JobResult(output_path=self.audio_url, metadata=metadata)
        progress = JobProgress(current=100, percentage=100.0, message="Done")
        done = job.ended("completed", self.emitted_at, result).model_copy(update={"progress": progress})
        return [
            # The result comes first: a listener that stops at the status must have had it.
            JobCompletedEvent(job=done, emitted_at=self.emitted_at),
            JobStatusEvent(id=job.id, status="completed", emitted_at=self.emitted_at),
        ]


class ErrorInfo(WireModel):
    code: str
    """One of the error codes."""
    message: str
    """What happened, and what to do next."""
    details: dict[str, Any] | None = None
    """What helps a program go on."""
    recoverable: bool
    """Whether a retry, unchanged, can succeed."""

    @classmethod
    def of(cls, error: HarmoniaError) -> Self:
        """Files go by their names: where this machine keeps them is nothing for whoever listens."""
        message, details = str(error), dict(error.details)
        for place in filter(None, (details.pop("path", None), details.pop("kept", None))):
            folder = str(Path(place).parent)
            message = message.replace(f"{folder}{os.sep}", "").replace(folder, "…")
        return cls(code=error.code, message=message, details=details or None, recoverable=error.recoverable)


class GenerationError(LifecycleEvent):
    """Something failed."""

    name = "generation-error"
    error: ErrorInfo
    """What."""
    stage: StageName
    """Where; "unknown" where there is no such generation."""
    final: bool
    """False while recovery is still being tried."""

    @property
    def ends(self) -> bool:
        return self.final

    def for_job(self, job: Job, metadata: SongMetadata | None) -> list[JobEvent]:
        if not self.final:
            return super().for_job(job, metadata)
        failed = job.ended("failed", self.emitted_at, JobResult(error=self.error.message))
        return [
            JobFailedEvent(
                id=job.id,
                error=self.error.message,
                code=self.error.code,
                recoverable=self.error.recoverable,
                emitted_at=self.emitted_at,
            ),
            JobStatusEvent(id=job.id, status="failed", job=failed, emitted_at=self.emitted_at),
        ]


class GenerationCancelled(LifecycleEvent):
    """It was stopped, and this is its end."""

    name = "generation-cancelled"
    reason: Literal["user_cancelled", "timeout", "system_error"]
    """By whom or what."""
    cancelled_at: Timestamp = Field(default_factory=utc_now)
    """When."""

    @property
    def ends(self) -> bool:
        return True

    def for_job(self, job: Job, metadata: SongMetadata | None) -> list[JobEvent]:
        del metadata
        cancelled = job.ended("cancelled", self.emitted_at)
        return [JobStatusEvent(id=job.id, status="cancelled", job=cancelled, emitted_at=self.emitted_at)]


class GenerationTimeout(LifecycleEvent):
    """A stage took too long, for good. `generation-cancelled` with reason "timeout" follows at once."""

    name = "generation-timeout"
    stage: StageName
    """Which."""
    timeout_after: Annotated[float, Field(gt=0)]
    """Seconds."""


class AudioPreview(Event):
    """Some of the audio while the rest is still being made."""

    name = "audio-preview"
    delivery = "preview"
    instrument: str | None = None
    """Whose it is; absent for the mix."""
    index: Count
    """0, 1, 2 … within one instrument."""
    start_seconds: Annotated[float, Field(ge=0)]
    """Where in the song it begins."""
    mime_type: Literal["audio/wav", "audio/ogg"]
    """Of `audio`."""
    audio: bytes
    """One whole, playable file, as a binary attachment."""

    def to_wire(self) -> dict[str, Any]:
        """`audio` stays bytes: Socket.IO sends it beside the JSON."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"audio"}) | {"audio": self.audio}
