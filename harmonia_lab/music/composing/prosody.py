"""A line of lyrics as syllables with stress: what the melody has to sing.

Owns which syllables are stressed in a sentence. Counting syllables and the stress inside a word come from `syllables`.
"""

from __future__ import annotations

from typing import NamedTuple

from harmonia_lab.syllables import syllable_stresses, words_of

__all__ = ["Line", "Syllable", "read_line"]

_UNSTRESSED = frozenset(
    (
        *("a", "an", "the", "and", "or", "but", "as", "if", "than", "that", "so", "nor"),
        *("of", "to", "in", "on", "at", "by", "for", "from", "with", "into", "up"),
        *("i", "me", "my", "you", "your", "he", "him", "his", "she", "her", "it", "its", "we", "us", "our", "they"),
        *("them", "their", "who", "am", "is", "are", "was", "were", "be", "been", "has", "have", "had", "do", "does"),
        *("did", "will", "would", "can", "could", "shall", "should", "may", "might", "must", "i'm", "it's", "there"),
    )
)
"""Function words of one syllable, which English leaves unstressed in running speech."""


class Syllable(NamedTuple):
    """text: the word on its first syllable, "-" on the others."""

    text: str
    stressed: bool


class Line(NamedTuple):
    text: str
    syllables: tuple[Syllable, ...]


def read_line(text: str) -> Line:
    """The line's syllables in order; empty where the line has no word (only digits or signs)."""
    found: list[Syllable] = []
    for word in words_of(text):
        stresses = syllable_stresses(word)
        if len(stresses) == 1:
            stresses = (word.lower() not in _UNSTRESSED,)
        found += [Syllable(word if i == 0 else "-", stressed) for i, stressed in enumerate(stresses)]
    return Line(text, tuple(found))
