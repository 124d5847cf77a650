"""Server → client: the guide's nine generation events, as one closed union (`GenerationEvent`).

Owns their wire names, fields and units, and which of them are *lifecycle* (numbered by `seq`, kept, replayed) and which
are *progress* (latest wins, numbered by `tick`). Who emits them when is the pipeline's business.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PlainSerializer

from harmonia_lab.errors import HarmoniaError
from harmonia_lab.protocol.models import Instrument, SongMetadata, WireModel

__all__ = [
    "EVENTS",
    "AudioGenerationComplete",
    "AudioGenerationProgress",
    "AudioGenerationStarted",
    "ErrorInfo",
    "Event",
    "GenerationCancelled",
    "GenerationError",
    "GenerationEvent",
    "GenerationTimeout",
    "LifecycleEvent",
    "MetadataGenerationComplete",
    "MetadataGenerationProgress",
    "MetadataGenerationStarted",
    "PartialMetadata",
    "ProgressEvent",
    "StageName",
    "utc_now",
]

StageName = Literal["metadata", "audio", "unknown"]
Percentage = Annotated[float, Field(ge=0, le=100)]


def utc_now() -> datetime:
    """The current time, UTC, cut to the milliseconds that the wire carries."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Timestamp = Annotated[datetime, PlainSerializer(_iso, return_type=str, when_used="json")]
"""UTC on the wire as a JavaScript `Date` prints itself: 2026-01-31T09:30:00.000Z."""


class Event(WireModel):
    """What every event carries. emitted_at: set when it is emitted."""

    name: ClassVar[str]
    generation_id: str
    emitted_at: Timestamp = Field(default_factory=utc_now)
    seq: Annotated[int, Field(ge=0)] = 0


class LifecycleEvent(Event):
    """seq: 1, 2, 3 … within one generation, without gaps."""


class ProgressEvent(Event):
    """seq: that of the last lifecycle event. tick: only grows within one generation.

    progress: percentage of the stage. overall_progress: percentage of the whole generation; never goes back within
    one attempt. eta_seconds: estimated seconds until the song is done.
    """

    tick: Annotated[int, Field(ge=0)] = 0
    progress: Percentage
    status: str
    overall_progress: Percentage
    eta_seconds: Annotated[float, Field(ge=0)] | None = None


class MetadataGenerationStarted(LifecycleEvent):
    """model: the language model's name."""

    name = "metadata-generation-started"
    user_id: str
    narrative: str
    timestamp: Timestamp = Field(default_factory=utc_now)
    model: str


class PartialMetadata(WireModel):
    """What stage 1 has written so far."""

    title: str | None = None
    lyrics: str | None = None
    genre: str | None = None
    mood: list[str] | None = None


class MetadataGenerationProgress(ProgressEvent):
    name = "metadata-generation-progress"
    current_step: Literal["analysis", "title", "lyrics", "genre", "mood"]
    tokens_generated: Annotated[int, Field(ge=0)] | None = None
    partial: PartialMetadata | None = None


class MetadataGenerationComplete(LifecycleEvent):
    """duration: milliseconds that stage 1 took."""

    name = "metadata-generation-complete"
    metadata: SongMetadata
    duration: Annotated[float, Field(ge=0)]


class AudioGenerationStarted(LifecycleEvent):
    """duration: seconds of audio asked for. bpm: quarter notes a minute."""

    name = "audio-generation-started"
    song_id: str
    instruments: list[Instrument]
    duration: Annotated[float, Field(gt=0)]
    bpm: float


class AudioGenerationProgress(ProgressEvent):
    name = "audio-generation-progress"
    current_instrument: str | None = None
    instruments_completed: Annotated[int, Field(ge=0)]
    total_instruments: Annotated[int, Field(ge=0)]


class AudioGenerationComplete(LifecycleEvent):
    """audio_url: where the song can be had. duration: seconds of audio. file_size: bytes. checksum: SHA-256, hex."""

    name = "audio-generation-complete"
    song_id: str
    audio_url: str
    duration: Annotated[float, Field(gt=0)]
    file_size: Annotated[int, Field(ge=0)]
    checksum: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ErrorInfo(WireModel):
    """code: one of `errors.ErrorCode`. recoverable: whether a retry, unchanged, can succeed."""

    code: str
    message: str
    details: dict[str, Any] | None = None
    recoverable: bool

    @classmethod
    def of(cls, error: HarmoniaError) -> ErrorInfo:
        return cls(code=error.code, message=str(error), details=error.details or None, recoverable=error.recoverable)


class GenerationError(LifecycleEvent):
    """final: false while recovery is still being tried."""

    name = "generation-error"
    error: ErrorInfo
    stage: StageName
    final: bool


class GenerationCancelled(LifecycleEvent):
    name = "generation-cancelled"
    reason: Literal["user_cancelled", "timeout", "system_error"]
    cancelled_at: Timestamp = Field(default_factory=utc_now)


class GenerationTimeout(LifecycleEvent):
    """timeout_after: seconds. `generation-cancelled` with reason "timeout" follows at once."""

    name = "generation-timeout"
    stage: StageName
    timeout_after: Annotated[float, Field(gt=0)]


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

EVENTS: dict[str, type[Event]] = {cls.name: cls for cls in GenerationEvent.__args__}
"""Wire name → model, for every member of the union."""
