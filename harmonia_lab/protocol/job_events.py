"""The job family's four events, the three about one connection, what every event has, and `ErrorInfo`.

Owns their names on the wire, fields and units, the delivery classes, and `Channel`. Each field is described by the
string under it, which `schema.py` reads. Other modules import the classes from `events.py`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import Field

from harmonia_lab.errors import ErrorCode, HarmoniaError
from harmonia_lab.protocol.models import (
    ENDED,
    AccessRole,
    Job,
    JobProgress,
    JobStatus,
    Share,
    Timestamp,
    WireModel,
    utc_now,
)
from harmonia_lab.protocol.text import Told

Count = Annotated[int, Field(ge=0)]
Family = Literal["generation", "job"]
FAMILIES: tuple[Family, ...] = ("generation", "job")
DeliveryClass = Literal["lifecycle", "progress", "preview", "direct"]
"""lifecycle: written to the journal before it is sent, never dropped, sent again after a gap. progress: only the latest
matters. preview: not journalled, and dropped for a slow client. direct: to one socket, about its own connection."""


RETRY_AFTER_S = 1.0
"""`retryAfter` where the server doesn't know better."""


class Channel(NamedTuple):
    """One family of one generation. Its lifecycle events are numbered by `seq`."""

    family: Family
    generation_id: Told


class WireEvent(WireModel):
    """What every event has."""

    name: ClassVar[str]
    family: ClassVar[Family | None] = None
    delivery: ClassVar[DeliveryClass] = "direct"
    emitted_at: Timestamp = Field(default_factory=utc_now)
    """When the event happened."""


class JobEvent(WireEvent):
    """An event of the job family."""

    family = "job"
    delivery: ClassVar[DeliveryClass] = "lifecycle"
    seq: Count = 0
    """1, 2, 3 … within one job, without gaps, independent of the generation's `seq`; a progress event has the number of
    the last lifecycle event before it."""

    @property
    def generation_id(self) -> str:
        """The job's id, which is the generation's."""
        raise NotImplementedError

    @property
    def channel(self) -> Channel:
        """The channel whose lifecycle events `seq` counts."""
        return Channel("job", self.generation_id)

    @property
    def ends(self) -> bool:
        """Whether it is the last event of its family, unless the generation is tried again."""
        return False


class _JobIdEvent(JobEvent):
    id: Told
    """The job's id, which is the generation's."""

    @property
    def generation_id(self) -> str:
        return self.id


class JobStatusEvent(_JobIdEvent):
    """The job's status, or its place in the queue, changed."""

    name = "job:status"
    status: JobStatus
    """The new status."""
    job: Job | None = None
    """The whole job, if it is new, is tried again, has failed or was cancelled."""
    position: Count | None = None
    """How many jobs come before it in the queue."""
    eta_seconds: Annotated[float, Field(ge=0)] | None = None
    """Estimated seconds until the song is done."""

    @property
    def ends(self) -> bool:
        return self.status in ENDED


class JobProgressEvent(_JobIdEvent):
    """Progress of the job."""

    name = "job:progress"
    delivery = "progress"
    progress: JobProgress
    """How far the job is."""
    tick: Count = 0
    """Grows with each progress event of the job; an event with a lower tick is out of date."""


class JobCompletedEvent(JobEvent):
    """The job is done. `job:status` with "completed" follows at once."""

    name = "job:completed"
    job: Job
    """The job with its result."""

    @property
    def generation_id(self) -> str:
        return self.job.id


class JobFailedEvent(_JobIdEvent):
    """The job has failed. `job:status` with "failed" follows at once."""

    name = "job:failed"
    error: Told
    """What happened, for people to read."""
    code: Told
    """The error code."""
    recoverable: bool
    """Whether `retry-generation` can help."""


class ErrorInfo(WireModel):
    """Why something failed."""

    code: Told
    """One of the error codes."""
    message: Told
    """What happened and what to do, for people to read."""
    details: dict[str, Any] | None = None
    """Facts about the error, for a program. RATE_LIMITED has `retryAfter`: seconds until it can succeed."""
    recoverable: bool
    """Whether the same request can succeed if it is tried again."""

    @classmethod
    def of(cls, error: HarmoniaError) -> Self:
        """Return what clients may know of `error`: files by name, without the folders of this machine."""
        message, details = str(error), dict(error.details)
        if error.code == ErrorCode.RATE_LIMITED:
            details.setdefault("retryAfter", RETRY_AFTER_S)
        for place in filter(None, (details.pop("path", None), details.pop("kept", None))):
            folder = str(Path(place).parent)
            message = message.replace(f"{folder}{os.sep}", "").replace(folder, "…")
        return cls(code=error.code, message=message, details=details or None, recoverable=error.recoverable)


class User(WireModel):
    """Whom the token names."""

    id: Told
    """The token's subject."""
    roles: list[Told]
    """The token's roles, such as "admin"."""


class ServerHello(WireEvent):
    """The first event of a connection."""

    name = "server-hello"
    protocol_version: Told
    """Major.minor. A higher minor number adds something that old clients can ignore."""
    server_time: Timestamp = Field(default_factory=utc_now)
    """The time by the server's clock."""
    features: list[Told]
    """What this server offers beyond the guide."""
    user: User
    """The user whom the token names."""


class TokenExpiring(WireEvent):
    """The token ends soon."""

    name = "token-expiring"
    expires_at: Timestamp
    """When the socket will be closed, unless `refresh-token` brings a newer one."""


class GenerationShared(WireEvent):
    """Who may use a generation has changed. It goes to each connection that has joined the generation or its job, or
    that follows the jobs of a user with whom it is shared."""

    name = "generation-shared"
    generation_id: Told
    """The generation's id."""
    access: AccessRole | None = None
    """As what the receiver may use it now; absent if it was taken back, and the receiver has left its rooms."""
    shares: list[Share] | None = None
    """With whom it is shared; for its owner and admins only."""
