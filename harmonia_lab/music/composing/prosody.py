"""Prosody: a line of lyrics as syllables with stress.

Owns which syllables are stressed in a sentence. `harmonia_lab/languages/singing.py` divides the line into words and
syllables, and knows the stress inside a word.
"""

from __future__ import annotations

from typing import NamedTuple

from harmonia_lab.languages.singing import sung_words

__all__ = ["LyricLine", "Syllable", "syllabify"]

_UNSTRESSED = frozenset(
    """a an the and or but as if than that so nor of to in on at by for from with into up
    i me my you your he him his she her it its we us our they them their who there i'm it's am is are was were be been
    has have had do does did will would can could shall should may might must
    el la los las de del que y en un me mi su se con por al lo le tu te il gli di che non si del della o os as do da um
    no na dos der die das und den dem ein ich er sie mit von zu ist es les des du et une je elle que dans est ne pas mon
    ma son sa au qui и в на не с что я он а но по из за к о от у же то как"""  # one list: the words differ little
    .split()
)
"""Function words of one syllable, which English and the languages around it leave unstressed in running speech."""


class Syllable(NamedTuple):
    """text: the whole word on its first syllable, "-" on the others; in Chinese, Korean, Thai and kana the character or
    mora that is sung."""

    text: str
    stressed: bool


class LyricLine(NamedTuple):
    text: str
    syllables: tuple[Syllable, ...]


def syllabify(text: str, language: str | None = None) -> LyricLine:
    """Return the line's syllables in order; none if it has no word (only digits or signs).

    language: a BCP 47 tag, for words whose script doesn't tell it; None for English.
    """
    found: list[Syllable] = []
    for word in sung_words(text, language):
        stresses = word.stresses
        if len(stresses) == 1 and stresses[0]:
            stresses = (word.text.lower() not in _UNSTRESSED,)
        found += [Syllable(piece, stressed) for piece, stressed in zip(word.pieces, stresses, strict=True)]
    return LyricLine(text, tuple(found))
