"""Server → client: every event that the server sends, as one closed union (`ServerEvent`).

Owns that union, the events of the generation family (names on the wire, fields and units, what each means for the job,
which of them end a generation), and each family's rooms. The events of the job family and those about a connection are
in `job_events.py`, and are imported from here. A new event is a class, a member of the union, and a case in
`events/state.py`. Each field is described by the string under it, which `schema.py` reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import Field

from harmonia_lab.protocol.job_events import (
    FAMILIES,
    Channel,
    Count,
    DeliveryClass,
    ErrorInfo,
    Family,
    GenerationShared,
    JobCompletedEvent,
    JobEvent,
    JobFailedEvent,
    JobProgressEvent,
    JobStatusEvent,
    ServerHello,
    TokenExpiring,
    User,
    WireEvent,
)
from harmonia_lab.protocol.models import Instrument, Job, JobProgress, JobResult, Percentage, Song, SongMetadata
from harmonia_lab.protocol.sound import Followed, Measured
from harmonia_lab.protocol.text import Told
from harmonia_lab.protocol.wire_model import Timestamp, WireModel, utc_now

__all__ = [
    "EVENTS",
    "FAMILIES",
    "ROOMS",
    "AudioGenerationComplete",
    "AudioGenerationProgress",
    "AudioGenerationStarted",
    "AudioPreview",
    "Channel",
    "DeliveryClass",
    "ErrorInfo",
    "Event",
    "Family",
    "FamilyEvent",
    "GenerationCancelled",
    "GenerationError",
    "GenerationEvent",
    "GenerationShared",
    "GenerationTimeout",
    "JobCompletedEvent",
    "JobEvent",
    "JobFailedEvent",
    "JobProgressEvent",
    "JobStatusEvent",
    "LifecycleEvent",
    "MetadataGenerationComplete",
    "MetadataGenerationProgress",
    "MetadataGenerationStarted",
    "PartialMetadata",
    "ProgressEvent",
    "ServerEvent",
    "ServerHello",
    "StageName",
    "TokenExpiring",
    "User",
    "WireEvent",
    "for_admin",
    "linked",
    "rooms_of",
    "utc_now",
]

StageName = Literal["metadata", "audio", "unknown"]


class Event(WireEvent):
    """An event of the generation family."""

    family = "generation"
    generation_id: Told
    """The generation's id."""
    seq: Count = 0
    """The number of the last lifecycle event."""

    @property
    def channel(self) -> Channel:
        """The channel whose lifecycle events `seq` counts."""
        return Channel("generation", self.generation_id)

    @property
    def ends(self) -> bool:
        """Whether it is the last event of its family, unless the generation is tried again."""
        return False

    def for_job(self, job: Job, metadata: SongMetadata | None) -> list[JobEvent]:
        """Return what the event means for `job`, as events without `seq`.

        metadata: the song's, if stage 1 has written it or the request has given it.
        """
        del metadata
        started = self.delivery == "lifecycle" and job.status == "pending"
        return [JobStatusEvent(id=job.id, status="processing", emitted_at=self.emitted_at)] if started else []


class LifecycleEvent(Event):
    """An event that is journalled and never lost."""

    seq: Count = 0
    """1, 2, 3 … within one generation, without gaps."""

    delivery = "lifecycle"


class ProgressEvent(Event):
    """How far a stage is."""

    delivery = "progress"
    tick: Count = 0
    """Grows with each progress event of the generation; an event with a lower tick is out of date."""
    progress: Percentage
    """Percentage of the stage."""
    status: Told
    """What the stage is doing, for people to read."""
    overall_progress: Percentage
    """Percentage of the whole generation; never goes back within one attempt."""
    eta_seconds: Annotated[float, Field(ge=0)] | None = None
    """Estimated seconds until the song is done."""

    def for_job(self, job: Job, metadata: SongMetadata | None) -> list[JobEvent]:
        """Return `job:progress`, whose percentage never goes back."""
        del metadata
        percentage = max(job.progress.percentage, self.overall_progress)
        progress = JobProgress(current=int(percentage), percentage=percentage, message=self.status)
        return [JobProgressEvent(id=job.id, progress=progress, emitted_at=self.emitted_at)]


class MetadataGenerationStarted(LifecycleEvent):
    """Stage 1 begins."""

    name = "metadata-generation-started"
    user_id: Told
    """The user who started the generation."""
    narrative: Told
    """The story, as given."""
    timestamp: Timestamp = Field(default_factory=utc_now)
    """When it began."""
    model: Told
    """The language model's name."""


class PartialMetadata(WireModel):
    """What stage 1 has written so far; a field is absent until its text is complete."""

    title: Told | None = None
    """Plain text."""
    lyrics: Told | None = None
    """Sections as in `SongMetadata`."""
    genre: Told | None = None
    """Plain text."""
    mood: list[Told] | None = None
    """One to five words."""


class MetadataGenerationProgress(ProgressEvent):
    """Progress of stage 1."""

    name = "metadata-generation-progress"
    current_step: Literal["analysis", "title", "lyrics", "genre", "mood"]
    """What the language model is writing."""
    tokens_generated: Count | None = None
    """Tokens that the language model has generated so far."""
    partial: PartialMetadata | None = None
    """The metadata as far as it is written."""


class MetadataGenerationComplete(LifecycleEvent):
    """Stage 1 is done."""

    name = "metadata-generation-complete"
    metadata: SongMetadata
    """What stage 1 wrote."""
    duration: Annotated[float, Field(ge=0)]
    """Milliseconds that stage 1 took (the guide's unit here)."""


class AudioGenerationStarted(LifecycleEvent):
    """Stage 2 begins."""

    name = "audio-generation-started"
    song_id: Told
    """The song's id."""
    instruments: list[Instrument]
    """In the order of rendering."""
    duration: Annotated[float, Field(gt=0)]
    """Seconds of audio asked for (the guide's unit here)."""
    bpm: float
    """Quarter notes a minute."""


class AudioGenerationProgress(ProgressEvent):
    """Progress of stage 2."""

    name = "audio-generation-progress"
    current_instrument: Told | None = None
    """The instrument that is being rendered; absent while the engine loads, mixes or writes."""
    instruments_completed: Count
    """Instruments that are rendered."""
    total_instruments: Count
    """Instruments of the song."""


class AudioGenerationComplete(LifecycleEvent):
    """The song is done."""

    name = "audio-generation-complete"
    song_id: Told
    """The song's id, as in `audio-generation-started`."""
    audio_url: Told
    """A URL from which the song can be fetched for a while; each time the event is sent, it is signed anew."""
    duration: Annotated[float, Field(gt=0)]
    """Seconds of audio (the guide's unit here)."""
    file_size: Count
    """Size of the song's file in bytes."""
    checksum: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of the song's file, in hex."""
    follows: list[Followed] | None = None
    """What of the plan the sound follows: "notes" is all of it."""
    measured: Measured | None = None
    """Tempo and key as measured in the sound."""

    @classmethod
    def of(cls, song: Song) -> Self:
        """Return the event of a song on this machine's disk, with its file as the URL."""
        return cls(
            generation_id=song.generation_id,
            song_id=song.song_id,
            audio_url=Path(song.audio_path).as_uri(),
            duration=song.duration,
            file_size=song.file_size,
            checksum=song.checksum,
            follows=song.follows,
            measured=song.measured,
        )

    @property
    def ends(self) -> bool:
        return True

    def for_job(self, job: Job, metadata: SongMetadata | None) -> list[JobEvent]:
        result = JobResult(output_path=self.audio_url, metadata=metadata)
        progress = JobProgress(current=100, percentage=100.0, message="Done")
        done = job.ended("completed", self.emitted_at, result).model_copy(update={"progress": progress})
        return [
            # First, since a client that stops listening at the status must have it by then.
            JobCompletedEvent(job=done, emitted_at=self.emitted_at),
            JobStatusEvent(id=job.id, status="completed", emitted_at=self.emitted_at),
        ]


class GenerationError(LifecycleEvent):
    """A generation failed, or an attempt that recovery repeats."""

    name = "generation-error"
    error: ErrorInfo
    """Why."""
    stage: StageName
    """The stage that failed; "unknown" if there is no such generation."""
    final: bool
    """Whether the generation has ended; false while the server tries again by itself."""

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
    """The generation was cancelled, and has ended."""

    name = "generation-cancelled"
    reason: Literal["user_cancelled", "timeout", "system_error"]
    """Why it was cancelled."""
    cancelled_at: Timestamp = Field(default_factory=utc_now)
    """When it ended."""

    @property
    def ends(self) -> bool:
        return True

    def for_job(self, job: Job, metadata: SongMetadata | None) -> list[JobEvent]:
        del metadata
        cancelled = job.ended("cancelled", self.emitted_at)
        return [JobStatusEvent(id=job.id, status="cancelled", job=cancelled, emitted_at=self.emitted_at)]


class GenerationTimeout(LifecycleEvent):
    """A stage took too long, and is not tried again. `generation-cancelled` with reason "timeout" follows at once."""

    name = "generation-timeout"
    stage: StageName
    """The stage."""
    timeout_after: Annotated[float, Field(gt=0)]
    """The time limit that was exceeded, in seconds."""


class AudioPreview(Event):
    """A piece of the audio, while the rest is being rendered."""

    name = "audio-preview"
    delivery = "preview"
    instrument: Told | None = None
    """The instrument that it is of; absent for the mix."""
    index: Count
    """Numbers an instrument's pieces: 0, 1, 2 …"""
    start_seconds: Annotated[float, Field(ge=0)]
    """Where in the song the piece begins, in seconds."""
    mime_type: Literal["audio/wav", "audio/ogg"]
    """The format of `audio`."""
    audio: bytes
    """One whole, playable file, as a binary attachment."""

    def to_wire(self) -> dict[str, Any]:
        """Return the payload with `audio` as bytes, which Socket.IO sends beside the JSON."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"audio"}) | {"audio": self.audio}


GenerationEvent = (
    MetadataGenerationStarted
    | MetadataGenerationProgress
    | MetadataGenerationComplete
    | AudioGenerationStarted
    | AudioGenerationProgress
    | AudioGenerationComplete
    | GenerationError
    | GenerationCancelled
    | GenerationTimeout
)
"""The guide's nine generation events."""

ServerEvent = (
    GenerationEvent
    | JobStatusEvent
    | JobProgressEvent
    | JobCompletedEvent
    | JobFailedEvent
    | AudioPreview
    | ServerHello
    | TokenExpiring
    | GenerationShared
)
"""Every event that the server sends."""

FamilyEvent = Event | JobEvent
"""An event that goes to rooms: every event but those for one connection."""

EVENTS: dict[str, type[WireEvent]] = {cls.name: cls for cls in get_args(ServerEvent)}
"""Wire name → model, for every member of the union."""

ROOMS: dict[Family, tuple[str, ...]] = {
    "generation": ("generation-{generation_id}",),
    "job": ("job:{generation_id}", "user:{user_id}:jobs", "admin:jobs"),
}
"""The guide's rooms, by family. What goes to `admin:jobs` is passed through `for_admin` first."""


def rooms_of(event: FamilyEvent, user_id: str) -> tuple[str, ...]:
    """Return the rooms that `event` goes to. user_id: the owner's."""
    assert event.family is not None
    return tuple(room.format(generation_id=event.generation_id, user_id=user_id) for room in ROOMS[event.family])


_E = TypeVar("_E", bound=WireEvent)


def linked(event: _E, url: str) -> _E:
    """Return `event` with `url` in place of the song's URL, if it has one. Within the process that is a file's URI."""
    if isinstance(event, AudioGenerationComplete):
        return event.model_copy(update={"audio_url": url})
    if isinstance(event, JobCompletedEvent):
        return event.model_copy(update={"job": event.job.linked(url)})
    return event


def for_admin(event: _E) -> _E:
    """Return a job event without the song's title and lyrics, which only its owner and sharers may read."""
    if isinstance(event, JobCompletedEvent):
        return event.model_copy(update={"job": event.job.for_admin()})
    if isinstance(event, JobStatusEvent) and event.job is not None:
        return event.model_copy(update={"job": event.job.for_admin()})
    return event
