"""Prosody: a line of lyrics as syllables with stress.

Owns which syllables are stressed in a sentence. `harmonia_lab/syllables.py` counts the syllables of a word and knows
the stress inside it.
"""

from __future__ import annotations

from typing import NamedTuple

from harmonia_lab.syllables import syllable_stresses, words_of

__all__ = ["LyricLine", "Syllable", "syllabify"]

_UNSTRESSED = frozenset(
    """a an the and or but as if than that so nor of to in on at by for from with into up
    i me my you your he him his she her it its we us our they them their who there i'm it's am is are was were be been
    has have had do does did will would can could shall should may might must""".split()  # noqa: SIM905 - a word list
)
"""Function words of one syllable, which English leaves unstressed in running speech."""


class Syllable(NamedTuple):
    """text: the whole word on its first syllable, "-" on the others."""

    text: str
    stressed: bool


class LyricLine(NamedTuple):
    text: str
    syllables: tuple[Syllable, ...]


def syllabify(text: str) -> LyricLine:
    """Return the line's syllables in order; none if it has no word (only digits or signs)."""
    found: list[Syllable] = []
    for word in words_of(text):
        stresses = syllable_stresses(word)
        if len(stresses) == 1:
            stresses = (word.lower() not in _UNSTRESSED,)
        found += [Syllable(word if i == 0 else "-", stressed) for i, stressed in enumerate(stresses)]
    return LyricLine(text, tuple(found))
