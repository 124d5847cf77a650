"""The nouns of the protocol: what is asked for (`SongRequest`), what stage 1 writes (`SongMetadata`), what comes out
(`Song`), and how a generation looks from outside (`Job`).

Owns ranges, units and the wire names (camelCase; Python attributes are snake_case). It validates and normalises, and
does nothing else.
"""

from __future__ import annotations

import difflib
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    computed_field,
    field_validator,
)
from pydantic.alias_generators import to_camel

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.protocol.vocabulary import INSTRUMENTS, Role, find_instrument, normalise_key
from harmonia_lab.syllables import count_syllables, words_of

__all__ = [
    "ENDED",
    "MAX_FINDINGS",
    "MAX_NARRATIVE",
    "GenerationId",
    "Instrument",
    "Job",
    "JobProgress",
    "JobResult",
    "JobStatus",
    "LyricSection",
    "Percentage",
    "Song",
    "SongMetadata",
    "SongRequest",
    "StemFile",
    "Timestamp",
    "WireModel",
    "check_contradictions",
    "explain",
    "parse_request",
    "utc_now",
]

MAX_NARRATIVE = 20_000
"""Characters. A short story fits; more than that no model reads with attention, and a megabyte is a mistake."""

MAX_FINDINGS = 5
"""Faults that one answer names: who mends five at once reads no more."""

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Percentage = Annotated[float, Field(ge=0, le=100)]
GenerationId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
JobStatus = Literal["pending", "processing", "completed", "failed", "cancelled"]
ENDED: tuple[JobStatus, ...] = ("completed", "failed", "cancelled")
"""The statuses of a job that has ended. Only a retry leads out of "failed"."""


def utc_now() -> datetime:
    """The current time, UTC, cut to the milliseconds that the wire carries."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Timestamp = Annotated[
    datetime,
    PlainSerializer(_iso, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""UTC on the wire as a JavaScript `Date` prints itself: 2026-01-31T09:30:00.000Z."""


class WireModel(BaseModel):
    """camelCase on the wire, snake_case in Python, unknown fields ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore", allow_inf_nan=False
    )

    def to_wire(self) -> dict[str, Any]:
        """Plain JSON values under wire names; fields that are None are left out, as the guide's optional fields are."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_json(self) -> str:
        """`to_wire` as JSON text, in one step."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


class EditedModel(WireModel):
    """What people change by `model_copy(update=…)`, which checks nothing: checked where it is put to use."""

    model_config = ConfigDict(revalidate_instances="always")


class Instrument(EditedModel):
    """One voice of the arrangement."""

    name: str
    """One of `vocabulary.INSTRUMENTS`."""
    role: Role
    """What it plays."""

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        return _instrument_name(value)


InstrumentNames = Annotated[list[Instrument | str], Field(min_length=1, max_length=8)]


class LyricSection(NamedTuple):
    """A block of lyrics. name: as printed, e.g. "Verse 1". lines: without line ends."""

    name: str
    lines: tuple[str, ...]


class SongMetadata(EditedModel):
    """Stage 1's result, and everything that stage 2 needs to know."""

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

    @field_validator("key")
    @classmethod
    def _key(cls, value: str) -> str:
        return _key_name(value)

    @property
    def sections(self) -> tuple[LyricSection, ...]:
        """The lyrics by section; text before the first header becomes a section named "Verse"."""
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
        return tuple(LyricSection(name, tuple(lines)) for name, lines in found if lines)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def syllable_count(self) -> int:
        """Sung syllables; section headers are not sung."""
        return sum(count_syllables(word) for word in self._sung_words())

    @computed_field  # type: ignore[prop-decorator]
    @property
    def word_count(self) -> int:
        """Sung words."""
        return len(self._sung_words())

    def _sung_words(self) -> list[str]:
        return [word for section in self.sections for line in section.lines for word in words_of(line)]


class SongRequest(WireModel):
    """What a researcher asks for. What is None is decided by stage 1 (bpm, key, genre, instruments) or drawn (seed)."""

    narrative: Annotated[str, Field(max_length=MAX_NARRATIVE)] = ""
    """The story."""
    generation_id: GenerationId | None = None
    """A name of one's own."""
    model: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    """The language model's name on its server."""
    audio_model: Annotated[str | None, Field(min_length=1, max_length=400)] = None
    """The audio model."""
    seconds: Annotated[float, Field(ge=1, le=600)] = 20.0
    """Length of the song, 1…600 s."""
    bpm: Annotated[int | None, Field(ge=40, le=220)] = None
    """40…220 quarter notes a minute."""
    key: str | None = None
    """As "A minor"."""
    genre: Annotated[str | None, Field(min_length=1, max_length=40)] = None
    """As "folk"."""
    instruments: Annotated[list[Instrument] | None, Field(min_length=1, max_length=8)] = None
    """A bare name plays its usual role."""
    seed: Seed | None = None
    """0…2³²−1; the same seed gives the same bytes with the offline engines."""
    metadata: SongMetadata | None = None
    """Given, stage 1 is skipped."""

    @field_validator("narrative", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if len(value) > MAX_NARRATIVE:
            raise ValueError(
                f"has {len(value):,} characters; at most {MAX_NARRATIVE:,} are read. Shorten it to its heart"
            )
        if any((ord(c) < 32 and c not in "\t\n\r\f\v") or 0xD800 <= ord(c) <= 0xDFFF or c == "\ufffd" for c in value):
            raise ValueError("holds control characters or undecodable bytes: it is no text. Give it as UTF-8 text")
        return value.strip()

    @field_validator("key")
    @classmethod
    def _key(cls, value: str | None) -> str | None:
        return None if value is None else _key_name(value)

    @field_validator("instruments", mode="before", json_schema_input_type=InstrumentNames | None)
    @classmethod
    def _names(cls, value: Any) -> Any:
        """A bare name stands for the instrument in its usual role."""
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
    """The same in percent points, so that a client which divides one by the other agrees."""
    total: Annotated[int, Field(ge=1)] = 100
    """The same in percent points, so that a client which divides one by the other agrees."""
    percentage: Percentage = 0.0
    """0…100 over both stages; never goes back within one attempt."""
    message: str = ""
    """What is being done."""


class JobResult(WireModel):
    """How a job ended."""

    output_path: str | None = None
    """Where the song can be fetched, for a while."""
    metadata: SongMetadata | None = None
    """Of the finished song."""
    error: str | None = None
    """Why there is none."""


class Job(WireModel):
    """A generation as seen from outside."""

    id: GenerationId
    """The generation's."""
    user_id: str
    """Who started it and may see it."""
    job_type: Literal["song-generation"] = "song-generation"
    """Always this."""
    status: JobStatus = "pending"
    """Now."""
    progress: JobProgress = JobProgress()
    """Now."""
    created_at: Timestamp
    """When."""
    updated_at: Timestamp
    """When."""
    result: JobResult | None = None
    """Once it has ended."""

    def linked(self, url: str) -> Self:
        """With `url` as the place of its song, if it has one."""
        if self.result is None or self.result.output_path is None:
            return self
        return self.model_copy(update={"result": self.result.model_copy(update={"output_path": url})})

    def ended(self, status: JobStatus, moment: datetime, result: JobResult | None = None) -> Self:
        """Return the job as it ended at `moment`, with the progress that it had."""
        return self.model_copy(update={"status": status, "updated_at": moment, "result": result})

    def for_admin(self) -> Self:
        """Without the words that its owner's story turned into."""
        if self.result is None or self.result.metadata is None:
            return self
        return self.model_copy(update={"result": self.result.model_copy(update={"metadata": None})})


def parse_request(**fields: Any) -> SongRequest:
    """A `SongRequest` from untrusted fields.

    Raises InvalidRequest that names the field, the value's fault and the range, instead of pydantic's report.
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


def check_contradictions(request: SongRequest) -> SongRequest:
    """The same. Raises InvalidRequest for what stage 1 alone would read, where metadata is given and skips it."""
    twice = [name for name in ("bpm", "key", "genre", "instruments") if getattr(request, name) is not None]
    if request.metadata is not None and twice:
        raise InvalidRequest(
            f"{', '.join(twice)}: the metadata that is given says that already.",
            hint="Change it there.",
            details={"fields": twice},
        )
    return request


def explain(error: ValidationError) -> str:
    """Pydantic's findings as one line a person can act on, without echoing long or private input."""
    parts = []
    found = error.errors(include_url=False)
    for item in found[:MAX_FINDINGS]:
        where = ".".join(str(p) for p in item["loc"]) or "request"
        # Python's names for it mean nothing to who wrote JavaScript.
        no_object = item["type"] in ("model_type", "model_attributes_type", "dataclass_type", "dict_type")
        message = "should be an object" if no_object else item["msg"].removeprefix("Value error, ")
        given = repr(item["input"])
        shown = f" (got {given})" if len(given) <= 40 and item["type"] != "value_error" else ""
        parts.append(f"{where} {message[0].lower()}{message[1:]}{shown}")
    if len(found) > MAX_FINDINGS:
        parts.append(f"and {len(found) - MAX_FINDINGS} more")
    return "; ".join(parts) + "."


def _instrument_name(value: str) -> str:
    found = find_instrument(value)
    if found is None:
        near = difflib.get_close_matches(value.lower(), INSTRUMENTS, 3, 0.5)
        raise ValueError(
            f"{value[:40]!r} is no known instrument. {'Nearest' if near else 'Known'}: {', '.join(near or INSTRUMENTS)}"
        )
    return found


def _key_name(value: str) -> str:
    found = normalise_key(value)
    if found is None:
        raise ValueError(f"{value[:40]!r} is no key. Write a tonic and a mode, such as 'A minor', 'F# major' or 'Bbm'")
    return found
