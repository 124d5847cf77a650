"""The job family's four events, and what every event has.

Owns their names on the wire, fields and units, the delivery classes, and `Channel`. Each field is described by the
string under it, which `schema.py` reads.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field

from harmonia_lab.protocol.models import ENDED, Job, JobProgress, JobStatus, Timestamp, WireModel, utc_now

__all__ = [
    "Channel",
    "Count",
    "DeliveryClass",
    "Family",
    "JobCompletedEvent",
    "JobEvent",
    "JobFailedEvent",
    "JobProgressEvent",
    "JobStatusEvent",
    "WireEvent",
]

Count = Annotated[int, Field(ge=0)]
Family = Literal["generation", "job"]
DeliveryClass = Literal["lifecycle", "progress", "preview", "direct"]
"""lifecycle: written to the journal before it is sent, never dropped, sent again after a gap. progress: only the latest
matters. preview: not journalled, and dropped for a slow client. direct: to one socket, about its own connection."""


class Channel(NamedTuple):
    """One family of one generation. Its lifecycle events are numbered by `seq`."""

    family: Family
    generation_id: str


class WireEvent(WireModel):
    name: ClassVar[str]
    family: ClassVar[Family | None] = None
    delivery: ClassVar[DeliveryClass] = "direct"
    emitted_at: Timestamp = Field(default_factory=utc_now)
    """When it happened."""


class JobEvent(WireEvent):
    family = "job"
    delivery: ClassVar[DeliveryClass] = "lifecycle"
    seq: Count = 0
    """1, 2, 3 … within one job, without gaps, counted apart from the generation's; progress carries that of the last
    one before it."""

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
    id: str
    """The job's, which is the generation's."""

    @property
    def generation_id(self) -> str:
        return self.id


class JobStatusEvent(_JobIdEvent):
    """The job's status, or its place in the queue, changed."""

    name = "job:status"
    status: JobStatus
    """The new one."""
    job: Job | None = None
    """The whole job, where it is new, is tried again, has failed or was cancelled."""
    position: Count | None = None
    """How many jobs come before it in the queue."""
    eta_seconds: Annotated[float, Field(ge=0)] | None = None
    """Estimated seconds until the song is done."""

    @property
    def ends(self) -> bool:
        return self.status in ENDED


class JobProgressEvent(_JobIdEvent):
    """The job goes on."""

    name = "job:progress"
    delivery = "progress"
    progress: JobProgress
    """How far."""
    tick: Count = 0
    """Only grows within one job."""


class JobCompletedEvent(JobEvent):
    """`job:status` with "completed" follows at once."""

    name = "job:completed"
    job: Job
    """With the result."""

    @property
    def generation_id(self) -> str:
        return self.job.id


class JobFailedEvent(_JobIdEvent):
    """`job:status` with "failed" follows at once."""

    name = "job:failed"
    error: str
    """What happened, for people to read."""
    code: str
    """The same for programs."""
    recoverable: bool
    """Whether `retry-generation` can help."""
