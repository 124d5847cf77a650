"""Client → server: everything that a client may ask, as one closed union (`Command`), and how each is answered.

Owns the wire names, the shape of the payloads and of the acknowledgements, and the protocol's version. Who may ask
what, and what is done about it, is the server's business.

A command may come with an acknowledgement callback; the answer is the command's `ack`, or `ErrorAck`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from harmonia_lab.protocol.events import (
    AudioGenerationProgress,
    ErrorInfo,
    MetadataGenerationProgress,
    StageName,
)
from harmonia_lab.protocol.models import GenerationId, Job, JobStatus, SongRequest, Timestamp, WireModel

__all__ = [
    "COMMANDS",
    "PROTOCOL_VERSION",
    "Ack",
    "CancelGeneration",
    "Command",
    "ErrorAck",
    "GenerationAck",
    "JobAck",
    "JobsAck",
    "JoinAck",
    "JoinGeneration",
    "LastProgress",
    "LeaveGeneration",
    "RefreshAck",
    "RefreshToken",
    "RetryGeneration",
    "Snapshot",
    "StartAck",
    "StartGeneration",
    "SubscribeAdminJobs",
    "SubscribeJob",
    "SubscribeUserJobs",
    "UnsubscribeAdminJobs",
    "UnsubscribeJob",
    "UnsubscribeUserJobs",
    "WireCommand",
]

PROTOCOL_VERSION = "1.0"
"""major.minor. An addition that old clients can overlook moves the minor number; anything else, the major."""

Seq = Annotated[int, Field(ge=0, le=2**53 - 1, strict=True)]
"""As far as a JavaScript number counts exactly."""


class LastProgress(WireModel):
    """The latest progress event."""

    event: Literal["metadata-generation-progress", "audio-generation-progress"]
    """The name of the progress event."""
    data: MetadataGenerationProgress | AudioGenerationProgress
    """What it carried."""


class Snapshot(WireModel):
    """Where a generation stands."""

    generation_id: str
    """Which."""
    status: JobStatus
    """Now."""
    stage: StageName
    """Now."""
    seq: int
    """Those of the last lifecycle event of either family."""
    job_seq: int
    """Those of the last lifecycle event of either family."""
    job: Job
    """Now."""
    progress: LastProgress | None = None
    """The latest progress event, absent before the first."""


class Ack(WireModel):
    """Done."""

    ok: Literal[True] = True
    """Says so."""


class ErrorAck(WireModel):
    """Not done."""

    ok: Literal[False] = False
    """Says so."""
    error: ErrorInfo
    """Why not."""


class GenerationAck(Ack):
    """Done, for one generation."""

    generation_id: str
    """Which."""


class JoinAck(GenerationAck):
    """Joined."""

    snapshot: Snapshot | None = None
    """Where the generation stands; absent while nobody has started it."""
    replayed: Annotated[int, Field(ge=0)]
    """How many lifecycle events were sent again before this answer."""


class StartAck(GenerationAck):
    """Queued."""

    job_id: str
    """The same as generation_id."""


class JobAck(Ack):
    """Done, for one job."""

    job_id: str
    """Which."""
    job: Job | None = None
    """As it stands; absent while nobody has started it."""


class JobsAck(Ack):
    """Done, for many jobs."""

    jobs: list[Job]
    """Newest first."""


class RefreshAck(Ack):
    """The new token holds."""

    expires_at: Timestamp
    """When it ends."""


class WireCommand(WireModel):
    """A message from a client. payload: whether it carries one."""

    name: ClassVar[str]
    ack: ClassVar[type[Ack]]
    payload: ClassVar[bool] = True


class _OfGeneration(WireCommand):
    ack: ClassVar[type[Ack]] = GenerationAck
    generation_id: GenerationId
    """Which generation."""


class _Room(_OfGeneration):
    """The guide's client sends the bare id, the guide's server reads an object."""

    bare: ClassVar[bool] = True

    @model_validator(mode="before")
    @classmethod
    def _bare_id(cls, value: Any) -> Any:
        return {"generationId": value} if isinstance(value, str) else value


class JoinGeneration(_Room):
    """Hear of one generation."""

    name = "join-generation"
    ack = JoinAck
    after_seq: Seq | None = None
    """The last lifecycle event that the client has; what came after it is sent again. Without it, everything is sent
    that this socket has not had yet."""


class LeaveGeneration(_Room):
    """Hear no more of one generation. Leaving a room that one is not in is fine."""

    name = "leave-generation"


class StartGeneration(SongRequest, WireCommand):
    """Make a song; the caller hears of it from the first event on."""

    name = "start-generation"
    ack = StartAck

    @model_validator(mode="after")
    def _has_a_story(self) -> StartGeneration:
        if not self.narrative and self.metadata is None:
            raise ValueError("narrative is empty. Write a sentence or two that tell a story")
        return self


class CancelGeneration(_OfGeneration):
    """Stop one generation. Asking twice is fine."""

    name = "cancel-generation"


class RetryGeneration(_OfGeneration):
    """Try again after a recoverable failure. Finished work is kept."""

    name = "retry-generation"


class _JobCommand(WireCommand):
    ack: ClassVar[type[Ack]] = JobAck
    job_id: GenerationId
    """The generation's id."""


class SubscribeJob(_JobCommand):
    """Hear of one job."""

    name = "job:subscribe"
    after_seq: Seq | None = None
    """As for `join-generation`, in the job's own numbering."""


class UnsubscribeJob(_JobCommand):
    """Hear no more of one job."""

    name = "job:unsubscribe"


class _Jobs(WireCommand):
    ack: ClassVar[type[Ack]] = JobsAck
    payload = False


class SubscribeUserJobs(_Jobs):
    """Hear of all of one's own jobs."""

    name = "jobs:subscribe:user"


class UnsubscribeUserJobs(_Jobs):
    """Hear no more of them, but for those subscribed one by one."""

    name = "jobs:unsubscribe:user"


class SubscribeAdminJobs(_Jobs):
    """Hear of everybody's jobs, without what their stories turned into. For the role "admin" only."""

    name = "jobs:subscribe:admin"


class UnsubscribeAdminJobs(_Jobs):
    """Hear no more of them."""

    name = "jobs:unsubscribe:admin"


class RefreshToken(WireCommand):
    """Stay connected beyond the token's end."""

    name = "refresh-token"
    ack = RefreshAck
    token: Annotated[str, Field(min_length=1, max_length=8192)]
    """A newer one of the same user."""


Command = (
    JoinGeneration
    | LeaveGeneration
    | StartGeneration
    | CancelGeneration
    | RetryGeneration
    | SubscribeJob
    | UnsubscribeJob
    | SubscribeUserJobs
    | UnsubscribeUserJobs
    | SubscribeAdminJobs
    | UnsubscribeAdminJobs
    | RefreshToken
)
"""All that a client may ask."""

COMMANDS: dict[str, type[WireCommand]] = {cls.name: cls for cls in get_args(Command)}
"""Wire name → model, for every member of the union."""
