"""Server → client: every event that the server sends, as one closed union (`ServerEvent`).

Owns the union, the two events about a connection (`server-hello`, `token-expiring`), and the rooms that each family
goes to. The events of the generation family are in `generation_events.py`, those of the job family in `job_events.py`;
all are imported from here. A new event is a class there, a member of the union here, and a case in `events/state.py`.
"""

from __future__ import annotations

from typing import TypeVar, get_args

from pydantic import Field

from harmonia_lab.protocol.generation_events import (
    AudioGenerationComplete,
    AudioGenerationProgress,
    AudioGenerationStarted,
    AudioPreview,
    ErrorInfo,
    Event,
    GenerationCancelled,
    GenerationError,
    GenerationTimeout,
    LifecycleEvent,
    MetadataGenerationComplete,
    MetadataGenerationProgress,
    MetadataGenerationStarted,
    PartialMetadata,
    ProgressEvent,
    StageName,
)
from harmonia_lab.protocol.job_events import (
    Channel,
    DeliveryClass,
    Family,
    JobCompletedEvent,
    JobEvent,
    JobFailedEvent,
    JobProgressEvent,
    JobStatusEvent,
    WireEvent,
)
from harmonia_lab.protocol.models import Timestamp, WireModel, utc_now

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


class User(WireModel):
    """Whom the token names."""

    id: str
    """The token's subject."""
    roles: list[str]
    """The token's roles, such as "admin"."""


class ServerHello(WireEvent):
    """The first event of a connection."""

    name = "server-hello"
    protocol_version: str
    """Major.minor. A higher minor number adds something that old clients can ignore."""
    server_time: Timestamp = Field(default_factory=utc_now)
    """The time by the server's clock."""
    features: list[str]
    """What this server offers beyond the guide."""
    user: User
    """The user whom the token names."""


class TokenExpiring(WireEvent):
    """The token ends soon."""

    name = "token-expiring"
    expires_at: Timestamp
    """When the socket will be closed, unless `refresh-token` brings a newer one."""


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
)
"""Every event that the server sends."""

FamilyEvent = Event | JobEvent
"""An event that goes to rooms: every event but those about a connection."""

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
    """Return a job event without the song's title and lyrics, which only its owner may read."""
    if isinstance(event, JobCompletedEvent):
        return event.model_copy(update={"job": event.job.for_admin()})
    if isinstance(event, JobStatusEvent) and event.job is not None:
        return event.model_copy(update={"job": event.job.for_admin()})
    return event
