"""The words that wishes are made of: tempo, mood, genre, instruments, voice, humour, audience, and what stands between.

Owns the reading of `words.txt` (not figures, keys and languages: `figures.py`, nor when a word is a wish:
`reading.py`). Italian tempo terms are in the order of handbooks (largo, adagio, andante, allegro, presto); genres are
those of `music.genres.nearest_genre`; instruments those of `protocol.vocabulary`, and well-known others that no engine
here has.
"""

from __future__ import annotations

from importlib import resources
from typing import NamedTuple

from harmonia_lab.protocol.vocabulary import INSTRUMENTS, MOODS

__all__ = [
    "FILLERS",
    "FOREIGN_GLUE",
    "GLUE",
    "HEADS",
    "LULLABY",
    "OTHER_GENRES",
    "OTHER_INSTRUMENTS",
    "PHRASES",
    "SLOW_SONGS",
    "Meaning",
]

LULLABY = "lullaby"
"""A genre only where no other is named."""

SLOW_SONGS = frozenset({"ballad", "balada", "ballade", "lullaby", "wiegenlied", "schlaflied", "berceuse", "cuna"})
"""Songs that are slow by their nature."""


class Meaning(NamedTuple):
    """field, value: as in a `Wish`; empty for an idiom, which is no wish. plain: a word of everyday language, which
    alone proves nothing. noun: it can be what is asked for ("a waltz"), not only describe it ("slow")."""

    field: str
    value: str
    plain: bool
    noun: bool


def _sections() -> dict[str, list[str]]:
    """Return the rows of `words.txt` by section."""
    found: dict[str, list[str]] = {}
    rows = []
    for row in resources.files(__package__).joinpath("words.txt").read_text(encoding="utf-8").splitlines():
        if row.startswith("["):
            rows = found.setdefault(row.strip("[]"), [])
        elif row and not row.startswith("#"):
            rows.append(row)
    return found


def _pairs(rows: list[str]) -> list[tuple[str, str]]:
    """Return (phrase, value) of rows such as "value: phrase, phrase"."""
    found = []
    for row in rows:
        value, _, phrases = row.partition(": ")
        found += [(phrase, value) for phrase in phrases.split(", ")]
    return found


def _phrases(sections: dict[str, list[str]]) -> dict[str, Meaning]:
    found = {mood: Meaning("mood", mood, plain=True, noun=False) for mood in MOODS}
    found |= {name: Meaning("instruments", name, plain=True, noun=True) for name in INSTRUMENTS}
    for name in OTHER_INSTRUMENTS:
        plural = name if name.endswith("s") else f"{name}s"
        found |= dict.fromkeys((name, plural), Meaning("instruments", name, plain=True, noun=True))
    found |= {name: Meaning("genre", name, plain=False, noun=True) for name in OTHER_GENRES}
    for title, rows in sections.items():
        field, *marks = title.split()
        if field in ("tempo", "mood", "humour", "audience", "genre", "instruments", "voice"):
            found |= {phrase: Meaning(field, v, "plain" in marks, "noun" in marks) for phrase, v in _pairs(rows)}
    return found | {phrase: Meaning("", "", plain=True, noun=False) for phrase, _ in _pairs(sections["idioms"])}


_SECTIONS = _sections()


def _list(title: str) -> frozenset[str]:
    return frozenset(" ".join(_SECTIONS[title]).split())


HEADS = _list("heads")
"""What one asks for: with words of music before it, it begins a wish. Lower case."""

FILLERS = _list("fillers")
"""Words that describe music without being a wish that we can follow. Lower case."""

GLUE = _list("glue")
"""Words that stand between words of music. Lower case."""

FOREIGN_GLUE = _list("foreign glue")
"""The same in German, Spanish, French and Italian."""

OTHER_GENRES = {row.partition(": ")[0]: row.partition(": ")[2] for row in _SECTIONS["other genres"]}
"""Genres that no engine here has, each with the one that is played instead."""

OTHER_INSTRUMENTS = {
    name: "" if instead == "percussion" else instead for name, instead in _pairs(_SECTIONS["other instruments"])
}
"""Instruments that no engine here has, each with the nearest one that there is; empty: percussion, for which drums
play."""

PHRASES = _phrases(_SECTIONS)
"""Meaning in lower case → its meaning."""
