"""The columns of a table of songs, and which header means which column.

Owns names only; what a cell may hold is in `rows.py`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping

from harmonia_lab.errors import InvalidRequest

__all__ = ["COLUMNS", "column_of", "columns_of"]

COLUMNS = (
    "narrative",
    "seconds",
    "seed",
    "bpm",
    "key",
    "genre",
    "instruments",
    "language",
    "wishes",
    "model",
    "metadata",
    "audio",
    "audio_model",
    "name",
)
"""Fields of `SongRequest`; `audio`, the engine; and `name`, of the song's folder. An empty cell leaves the choice to
the engines.

instruments: a list, or names with commas between them. metadata: an object, or the path of a song's `metadata.json`
(relative to the table's folder); stage 1 is skipped. model: the language model. audio: auto, or an engine's name.
wishes: false takes the narrative's wishes as story.
audio_model: one of the engine's models; with it, auto is the engine that has such models.
Other columns go into the report as they are.
"""

_MEANT = {
    "narrative": ("story", "stories", "text", "prompt", "description"),
    "seconds": ("length", "duration", "sec", "secs"),
    "bpm": ("tempo", "bmp", "beatsperminute"),
    "key": ("tonality", "scale"),
    "genre": ("style",),
    "instruments": ("band", "instrumentation"),
    "language": ("lang", "locale"),
    "audio": ("engine", "audioengine"),
    "model": ("llm", "languagemodel", "metadatamodel"),
    "seed": ("randomseed",),
}
"""Column → other words for it, as `_letters` has them."""

_NEAR = 0.8
"""`difflib`'s similarity from which a header is a mistyped column: "narative", not "mood" beside "model"."""


def column_of(header: str) -> str | None:
    """Return the column that the header names in any case, with blanks or hyphens for underscores; else None."""
    return _BY_LETTERS.get(_letters(header))


def columns_of(headers: Iterable[object], where: str) -> Mapping[str, str | None]:
    """Return header → column, or None for a column that only the report gets.

    Raises InvalidRequest, whose message begins with `where`, for a header that is no string, for two that name one
    column, and for one that seems to mean a column that the others don't name.
    """
    found: dict[str, str | None] = {}
    for header in headers:
        if not isinstance(header, str):
            raise InvalidRequest(f"{where}: the column {header!r} has no name.", hint=_KNOWN)
        column = column_of(header)
        if header in found or (column is not None and column in found.values()):
            raise InvalidRequest(
                f"{where} names a column twice: {header[:40]!r}.", details={"fields": [header[:40]]}, hint=_KNOWN
            )
        found[header] = column
    for header, column in found.items():
        if column is None and (meant := _meant(header, found.values())):
            raise InvalidRequest(
                f"{where}: there is no column {header[:40]!r}. Did you mean {meant!r}?",
                hint=_KNOWN,
                details={"fields": [header[:40]]},
            )
    return found


def _meant(header: str, taken: Collection[str | None]) -> str | None:
    """Return the column that the header may mean. A column that is there already isn't missed."""
    letters = _letters(header)
    near = difflib.get_close_matches(letters, _BY_LETTERS, 1, _NEAR)
    meant = _BY_LETTERS[near[0]] if near else _SYNONYMS.get(letters)
    return None if meant in taken else meant


def _letters(header: str) -> str:
    return re.sub(r"[\W_]+", "", header.casefold())


_BY_LETTERS = {_letters(column): column for column in COLUMNS}
_SYNONYMS = {word: column for column, words in _MEANT.items() for word in words}
_KNOWN = f"Known: {', '.join(COLUMNS)}."
