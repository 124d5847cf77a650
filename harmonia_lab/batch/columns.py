"""The columns of a table of songs, and which header means which column.

Owns names only; what a cell may hold is in `rows.py`.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Collection, Iterable, Mapping

from harmonia_lab.audio_options import known_options
from harmonia_lab.errors import InvalidRequest

__all__ = ["COLUMNS", "column_of", "columns_of", "known_columns", "option_columns"]

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
    "audio_options",
    "name",
)
"""Fields of `SongRequest`; `audio`, the engine; and `name`, of the song's folder. An empty cell leaves the choice to
the engines.

instruments: a list, or names with commas between them. metadata: an object, or the path of a song's `metadata.json`
(relative to the table's folder); stage 1 is skipped. model: the language model. audio: auto, or an engine's name.
wishes: false takes the narrative's wishes as story.
audio_model: one of the engine's models; with it, auto is the engine that has such models.
audio_options: an object, or its JSON: the engine's settings for this song. Each of them is a column of its own, too
(`option_columns`), such as prompt and cfg_coef.
Other columns go into the report as they are.
"""

_MEANT = {
    "narrative": ("story", "stories", "text", "description"),
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

_OWN_WORDS = ("follow", "source", "steps", "strength")
"""Settings whose names tables have for other things."""

_NEAR = 0.8
"""`difflib`'s similarity from which a header is a mistyped column: "narative", not "mood" beside "model"."""


def option_columns() -> Mapping[str, str]:
    """Return column → setting of an audio engine that a row can have its own value of.

    Those of `_OWN_WORDS` have a prefix: audio_options.source.
    """
    return {f"audio_options.{name}" if name in _OWN_WORDS else name: name for name in known_options()}


def known_columns() -> str:
    """Return what an error's hint says of the columns that there are."""
    return f"Known: {', '.join((*COLUMNS, *option_columns()))}."


def column_of(header: str) -> str | None:
    """Return the column that the header names in any case, with blanks or hyphens for underscores; else None."""
    return _by_letters((*COLUMNS, *option_columns())).get(_letters(header))


def columns_of(headers: Iterable[object], where: str) -> Mapping[str, str | None]:
    """Return header → column, or None for a column that only the report gets.

    Raises InvalidRequest, whose message begins with `where`, for a header that is no string, for two that name one
    column, and for one that seems to mean a column that the others don't name.
    """
    found: dict[str, str | None] = {}
    for header in headers:
        if not isinstance(header, str):
            raise InvalidRequest(f"{where}: the column {header!r} has no name.", hint=known_columns())
        column = column_of(header)
        if header in found or (column is not None and column in found.values()):
            raise InvalidRequest(
                f"{where} names a column twice: {header[:40]!r}.",
                details={"fields": [header[:40]]},
                hint=known_columns(),
            )
        found[header] = column
    for header, column in found.items():
        if column is None and (meant := _meant(header, found.values())):
            raise InvalidRequest(
                f"{where}: there is no column {header[:40]!r}. Did you mean {meant!r}?",
                hint=known_columns(),
                details={"fields": [header[:40]]},
            )
    return found


def _meant(header: str, taken: Collection[str | None]) -> str | None:
    """Return the column that the header may mean. A column that is there already isn't missed."""
    letters, known = _letters(header), _by_letters((*COLUMNS, *option_columns()))
    near = difflib.get_close_matches(letters, known, 1, _NEAR)
    meant = known[near[0]] if near else _SYNONYMS.get(letters)
    return None if meant in taken else meant


def _letters(header: str) -> str:
    return re.sub(r"[\W_]+", "", header.casefold())


@functools.lru_cache(maxsize=4)
def _by_letters(columns: tuple[str, ...]) -> dict[str, str]:
    return {_letters(column): column for column in columns}


_SYNONYMS = {word: column for column, words in _MEANT.items() for word in words}
