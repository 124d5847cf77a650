"""Prosody: a line of lyrics as syllables with stress.

Owns which syllables are stressed in a sentence. `harmonia_lab/languages/singing.py` divides the line into words and
syllables, and knows the stress inside a word.
"""

from __future__ import annotations

from typing import NamedTuple

from harmonia_lab.languages.singing import sung_words
from harmonia_lab.languages.tags import primary

__all__ = ["LyricLine", "Syllable", "syllabify"]

_FUNCTION_WORDS = {
    "en": """a an the and or but as if than that so nor of to in on at by for from with into up i me my you your he him
        his she her it its we us our they them their who there i'm it's am is are was were be been has have had do does
        did will would can could shall should may might must""",
    "es": "el la los las de del que y en un mi tu su se me te con por al lo le si no ni o es",
    "pt": "o a os as de do da que e um uma em no na nos se me te meu com por ao lhe ou é",
    "it": "il lo la gli le di che e un in mi ti si non con per del al nel da o ma è",
    "fr": "le la les de du des et un une je tu il elle que qui ne pas mon ma ton ta son sa au en est se me te ce dans",
    "de": "der die das und den dem des ein ich du er sie es mit von zu ist in im am an auf mein dein so wie als",
    "nl": "de het een en van in op te dat die ik je hij zij met is aan voor mijn zijn",
    "ru": "и в на не с что я он а но по из за к о от у же то как мы ты их бы",
}
"""Function words of one syllable, which are unstressed in running speech, by language."""

_UNSTRESSED = {tag: frozenset(words.split()) for tag, words in _FUNCTION_WORDS.items()}


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
    unstressed = _UNSTRESSED.get(primary(language or "en"), frozenset())
    found: list[Syllable] = []
    for word in sung_words(text, language):
        stresses = word.stresses
        if len(stresses) == 1 and stresses[0]:
            stresses = (word.text.lower() not in unstressed,)
        found += [Syllable(piece, stressed) for piece, stressed in zip(word.pieces, stresses, strict=True)]
    return LyricLine(text, tuple(found))
