"""Client → server: every command that a client may send, as one closed union (`Command`), and its acknowledgement.

Owns the names on the wire, the payloads and the acknowledgements. Which client may send which
command is decided in `server/auth.py` and `server/rooms.py`; `server/gateway.py` carries the commands out.

A command may come with an acknowledgement callback; the answer is the command's `ack`, or `ErrorAck`. Each field is
described by the string under it, which `schema.py` reads.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from harmonia_lab.protocol.events import (
    ErrorInfo,
)
from harmonia_lab.protocol.models import (
    GenerationId,
    Job,
    Share,
    ShareRole,
    SongRequest,
    Timestamp,
    UserName,
    WireModel,
)
from harmonia_lab.protocol.snapshot import Snapshot
from harmonia_lab.protocol.text import ONE_LINE, Told

__all__ = [
    "COMMANDS",
    "Ack",
    "CancelGeneration",
    "Command",
    "ErrorAck",
    "GenerationAck",
    "JobAck",
    "JobsAck",
    "JobsCommand",
    "JoinAck",
    "JoinGeneration",
    "LeaveGeneration",
    "RefreshAck",
    "RefreshToken",
    "RetryGeneration",
    "ShareAck",
    "ShareGeneration",
    "StartAck",
    "StartGeneration",
    "SubscribeAdminJobs",
    "SubscribeJob",
    "SubscribeUserJobs",
    "UnshareGeneration",
    "UnsubscribeAdminJobs",
    "UnsubscribeJob",
    "UnsubscribeUserJobs",
    "WireCommand",
]

Seq = Annotated[int, Field(ge=0, le=2**53 - 1, strict=True)]
"""Up to the largest integer that a JavaScript number holds exactly."""


class Ack(WireModel):
    """The command was carried out."""

    ok: Literal[True] = True
    """Always true."""


class ErrorAck(WireModel):
    """The command was refused."""

    ok: Literal[False] = False
    """Always false."""
    error: ErrorInfo
    """Why."""


class GenerationAck(Ack):
    """The command was carried out for one generation."""

    generation_id: Told
    """The generation's id."""


class JoinAck(GenerationAck):
    """The client has joined the generation's room."""

    snapshot: Snapshot | None = None
    """The generation's state; absent until somebody has started it."""
    replayed: Annotated[int, Field(ge=0)]
    """Number of lifecycle events that were sent again before this answer."""


class StartAck(GenerationAck):
    """The generation is queued."""

    job_id: Told
    """The job's id, which is the generation's."""


class JobAck(Ack):
    """The command was carried out for one job."""

    job_id: Told
    """The job's id, which is the generation's."""
    job: Job | None = None
    """The job as it is now; absent until somebody has started it."""


class JobsAck(Ack):
    """The command was carried out for all jobs that it is about."""

    jobs: list[Job]
    """The newest 100 jobs, newest first. Beyond 256 KiB of them, a job comes without `result.metadata`."""
    next_cursor: Told | None = None
    """Where the older jobs begin: `GET /api/generations?cursor=…` lists them. Absent if there are none."""


class ShareAck(GenerationAck):
    """The generation is shared, or taken back."""

    shares: list[Share]
    """With whom it is shared now, by name in alphabetical order."""


class RefreshAck(Ack):
    """The new token is accepted."""

    expires_at: Timestamp
    """When the new token expires."""


class WireCommand(WireModel):
    """A message from a client. payload: whether it has one."""

    name: ClassVar[str]
    ack: ClassVar[type[Ack]]
    payload: ClassVar[bool] = True


class _OfGeneration(WireCommand):
    ack: ClassVar[type[Ack]] = GenerationAck
    generation_id: GenerationId
    """The generation's id."""


class _RoomCommand(_OfGeneration):
    """The payload is an object or the bare id: the guide's client sends the id, the guide's server reads an object."""

    bare: ClassVar[bool] = True

    @model_validator(mode="before")
    @classmethod
    def _bare_id(cls, value: Any) -> Any:
        return {"generationId": value} if isinstance(value, str) else value


class JoinGeneration(_RoomCommand):
    """Receive the events of one generation."""

    name = "join-generation"
    ack = JoinAck
    after_seq: Seq | None = None
    """`seq` of the last lifecycle event that the client has: later ones are sent again. If it is absent, all are sent
    that this socket has not had yet."""


class LeaveGeneration(_RoomCommand):
    """Receive the events of one generation no longer. It is no error if the client has not joined."""

    name = "leave-generation"


class StartGeneration(SongRequest, WireCommand):
    """Make a song. The client that starts it receives its events from the first one on."""

    name = "start-generation"
    ack = StartAck

    @model_validator(mode="after")
    def _has_a_story(self) -> StartGeneration:
        if not self.narrative and self.metadata is None:
            raise ValueError("narrative is empty. Write a sentence or two that tell a story")
        return self


class CancelGeneration(_OfGeneration):
    """Cancel one generation. A second time is no error."""

    name = "cancel-generation"


class RetryGeneration(_OfGeneration):
    """Try a generation again after a recoverable failure. Finished work is kept."""

    name = "retry-generation"


class ShareGeneration(_OfGeneration):
    """Let another user join, hear and download a generation, or change what the user may do. For its owner only."""

    name = "share-generation"
    ack = ShareAck
    user_id: UserName
    """The user's name, as in the token's `sub`."""
    role: ShareRole = "viewer"
    """What the user may do: a viewer joins, hears and downloads; a controller cancels and retries too."""


class UnshareGeneration(_OfGeneration):
    """Take a generation back from a user: the user's connections leave its rooms, and links stop, at once. For its
    owner only. It is no error if it was not shared with the user."""

    name = "unshare-generation"
    ack = ShareAck
    user_id: UserName
    """The user's name."""


class _JobCommand(WireCommand):
    ack: ClassVar[type[Ack]] = JobAck
    job_id: GenerationId
    """The generation's id."""


class SubscribeJob(_JobCommand):
    """Receive the events of one job."""

    name = "job:subscribe"
    after_seq: Seq | None = None
    """As for `join-generation`, but `seq` of the job's own events."""


class UnsubscribeJob(_JobCommand):
    """Receive the events of one job no longer."""

    name = "job:unsubscribe"


class JobsCommand(WireCommand):
    """A command about many jobs."""

    ack: ClassVar[type[Ack]] = JobsAck
    payload = False


class SubscribeUserJobs(JobsCommand):
    """Receive the events of all jobs of the token's user."""

    name = "jobs:subscribe:user"


class UnsubscribeUserJobs(JobsCommand):
    """Receive the events of the user's jobs no longer, but for jobs that are subscribed one by one."""

    name = "jobs:unsubscribe:user"


class SubscribeAdminJobs(JobsCommand):
    """Receive the events of all users' jobs, without titles and lyrics. For the role "admin" only."""

    name = "jobs:subscribe:admin"


class UnsubscribeAdminJobs(JobsCommand):
    """Receive the events of all users' jobs no longer."""

    name = "jobs:unsubscribe:admin"


class RefreshToken(WireCommand):
    """Stay connected when the token expires."""

    name = "refresh-token"
    ack = RefreshAck
    token: Annotated[str, Field(min_length=1, max_length=8192), ONE_LINE]
    """A newer token of the same user."""


Command = (
    JoinGeneration
    | LeaveGeneration
    | StartGeneration
    | CancelGeneration
    | RetryGeneration
    | ShareGeneration
    | UnshareGeneration
    | SubscribeJob
    | UnsubscribeJob
    | SubscribeUserJobs
    | UnsubscribeUserJobs
    | SubscribeAdminJobs
    | UnsubscribeAdminJobs
    | RefreshToken
)
"""Every command that a client may send."""

COMMANDS: dict[str, type[WireCommand]] = {cls.name: cls for cls in get_args(Command)}
"""Wire name → model, for every member of the union."""
