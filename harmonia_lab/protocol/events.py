"""Server → client: everything that the server says, as one closed union (`ServerEvent`).

Owns the wire names, fields and units of the guide's nine generation events and four job events, and of what we add
(`server-hello`, `token-expiring`, `audio-preview`); which of them are *lifecycle* (numbered by `seq`, kept, replayed)
and which are *progress* (latest wins, numbered by `tick`); and the rooms that each goes to. Who emits them when is the
pipeline's business.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeVar, get_args

from pydantic import Field

from harmonia_lab.errors import HarmoniaError
from harmonia_lab.protocol.models import (
    ENDED,
    Instrument,
    Job,
    JobProgress,
    JobResult,
    JobStatus,
    Percentage,
    SongMetadata,
    Timestamp,
    WireModel,
    utc_now,
)

__all__ = [
    "EVENTS",
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
Family = Literal["generation", "job"]
DeliveryClass = Literal["lifecycle", "progress", "preview", "direct"]
"""lifecycle: journalled before it is sent, never dropped, replayed. progress: latest wins. preview: not kept; a slow
client loses it. direct: to one socket, about its own connection."""


class Channel(NamedTuple):
    """One family of one generation: what has a `seq` of its own."""

    family: Family
    generation_id: str


class WireEvent(WireModel):
    """emitted_at: when it happened."""

    name: ClassVar[str]
    family: ClassVar[Family | None] = None
    delivery: ClassVar[DeliveryClass] = "direct"
    emitted_at: Timestamp = Field(default_factory=utc_now)


class Event(WireEvent):
    """An event of the generation family. generation_id: which generation. seq: that of the last lifecycle event."""

    family = "generation"
    generation_id: str
    seq: Annotated[int, Field(ge=0)] = 0

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
    """seq: 1, 2, 3 … within one generation, without gaps."""

    delivery = "lifecycle"


class ProgressEvent(Event):
    """tick: only grows within one generation. progress: percentage of the stage. status: what is being done.
    overall_progress: percentage of the whole generation; never goes back within one attempt. eta_seconds: estimated
    seconds until the song is done.
    """

    delivery = "progress"
    tick: Annotated[int, Field(ge=0)] = 0
    progress: Percentage
    status: str
    overall_progress: Percentage
    eta_seconds: Annotated[float, Field(ge=0)] | None = None

    def for_job(self, job: Job, metadata: SongMetadata | None) -> list[JobEvent]:
        """`job:progress`, which never goes back."""
        del metadata
        percentage = max(job.progress.percentage, self.overall_progress)
        progress = JobProgress(current=int(percentage), percentage=percentage, message=self.status)
        return [JobProgressEvent(id=job.id, progress=progress, emitted_at=self.emitted_at)]


class MetadataGenerationStarted(LifecycleEvent):
    """Stage 1 begins. user_id: the owner. narrative: the story, as given. timestamp: when it began.
    model: the language model's name."""

    name = "metadata-generation-started"
    user_id: str
    narrative: str
    timestamp: Timestamp = Field(default_factory=utc_now)
    model: str


class PartialMetadata(WireModel):
    """What stage 1 has written so far. title, lyrics, genre, mood: absent until they are known."""

    title: str | None = None
    lyrics: str | None = None
    genre: str | None = None
    mood: list[str] | None = None


class MetadataGenerationProgress(ProgressEvent):
    """Stage 1 goes on. current_step: what is being written. tokens_generated: so far. partial: what is written."""

    name = "metadata-generation-progress"
    current_step: Literal["analysis", "title", "lyrics", "genre", "mood"]
    tokens_generated: Annotated[int, Field(ge=0)] | None = None
    partial: PartialMetadata | None = None


class MetadataGenerationComplete(LifecycleEvent):
    """Stage 1 is done. metadata: what it wrote. duration: milliseconds that it took (the guide's unit here)."""

    name = "metadata-generation-complete"
    metadata: SongMetadata
    duration: Annotated[float, Field(ge=0)]


class AudioGenerationStarted(LifecycleEvent):
    """Stage 2 begins. song_id: the song's name from here on. instruments: in the order of rendering.
    duration: seconds of audio asked for (the guide's unit here). bpm: quarter notes a minute."""

    name = "audio-generation-started"
    song_id: str
    instruments: list[Instrument]
    duration: Annotated[float, Field(gt=0)]
    bpm: float


class AudioGenerationProgress(ProgressEvent):
    """Stage 2 goes on. current_instrument: the one being rendered; absent while loading, mixing and writing.
    instruments_completed, total_instruments: how many."""

    name = "audio-generation-progress"
    current_instrument: str | None = None
    instruments_completed: Annotated[int, Field(ge=0)]
    total_instruments: Annotated[int, Field(ge=0)]


class AudioGenerationComplete(LifecycleEvent):
    """The song is done. song_id: as when stage 2 began. audio_url: where it can be fetched, for a while: it is made
    anew each time the event is sent. duration: seconds of audio (the guide's unit here). file_size: bytes.
    checksum: SHA-256 in hex."""

    name = "audio-generation-complete"
    song_id: str
    audio_url: str
    duration: Annotated[float, Field(gt=0)]
    file_size: Annotated[int, Field(ge=0)]
    checksum: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

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
    """code: one of the error codes. message: what happened, and what to do next. details: what helps a program go on.
    recoverable: whether a retry, unchanged, can succeed."""

    code: str
    message: str
    details: dict[str, Any] | None = None
    recoverable: bool

    @classmethod
    def of(cls, error: HarmoniaError) -> Self:
        """Files go by their names: where this machine keeps them is nothing for whoever listens."""
        message, details = str(error), dict(error.details)
        for place in filter(None, (details.pop("path", None), details.pop("kept", None))):
            folder = str(Path(place).parent)
            message = message.replace(f"{folder}{os.sep}", "").replace(folder, "…")
        return cls(code=error.code, message=message, details=details or None, recoverable=error.recoverable)


class GenerationError(LifecycleEvent):
    """Something failed. error: what. stage: where; "unknown" where there is no such generation. final: false while
    recovery is still being tried."""

    name = "generation-error"
    error: ErrorInfo
    stage: StageName
    final: bool

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
    """It was stopped, and this is its end. reason: by whom or what. cancelled_at: when."""

    name = "generation-cancelled"
    reason: Literal["user_cancelled", "timeout", "system_error"]
    cancelled_at: Timestamp = Field(default_factory=utc_now)

    @property
    def ends(self) -> bool:
        return True

    def for_job(self, job: Job, metadata: SongMetadata | None) -> list[JobEvent]:
        del metadata
        cancelled = job.ended("cancelled", self.emitted_at)
        return [JobStatusEvent(id=job.id, status="cancelled", job=cancelled, emitted_at=self.emitted_at)]


class GenerationTimeout(LifecycleEvent):
    """A stage took too long, for good. `generation-cancelled` with reason "timeout" follows at once.
    stage: which. timeout_after: seconds."""

    name = "generation-timeout"
    stage: StageName
    timeout_after: Annotated[float, Field(gt=0)]


class AudioPreview(Event):
    """Some of the audio while the rest is still being made. instrument: whose it is; absent for the mix.
    index: 0, 1, 2 … within one instrument. start_seconds: where in the song it begins. mime_type: of `audio`.
    audio: one whole, playable file, as a binary attachment.
    """

    name = "audio-preview"
    delivery = "preview"
    instrument: str | None = None
    index: Annotated[int, Field(ge=0)]
    start_seconds: Annotated[float, Field(ge=0)]
    mime_type: Literal["audio/wav", "audio/ogg"]
    audio: bytes

    def to_wire(self) -> dict[str, Any]:
        """`audio` stays bytes: Socket.IO sends it beside the JSON."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"audio"}) | {"audio": self.audio}


class JobEvent(WireEvent):
    """seq: 1, 2, 3 … within one job, without gaps, counted apart from the generation's; progress carries that of the
    last one before it."""

    family = "job"
    delivery: ClassVar[DeliveryClass] = "lifecycle"
    seq: Annotated[int, Field(ge=0)] = 0

    @property
    def generation_id(self) -> str:
        """The job's id, which is the generation's."""
        raise NotImplementedError

    @property
    def channel(self) -> Channel:
        """Where its `seq` counts."""
        return Channel("job", self.generation_id)

    @property
    def ends(self) -> bool:
        """Whether nothing follows it in its family, unless the generation is tried again."""
        return False


class _JobIdEvent(JobEvent):
    """id: the job's, which is the generation's."""

    id: str

    @property
    def generation_id(self) -> str:
        return self.id


class JobStatusEvent(_JobIdEvent):
    """The job's status, or its place in the queue, changed. status: the new one. job: the whole job, where it is new,
    is tried again, has failed or was cancelled. position: how many jobs come before it in the queue. eta_seconds:
    estimated seconds until the song is done."""

    name = "job:status"
    status: JobStatus
    job: Job | None = None
    position: Annotated[int, Field(ge=0)] | None = None
    eta_seconds: Annotated[float, Field(ge=0)] | None = None

    @property
    def ends(self) -> bool:
        return self.status in ENDED


class JobProgressEvent(_JobIdEvent):
    """The job goes on. progress: how far. tick: only grows within one job."""

    name = "job:progress"
    delivery = "progress"
    progress: JobProgress
    tick: Annotated[int, Field(ge=0)] = 0


class JobCompletedEvent(JobEvent):
    """`job:status` with "completed" follows at once. job: with the result."""

    name = "job:completed"
    job: Job

    @property
    def generation_id(self) -> str:
        return self.job.id


class JobFailedEvent(_JobIdEvent):
    """`job:status` with "failed" follows at once. error: what happened, for people to read. code: the same for
    programs. recoverable: whether `retry-generation` can help."""

    name = "job:failed"
    error: str
    code: str
    recoverable: bool


class User(WireModel):
    """id: the token's subject. roles: such as "admin"."""

    id: str
    roles: list[str]


class ServerHello(WireEvent):
    """The first event of a connection. protocol_version: major.minor; a newer minor number only adds. server_time: by
    the server's clock. user: as the token says. features: what this server can do beyond the guide."""

    name = "server-hello"
    protocol_version: str
    server_time: Timestamp = Field(default_factory=utc_now)
    features: list[str]
    user: User


class TokenExpiring(WireEvent):
    """The token ends soon. expires_at: when the socket will be closed, unless `refresh-token` brings a newer one."""

    name = "token-expiring"
    expires_at: Timestamp


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
"""The guide's nine."""

ServerEvent = (
    GenerationEvent
    | JobStatusEvent
    | JobProgressEvent
    | JobCompletedEvent
    | JobFailedEvent
    | AudioPreview
    | ServerHello
    | TokenExpiring
)
"""All that the server says."""

FamilyEvent = Event | JobEvent
"""What is numbered and goes to rooms: everything but the events about a connection."""

EVENTS: dict[str, type[WireEvent]] = {cls.name: cls for cls in get_args(ServerEvent)}
"""Wire name → model, for every member of the union."""

ROOMS: dict[Family, tuple[str, ...]] = {
    "generation": ("generation-{generation_id}",),
    "job": ("job:{generation_id}", "user:{user_id}:jobs", "admin:jobs"),
}
"""The guide's rooms, by family. The last of the job family is for admins: `for_admin` first."""


def rooms_of(event: FamilyEvent, user_id: str) -> tuple[str, ...]:
    """Where `event` goes. user_id: the owner's."""
    assert event.family is not None
    return tuple(room.format(generation_id=event.generation_id, user_id=user_id) for room in ROOMS[event.family])


_E = TypeVar("_E", bound=WireEvent)


def linked(event: _E, url: str) -> _E:
    """`event` with `url` as the place of the song, where it names one. Inside the process that is a file's URI."""
    if isinstance(event, AudioGenerationComplete):
        return event.model_copy(update={"audio_url": url})
    if isinstance(event, JobCompletedEvent):
        return event.model_copy(update={"job": event.job.linked(url)})
    return event


def for_admin(event: _E) -> _E:
    """A job event without the words that its owner's story turned into."""
    if isinstance(event, JobCompletedEvent):
        return event.model_copy(update={"job": event.job.for_admin()})
    if isinstance(event, JobStatusEvent) and event.job is not None:
        return event.model_copy(update={"job": event.job.for_admin()})
    return event
