"""The protocol's data: the request (`SongRequest`), the finished song (`Song`), the job (`Job`) and who shares it.

Owns their ranges and units, and requests from untrusted fields. Stage 1's result is in `metadata.py`, the base of all
models in `wire_model.py`, the types of text in `text.py`; other modules import those from here. Events are in
`events.py`, commands in `commands.py`. Each field is described by the string under it, which `schema.py` reads.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError, field_validator

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.protocol.audio_options import AudioOptions
from harmonia_lab.protocol.metadata import (
    MAX_NARRATIVE,
    Instrument,
    Instruments,
    LyricSection,
    SongMetadata,
    Wish,
    key_name,
    language_code,
)
from harmonia_lab.protocol.sound import Followed, Measured
from harmonia_lab.protocol.text import LINES, ONE_LINE, GenerationId, LocalPath, Told, UserName
from harmonia_lab.protocol.vocabulary import Role
from harmonia_lab.protocol.wire_model import (
    MAX_FINDINGS,
    Timestamp,
    WireModel,
    explain,
    iso_time,
    utc_now,
)

__all__ = [
    "ENDED",
    "MAX_FINDINGS",
    "MAX_NARRATIVE",
    "AccessRole",
    "GenerationId",
    "Instrument",
    "Job",
    "JobProgress",
    "JobResult",
    "JobStatus",
    "LyricSection",
    "Percentage",
    "Share",
    "ShareRole",
    "Song",
    "SongMetadata",
    "SongRequest",
    "StemFile",
    "Timestamp",
    "UserName",
    "WireModel",
    "Wish",
    "check_contradictions",
    "explain",
    "iso_time",
    "parse_request",
    "parse_share",
    "utc_now",
]

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Percentage = Annotated[float, Field(ge=0, le=100)]
JobStatus = Literal["pending", "processing", "completed", "failed", "cancelled"]
ShareRole = Literal["viewer", "controller"]
"""What another user may do with a generation: join, hear and download it; cancel it and try it again too."""
AccessRole = Literal["owner", "admin", "controller", "viewer"]
"""As what somebody uses a generation."""
ENDED: tuple[JobStatus, ...] = ("completed", "failed", "cancelled")
"""The statuses of a job that has ended. Only a retry leads out of "failed"."""


class Share(WireModel):
    """A user with whom a generation is shared."""

    user_id: UserName
    """The user's name, as in the token's `sub`."""
    role: ShareRole
    """What the user may do: a viewer joins, hears and downloads; a controller cancels and retries too."""


class SongRequest(WireModel):
    """A song to be made. If they are None, stage 1 chooses bpm, key, genre and instruments; seed is drawn at random."""

    narrative: Annotated[str, Field(max_length=MAX_NARRATIVE), LINES] = ""
    """The story."""
    generation_id: GenerationId | None = None
    """The generation's id, if the caller chooses it; if not, the server does."""
    model: Annotated[str, Field(min_length=1, max_length=200), ONE_LINE] | None = None
    """The language model, by its name on its server."""
    audio_model: Annotated[str, Field(min_length=1, max_length=400), ONE_LINE] | None = None
    """The audio model, by a name that the server offers, or, in this process, a checkpoint's folder."""
    seconds: Annotated[float, Field(ge=1, le=600)] = 20.0
    """Length of the song, 1…600 s."""
    bpm: Annotated[int | None, Field(ge=40, le=220)] = None
    """40…220 quarter notes a minute."""
    key: Annotated[str, ONE_LINE] | None = None
    """Such as "A minor"."""
    genre: Annotated[str, Field(min_length=1, max_length=40), ONE_LINE] | None = None
    """Such as "folk"."""
    instruments: Instruments | None = None
    """Names or instruments; a bare name gets its usual role."""
    language: Annotated[str, Field(min_length=2, max_length=35), ONE_LINE] | None = None
    """The lyrics' language, such as "de" or "German"; none: the narrative's."""
    wishes: bool = True
    """Whether wishes in the narrative ("a slow waltz, no drums") are followed."""
    seed: Seed | None = None
    """0…2³²−1; the same seed gives the same bytes with the offline engines."""
    metadata: SongMetadata | None = None
    """If it is given, stage 1 is skipped."""
    audio_options: AudioOptions = None
    """Settings of the audio engine for this song alone, by the engine's own names: prompt, cfg_coef, … A sound, such as
    a melody to follow, is the id of one that was uploaded (`POST /api/sounds`), or, in this process, a file."""

    @field_validator("narrative", mode="before")
    @classmethod
    def _within_reach(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if len(value) > MAX_NARRATIVE:
            raise ValueError(f"has {len(value):,} characters; at most {MAX_NARRATIVE:,} are read. Shorten it")
        return value.strip()

    @field_validator("key")
    @classmethod
    def _key(cls, value: str | None) -> str | None:
        return None if value is None else key_name(value)

    @field_validator("language")
    @classmethod
    def _language(cls, value: str | None) -> str | None:
        return None if value is None else language_code(value)


class StemFile(WireModel):
    """One rendered instrument on disk."""

    name: Told
    role: Role
    path: LocalPath
    """Absolute."""
    sample_rate: int
    """Hz."""


class Song(WireModel):
    """A finished song on disk. Paths are absolute; duration is in seconds, file_size in bytes, checksum is SHA-256."""

    generation_id: Told
    song_id: Told
    metadata: SongMetadata
    directory: LocalPath
    audio_path: LocalPath
    duration: float
    file_size: int
    checksum: Told
    stems: list[StemFile]
    engines: dict[str, Told]
    """{"metadata": name, "audio": name}."""
    timings: dict[str, float]
    """Seconds by stage and step."""
    seed: Seed
    follows: list[Followed] | None = None
    """What of the plan the sound follows; none in a song of a version that didn't say."""
    measured: Measured | None = None
    """Tempo and key as measured in the sound; none in a song of a version that didn't."""

    shown_by: ClassVar[Callable[[Song], dict[str, Any]]] = lambda song: {"text/plain": repr(song)}
    """Returns how notebooks show a song: MIME type → data. `lab.py` sets one that shows title, player and words."""

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        """Return what IPython and marimo show."""
        del include, exclude
        return type(self).shown_by(self)


class JobProgress(WireModel):
    """How far a job is."""

    current: Annotated[int, Field(ge=0)] = 0
    """The percentage, rounded down: a client may divide it by `total`."""
    total: Annotated[int, Field(ge=1)] = 100
    """Always 100."""
    percentage: Percentage = 0.0
    """0…100 over both stages; never goes back within one attempt."""
    message: Told = ""
    """What the job is doing, for people to read."""


class JobResult(WireModel):
    """The result of a job that has ended."""

    output_path: Told | None = None
    """A URL from which the song can be fetched for a while."""
    metadata: SongMetadata | None = None
    """The finished song's metadata."""
    error: Told | None = None
    """Why there is no song."""


class Job(WireModel):
    """A generation as clients see it."""

    id: GenerationId
    """The generation's id."""
    user_id: Told
    """The user who started the generation. Others, but for admins, may not see it."""
    job_type: Literal["song-generation"] = "song-generation"
    """The only type."""
    status: JobStatus = "pending"
    """The current status."""
    progress: JobProgress = JobProgress()
    """The current progress."""
    created_at: Timestamp
    """When the job was created."""
    updated_at: Timestamp
    """When the job last changed."""
    result: JobResult | None = None
    """Present once the job has completed or failed; a cancelled job has none."""

    def linked(self, url: str) -> Self:
        """Return the job with `url` in place of its song's URL, if it has one."""
        if self.result is None or self.result.output_path is None:
            return self
        return self.model_copy(update={"result": self.result.model_copy(update={"output_path": url})})

    def ended(self, status: JobStatus, moment: datetime, result: JobResult | None = None) -> Self:
        """Return the job as it ended at `moment`, with the progress that it had."""
        return self.model_copy(update={"status": status, "updated_at": moment, "result": result})

    def for_admin(self) -> Self:
        """Return the job without the song's metadata, as the list of all users' jobs has it."""
        if self.result is None or self.result.metadata is None:
            return self
        return self.model_copy(update={"result": self.result.model_copy(update={"metadata": None})})


def parse_request(**fields: Any) -> SongRequest:
    """Return a `SongRequest` made of untrusted fields.

    Raises InvalidRequest, which names the field, its fault and the range, instead of pydantic's ValidationError.
    """
    try:
        request = SongRequest.model_validate(fields)
    except ValidationError as error:
        raise InvalidRequest(
            explain(error), details={"fields": [".".join(map(str, e["loc"])) for e in error.errors()]}
        ) from None
    if not request.narrative and request.metadata is None:
        raise InvalidRequest(
            "narrative is empty.", hint="Write a sentence or two that tell a story.", details={"fields": ["narrative"]}
        )
    return request


def parse_share(user: str, role: str) -> Share:
    """Return a `Share` made of untrusted values. Raises InvalidRequest, which names the value and its fault."""
    try:
        return Share.model_validate({"user_id": user, "role": role})
    except ValidationError as error:
        raise InvalidRequest(explain(error), details={"fields": ["userId", "role"]}) from None


def check_contradictions(request: SongRequest) -> SongRequest:
    """Return `request`. Raise InvalidRequest if it has both `metadata` and bpm, key, genre, instruments or language."""
    twice = [name for name in ("bpm", "key", "genre", "instruments", "language") if getattr(request, name) is not None]
    if request.metadata is not None and twice:
        raise InvalidRequest(
            f"{', '.join(twice)}: the given metadata has that already.",
            hint="Change it in the metadata.",
            details={"fields": twice},
        )
    return request
