"""Stage 1's result: `SongMetadata` with its instruments, lyrics by section, and the wishes that were read.

Owns ranges, units, validation and normalisation of these. Each field is described by the string under it, which
`schema.py` reads. Other modules import the classes from `models.py`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    ValidationInfo,
    computed_field,
    field_validator,
    model_validator,
)

from harmonia_lab.languages.detection import detect_language
from harmonia_lab.languages.section_names import section_kind
from harmonia_lab.languages.singing import sung_words
from harmonia_lab.languages.tags import language_tag, nearest_names
from harmonia_lab.protocol.counts import GIVEN, SungCounts, counted, keep_given
from harmonia_lab.protocol.text import LINES, ONE_LINE, Told
from harmonia_lab.protocol.vocabulary import INSTRUMENTS, Role, find_instrument, normalise_key
from harmonia_lab.protocol.wire_model import EditedModel, WireModel

__all__ = [
    "MAX_NARRATIVE",
    "Instrument",
    "Instruments",
    "LyricSection",
    "SongMetadata",
    "Wish",
    "instrument_name",
    "key_name",
    "language_code",
]

MAX_NARRATIVE = 20_000
"""Characters. A short story fits; language models lose track of longer texts."""

MAX_NAME = 60
"""Characters of a key, an instrument or a language. The nearest names are looked for only in what could be one."""


class Instrument(EditedModel):
    """One instrument of the arrangement."""

    name: Annotated[str, ONE_LINE]
    """One of `vocabulary.INSTRUMENTS`."""
    role: Role
    """The part that it plays."""

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        return instrument_name(value)


def _with_roles(value: Any) -> Any:
    """Replace each bare name by the instrument in its usual role."""
    if not isinstance(value, list):
        return value
    return [{"name": v, "role": INSTRUMENTS[instrument_name(v)].role} if isinstance(v, str) else v for v in value]


InstrumentNames = Annotated[list[Instrument | str], Field(min_length=1, max_length=8)]
Instruments = Annotated[
    list[Instrument],
    Field(min_length=1, max_length=8),
    BeforeValidator(_with_roles, json_schema_input_type=InstrumentNames),
]
"""One to eight instruments, or their names."""


class LyricSection(NamedTuple):
    """A block of lyrics. name: as printed, e.g. "Verse 1". lines: without line ends."""

    name: str
    lines: tuple[str, ...]


class Wish(WireModel):
    """A wish that stage 1 read in the narrative, such as "80 bpm" or "no drums"."""

    field: Annotated[str, Field(min_length=1, max_length=20), ONE_LINE]
    """What it is about: tempo, key, meter, genre, instruments, voice, length, language, mood, humour or audience."""
    text: Annotated[str, Field(min_length=1, max_length=200), ONE_LINE]
    """The words of the narrative."""
    value: Annotated[str, Field(min_length=1, max_length=80), ONE_LINE]
    """What was understood, such as "80 bpm", "D minor" or "no drums"."""
    outcome: Literal["followed", "overruled", "impossible"]
    """Overruled: an explicit option says otherwise. Impossible: no engine here can do it."""


class SongMetadata(EditedModel):
    """Stage 1's result, from which stage 2 makes the song."""

    title: Annotated[str, Field(min_length=1, max_length=120), ONE_LINE]
    """Plain text."""
    lyrics: Annotated[str, Field(max_length=MAX_NARRATIVE), LINES]
    """Sections start with a line such as `[Verse 1]`, lines follow; sections are parted by a blank line."""
    genre: Annotated[str, Field(min_length=1, max_length=40), ONE_LINE]
    """Plain text."""
    mood: Annotated[list[Annotated[str, ONE_LINE]], Field(min_length=1, max_length=5)]
    """One to five words."""
    bpm: Annotated[int, Field(ge=40, le=220)]
    """Quarter notes a minute."""
    key: Annotated[str, ONE_LINE]
    """As "A minor"."""
    instruments: Instruments
    """In the order of rendering; a bare name gets its usual role."""
    language: Annotated[str, Field(min_length=2, max_length=35), ONE_LINE] | None = None
    """The lyrics' language as a BCP 47 tag, such as "en"; none if it is unknown."""
    narrative_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")] | None = None
    """Of the narrative: stage 2 draws from it and the seed, so that other stories get other music."""
    wishes: Annotated[list[Wish], Field(max_length=40)] = Field(default_factory=list)
    """What stage 1 understood of the narrative's wishes."""
    warnings: Annotated[list[Told], Field(max_length=20)] = Field(default_factory=list)
    """What the song lacks of what was asked, in sentences for people."""

    @field_validator("key")
    @classmethod
    def _key(cls, value: str) -> str:
        return key_name(value)

    @field_validator("language")
    @classmethod
    def _language(cls, value: str | None) -> str | None:
        return None if value is None else language_code(value)

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


def instrument_name(value: str) -> str:
    found = find_instrument(value) if len(value) <= MAX_NAME else None
    if found is None:
        import difflib  # noqa: PLC0415 - for an error's words alone

        near = difflib.get_close_matches(value[:MAX_NAME].lower(), INSTRUMENTS, 3, 0.5)
        raise ValueError(
            f"{value[:40]!r} is no known instrument. {'Nearest' if near else 'Known'}: {', '.join(near or INSTRUMENTS)}"
        )
    return found


def language_code(value: str) -> str:
    found = language_tag(value) if len(value) <= MAX_NAME else None
    if found is None:
        near = ", ".join(nearest_names(value[:MAX_NAME]))
        raise ValueError(f"{value[:40]!r} is no language that we know. Write a name or a tag, such as 'de'; or {near}")
    return found


def key_name(value: str) -> str:
    found = normalise_key(value) if len(value) <= MAX_NAME else None
    if found is None:
        raise ValueError(f"{value[:40]!r} is no key. Write a tonic and a mode, such as 'A minor', 'F# major' or 'Bbm'")
    return found
