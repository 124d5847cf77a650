"""The answer that a large model is asked for: its schema, and what is forgiven in it.

Owns `SongDraft` and the cleaning of its sections (not the question: `structured.py`, nor the rules that replace a
value: `mending.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from harmonia_lab.languages.section_names import header_of, section_kind
from harmonia_lab.metadata_engines.prompting.answers import plain_line
from harmonia_lab.metadata_engines.prompting.chords import is_chord_line, without_chords
from harmonia_lab.protocol.vocabulary import INSTRUMENTS, find_instrument, normalise_key

__all__ = ["SongDraft"]

MOST_LINES = 16
"""Of one section."""


# The names and docstrings of the two models are part of the JSON schema that the language model gets: a change of them
# changes songs and the template version.
class SongDraft(BaseModel):
    """The answer that is asked for. Validation forgives what is said in another form but clear."""

    class Section(BaseModel):
        """A block of lyrics."""

        model_config = ConfigDict(extra="ignore")

        section: Annotated[str, Field(min_length=1, max_length=40)]
        lines: Annotated[list[str], Field(min_length=1, max_length=16)]

    model_config = ConfigDict(extra="ignore")

    title: Annotated[str, Field(min_length=1, max_length=80)]
    lyrics: Annotated[list[Section], Field(min_length=1, max_length=16)]
    genre: Annotated[str, StringConstraints(min_length=1, max_length=40, to_lower=True)]
    mood: Annotated[list[str], Field(min_length=1, max_length=5)]
    bpm: Annotated[int, Field(ge=40, le=220)]
    key: str
    instruments: Annotated[list[str], Field(min_length=1, max_length=8)]

    @field_validator("title", "genre", mode="before")
    @classmethod
    def _one_line(cls, value: Any) -> Any:
        return _plain(value)

    @field_validator("lyrics", mode="before")
    @classmethod
    def _sections(cls, value: Any) -> Any:
        """Also accept one text with headers, a list of lines, and an object of sections."""
        if isinstance(value, Mapping):
            value = [{"section": name, "lines": lines} for name, lines in value.items()]
        if isinstance(value, list) and all(isinstance(line, str) for line in value):
            value = "\n".join(value)
        if isinstance(value, str):
            value = _sections_of(value)
        if not isinstance(value, list):
            return value
        sections = [part for number, section in enumerate(value, 1) for part in _clean_sections(section, number)]
        # A section without words is an interlude, unless the song has no words at all.
        return _with_words(sections) or sections

    @field_validator("mood", mode="before")
    @classmethod
    def _moods(cls, value: Any) -> Any:
        words = re.split(r"[,;/]|\band\b", value) if isinstance(value, str) else value
        if not isinstance(words, list):
            return words
        words = [_plain(word).lower() if isinstance(word, str) else word for word in words]
        return [word for word in words if word][:3]

    @field_validator("bpm", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        match = re.search(r"\d+", value) if isinstance(value, str) else None
        return int(match[0]) if match else round(value) if isinstance(value, float) and math.isfinite(value) else value

    @field_validator("key")
    @classmethod
    def _key(cls, value: str) -> str:
        found = normalise_key(re.sub(r"(?i)\b(key of|scale)\b", "", value))
        if found is None:
            raise ValueError("must be a major or minor key such as 'A minor'")
        return found

    @field_validator("instruments", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        """Return the known instruments, each once. Raise ValueError if there is none."""
        if isinstance(value, str):
            value = value.split(",")
        if not isinstance(value, list):
            return value
        names = [entry.get("name") if isinstance(entry, Mapping) else entry for entry in value]
        known = [find_instrument(name) for name in names if isinstance(name, str)]
        if not any(known):
            raise ValueError(f"must name instruments from this list: {', '.join(INSTRUMENTS)}")
        return list(dict.fromkeys(filter(None, known)))


def _plain(value: Any) -> Any:
    return plain_line(value) if isinstance(value, str) else value


def _sections_of(text: str) -> list[dict[str, Any]]:
    """Return the sections of a text whose headers are lines such as "[Verse 1]", "Estribillo:" or 【サビ】."""
    sections: list[dict[str, Any]] = [{"section": "Verse 1", "lines": []}]
    for line in text.splitlines():
        header = header_of(line)
        if header and without_chords(line).strip():
            sections.append({"section": header, "lines": []})
        elif line.strip():
            sections[-1]["lines"].append(line)
    return _with_words(sections)


def _with_words(sections: list[Any]) -> list[Any]:
    """Return the sections that have lines. One without gets those of the section of its kind, if it is a chorus."""
    words = {section_kind(s["section"]): s["lines"] for s in reversed(sections) if isinstance(s, dict) and s["lines"]}
    found = [
        {**s, "lines": words["chorus"]}
        if isinstance(s, dict) and not s["lines"] and "chorus" in words and section_kind(s["section"]) == "chorus"
        else s
        for s in sections
    ]
    return [s for s in found if not isinstance(s, dict) or s["lines"]]


def _clean_sections(section: Any, number: int) -> list[Any]:
    """Return a section with plain lines, without chords and lines in brackets; a long one as several sections.

    Also accept other names of its fields.
    """
    if not isinstance(section, Mapping):
        return [section]
    name = section.get("section") or section.get("name") or section.get("type") or ""
    lines = section.get("lines") or section.get("text") or section.get("lyrics") or []
    lines = lines.splitlines() if isinstance(lines, str) else lines
    if isinstance(lines, list):
        lines = [without_chords(line) if isinstance(line, str) else line for line in lines]
        lines = [_plain(line) for line in lines if not (isinstance(line, str) and is_chord_line(line))]
        lines = [line for line in lines if line]
        lines = [line for line in lines if not (isinstance(line, str) and re.fullmatch(r"[\[(【（].*[\])】）]", line))]
    title = plain_line(without_chords(str(name))).strip("[]()【】（） :").title()[:40].strip() or f"Part {number}"
    if not isinstance(lines, list) or len(lines) <= MOST_LINES:
        return [{"section": title, "lines": lines}]
    return [{"section": title, "lines": lines[at : at + MOST_LINES]} for at in range(0, len(lines), MOST_LINES)]
