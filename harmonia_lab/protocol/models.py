"""The protocol's data: the request (`SongRequest`), stage 1's result (`SongMetadata`), the finished song (`Song`), and
the job (`Job`).

Owns ranges, units, names on the wire (camelCase; Python attributes are snake_case), validation and normalisation.
Events are in `events.py`, commands in `commands.py`. Each field is described by the string under it, which `schema.py`
reads.
"""

from __future__ import annotations

import difflib
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    computed_field,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.languages.detection import detect_language
from harmonia_lab.languages.section_names import section_kind
from harmonia_lab.languages.singing import sung_words
from harmonia_lab.languages.tags import language_tag, nearest_names
from harmonia_lab.protocol.counts import GIVEN, SungCounts, counted, keep_given
from harmonia_lab.protocol.vocabulary import INSTRUMENTS, Role, find_instrument, normalise_key

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

MAX_NARRATIVE = 20_000
"""Characters. A short story fits; language models lose track of longer texts."""

MAX_NAME = 60
"""Characters of a key, an instrument or a language. The nearest names are looked for only in what could be one."""

MAX_FINDINGS = 5
"""Faults that one error message names, at most."""

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Percentage = Annotated[float, Field(ge=0, le=100)]
GenerationId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
JobStatus = Literal["pending", "processing", "completed", "failed", "cancelled"]
ShareRole = Literal["viewer", "controller"]
"""What another user may do with a generation: join, hear and download it; cancel it and try it again too."""
AccessRole = Literal["owner", "admin", "controller", "viewer"]
"""As what somebody uses a generation."""
ENDED: tuple[JobStatus, ...] = ("completed", "failed", "cancelled")
"""The statuses of a job that has ended. Only a retry leads out of "failed"."""


_NO_TEXT = re.compile("[\x00-\x08\x0e-\x1f\ud800-\udfff\ufffd]")


def utc_now() -> datetime:
    """Return the current time in UTC, truncated to milliseconds, as the wire carries it."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def iso_time(moment: datetime) -> str:
    """Return the moment as the wire and the run log write it: 2026-01-31T09:30:00.000Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Timestamp = Annotated[
    datetime,
    PlainSerializer(iso_time, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""On the wire UTC, in the format of JavaScript's `Date.toISOString`: 2026-01-31T09:30:00.000Z."""


class WireModel(BaseModel):
    """The base of all models: camelCase on the wire, snake_case in Python; unknown fields are ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore", allow_inf_nan=False
    )

    def to_wire(self) -> dict[str, Any]:
        """Return plain JSON values by wire name, without the fields that are None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_json(self) -> str:
        """Return `to_wire` as JSON text, which pydantic makes in one step."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


def _printable(name: str) -> str:
    if not name.isprintable():
        raise ValueError("is no user's name: it has a character that can't be printed")
    return name


UserName = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]
"""As in a token's `sub`."""


class Share(WireModel):
    """A user with whom a generation is shared."""

    user_id: UserName
    """The user's name, as in the token's `sub`."""
    role: ShareRole
    """What the user may do: a viewer joins, hears and downloads; a controller cancels and retries too."""


class EditedModel(WireModel):
    """A model that users change by `model_copy(update=…)`, which validates nothing: it is validated when it is used."""

    model_config = ConfigDict(revalidate_instances="always")


class Instrument(EditedModel):
    """One instrument of the arrangement."""

    name: str
    """One of `vocabulary.INSTRUMENTS`."""
    role: Role
    """The part that it plays."""

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        return _instrument_name(value)


InstrumentNames = Annotated[list[Instrument | str], Field(min_length=1, max_length=8)]


class LyricSection(NamedTuple):
    """A block of lyrics. name: as printed, e.g. "Verse 1". lines: without line ends."""

    name: str
    lines: tuple[str, ...]


class Wish(WireModel):
    """A wish that stage 1 read in the narrative, such as "80 bpm" or "no drums"."""

    field: Annotated[str, Field(min_length=1, max_length=20)]
    """What it is about: tempo, key, meter, genre, instruments, voice, length, language, mood, humour or audience."""
    text: Annotated[str, Field(min_length=1, max_length=200)]
    """The words of the narrative."""
    value: Annotated[str, Field(min_length=1, max_length=80)]
    """What was understood, such as "80 bpm", "D minor" or "no drums"."""
    outcome: Literal["followed", "overruled", "impossible"]
    """Overruled: an explicit option says otherwise. Impossible: no engine here can do it."""


class SongMetadata(EditedModel):
    """Stage 1's result, from which stage 2 makes the song."""

    title: Annotated[str, Field(min_length=1, max_length=120)]
    """Plain text."""
    lyrics: Annotated[str, Field(max_length=MAX_NARRATIVE)]
    """Sections start with a line such as `[Verse 1]`, lines follow; sections are parted by a blank line."""
    genre: Annotated[str, Field(min_length=1, max_length=40)]
    """Plain text."""
    mood: Annotated[list[str], Field(min_length=1, max_length=5)]
    """One to five words."""
    bpm: Annotated[int, Field(ge=40, le=220)]
    """Quarter notes a minute."""
    key: str
    """As "A minor"."""
    instruments: Annotated[list[Instrument], Field(min_length=1, max_length=8)]
    """In the order of rendering."""
    language: Annotated[str | None, Field(min_length=2, max_length=35)] = None
    """The lyrics' language as a BCP 47 tag, such as "en"; none if it is unknown."""
    narrative_digest: Annotated[str | None, Field(pattern=r"^[0-9a-f]{16}$")] = None
    """Of the narrative: stage 2 draws from it and the seed, so that other stories get other music."""
    wishes: Annotated[list[Wish], Field(max_length=40)] = Field(default_factory=list)
    """What stage 1 understood of the narrative's wishes."""
    warnings: Annotated[list[str], Field(max_length=20)] = Field(default_factory=list)
    """What the song lacks of what was asked, in sentences for people."""

    @field_validator("key")
    @classmethod
    def _key(cls, value: str) -> str:
        return _key_name(value)

    @field_validator("language")
    @classmethod
    def _language(cls, value: str | None) -> str | None:
        return None if value is None else _tag(value)

    @property
    def sung_language(self) -> str | None:
        """`language`, or else the one that the lyrics seem to be in."""
        return self.language or detect_language(" ".join(line for section in self.sections for line in section.lines))

    @property
    def sections(self) -> tuple[LyricSection, ...]:
        """The lyrics by section; text before the first header becomes a section named "Verse".

        A chorus without lines, as "[Chorus]" alone, repeats those of the first one that has any."""
        found: list[tuple[str, list[str]]] = []
        for raw in self.lyrics.splitlines():
            line = raw.strip()
            header = re.fullmatch(r"\[(.+?)\]", line)
            if header:
                found.append((header[1].strip(), []))
            elif line:
                if not found:
                    found.append(("Verse", []))
                found[-1][1].append(line)
        chorus = next((lines for name, lines in found if lines and section_kind(name) == "chorus"), [])
        found = [(name, lines or (chorus if section_kind(name) == "chorus" else [])) for name, lines in found]
        return tuple(LyricSection(name, tuple(lines)) for name, lines in found if lines)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def syllable_count(self) -> int:
        """Sung syllables; section headers are not sung."""
        return self._counts().syllables

    @computed_field  # type: ignore[prop-decorator]
    @property
    def word_count(self) -> int:
        """Sung words."""
        return self._counts().words

    @model_validator(mode="wrap")
    @classmethod
    def _take_counts(cls, value: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        """Take over the counts of metadata that Harmonia Lab wrote; a client's are left unread."""
        metadata = handler(value)
        if info.context is GIVEN and isinstance(value, dict):
            keep_given(metadata.lyrics, metadata.language, value)
        return metadata

    def _counts(self) -> SungCounts:
        return counted(self.lyrics, self.language, self._count)

    def _count(self) -> SungCounts:
        language = self.sung_language
        words = [word for section in self.sections for line in section.lines for word in sung_words(line, language)]
        return SungCounts(sum(len(word.pieces) for word in words), len(words))


class SongRequest(WireModel):
    """A song to be made. If they are None, stage 1 chooses bpm, key, genre and instruments; seed is drawn at random."""

    narrative: Annotated[str, Field(max_length=MAX_NARRATIVE)] = ""
    """The story."""
    generation_id: GenerationId | None = None
    """The generation's id, if the caller chooses it; if not, the server does."""
    model: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    """The language model, by its name on its server."""
    audio_model: Annotated[str | None, Field(min_length=1, max_length=400)] = None
    """The audio model, by a name that the server offers, or, in this process, a checkpoint's folder."""
    seconds: Annotated[float, Field(ge=1, le=600)] = 20.0
    """Length of the song, 1…600 s."""
    bpm: Annotated[int | None, Field(ge=40, le=220)] = None
    """40…220 quarter notes a minute."""
    key: str | None = None
    """Such as "A minor"."""
    genre: Annotated[str | None, Field(min_length=1, max_length=40)] = None
    """Such as "folk"."""
    instruments: Annotated[list[Instrument] | None, Field(min_length=1, max_length=8)] = None
    """Names or instruments; a bare name gets its usual role."""
    language: Annotated[str | None, Field(min_length=2, max_length=35)] = None
    """The lyrics' language, such as "de" or "German"; none: the narrative's."""
    wishes: bool = True
    """Whether wishes in the narrative ("a slow waltz, no drums") are followed."""
    seed: Seed | None = None
    """0…2³²−1; the same seed gives the same bytes with the offline engines."""
    metadata: SongMetadata | None = None
    """If it is given, stage 1 is skipped."""

    @field_validator("narrative", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if len(value) > MAX_NARRATIVE:
            raise ValueError(f"has {len(value):,} characters; at most {MAX_NARRATIVE:,} are read. Shorten it")
        if _NO_TEXT.search(value):
            raise ValueError("holds control characters or undecodable bytes: it is no text. Give it as UTF-8 text")
        return value.strip()

    @field_validator("key")
    @classmethod
    def _key(cls, value: str | None) -> str | None:
        return None if value is None else _key_name(value)

    @field_validator("language")
    @classmethod
    def _language(cls, value: str | None) -> str | None:
        return None if value is None else _tag(value)

    @field_validator("instruments", mode="before", json_schema_input_type=InstrumentNames | None)
    @classmethod
    def _names(cls, value: Any) -> Any:
        """Replace each bare name by the instrument in its usual role."""
        if isinstance(value, list):
            return [
                {"name": v, "role": INSTRUMENTS[_instrument_name(v)].role} if isinstance(v, str) else v for v in value
            ]
        return value


class StemFile(WireModel):
    """One rendered instrument on disk."""

    name: str
    role: Role
    path: str
    """Absolute."""
    sample_rate: int
    """Hz."""


class Song(WireModel):
    """A finished song on disk. Paths are absolute; duration is in seconds, file_size in bytes, checksum is SHA-256."""

    generation_id: str
    song_id: str
    metadata: SongMetadata
    directory: str
    audio_path: str
    duration: float
    file_size: int
    checksum: str
    stems: list[StemFile]
    engines: dict[str, str]
    """{"metadata": name, "audio": name}."""
    timings: dict[str, float]
    """Seconds by stage and step."""
    seed: Seed


class JobProgress(WireModel):
    """How far a job is."""

    current: Annotated[int, Field(ge=0)] = 0
    """The percentage, rounded down: a client may divide it by `total`."""
    total: Annotated[int, Field(ge=1)] = 100
    """Always 100."""
    percentage: Percentage = 0.0
    """0…100 over both stages; never goes back within one attempt."""
    message: str = ""
    """What the job is doing, for people to read."""


class JobResult(WireModel):
    """The result of a job that has ended."""

    output_path: str | None = None
    """A URL from which the song can be fetched for a while."""
    metadata: SongMetadata | None = None
    """The finished song's metadata."""
    error: str | None = None
    """Why there is no song."""


class Job(WireModel):
    """A generation as clients see it."""

    id: GenerationId
    """The generation's id."""
    user_id: str
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


def explain(error: ValidationError) -> str:
    """Return pydantic's findings as one line for users, without repeating long or private input."""
    parts = []
    found = error.errors(include_url=False)
    for item in found[:MAX_FINDINGS]:
        where = ".".join(str(p) for p in item["loc"]) or "request"
        # Pydantic names Python's types, which tell the author of a JavaScript client nothing.
        no_object = item["type"] in ("model_type", "model_attributes_type", "dataclass_type", "dict_type")
        message = "should be an object" if no_object else item["msg"].removeprefix("Value error, ")
        value = item["input"]
        is_short = not isinstance(value, str | bytes | list | tuple | dict) or len(value) <= 40
        given = repr(value) if is_short else ""
        shown = f" (got {given})" if given and len(given) <= 40 and item["type"] != "value_error" else ""
        parts.append(f"{where} {message[0].lower()}{message[1:]}{shown}")
    if len(found) > MAX_FINDINGS:
        parts.append(f"and {len(found) - MAX_FINDINGS} more")
    return "; ".join(parts) + "."


def _instrument_name(value: str) -> str:
    found = find_instrument(value) if len(value) <= MAX_NAME else None
    if found is None:
        near = difflib.get_close_matches(value[:MAX_NAME].lower(), INSTRUMENTS, 3, 0.5)
        raise ValueError(
            f"{value[:40]!r} is no known instrument. {'Nearest' if near else 'Known'}: {', '.join(near or INSTRUMENTS)}"
        )
    return found


def _tag(value: str) -> str:
    found = language_tag(value) if len(value) <= MAX_NAME else None
    if found is None:
        near = ", ".join(nearest_names(value[:MAX_NAME]))
        raise ValueError(f"{value[:40]!r} is no language that we know. Write a name or a tag, such as 'de'; or {near}")
    return found


def _key_name(value: str) -> str:
    found = normalise_key(value) if len(value) <= MAX_NAME else None
    if found is None:
        raise ValueError(f"{value[:40]!r} is no key. Write a tonic and a mode, such as 'A minor', 'F# major' or 'Bbm'")
    return found
