"""What a model that reads only English can be told of a story in another language: key words and names.

Owns the look-up of English meanings (`glosses.txt`, `glosses_scripts.txt`) and the transliteration, by anyascii (ISC).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from importlib import resources

from harmonia_lab.languages.detection import script_of
from harmonia_lab.languages.tags import primary
from harmonia_lab.metadata_engines.prompting.words import plain
from harmonia_lab.syllables import words_of

__all__ = ["gloss", "names_in", "opening"]

MOST_NAMES = 6
OPENING_WORDS = 8

_TABLES = ("glosses.txt", "glosses_scripts.txt")
_UNSPACED = frozenset({"zh", "ja"})
_ARABIC_MARKS = re.compile("[\u064b-\u065f\u0670\u0640]")
_ARABIC_PROCLITICS = re.compile("^(?:[وف]?(?:[بك]?ال|لل)|[وفبلك](?=.{3}))")
"""Conjunctions, prepositions and the article, which are written together with the word after them."""

_SENTENCE = re.compile(r"(?<=[.!?…:])[\"”’»)]*\s+|\n+")
_CAPITALISES_NOUNS = frozenset({"de", "lb"})


def gloss(text: str, language: str | None) -> list[str]:
    """Return the English words for those words of the text that the tables have, in the text's order."""
    tag = primary(language or "")
    table = _glosses(tag)
    if not table:
        return []
    matches = _unspaced_matches(text, table) if tag in _UNSPACED else _word_matches(text, tag, table)
    return list(dict.fromkeys(matches))


def _word_matches(text: str, tag: str, table: dict[str, list[tuple[str, str]]]) -> Iterator[str]:
    for word in words_of(_ARABIC_MARKS.sub("", text)):
        lower = plain(word)
        forms = [lower, _ARABIC_PROCLITICS.sub("", lower)] if tag == "ar" else [lower]
        found = [
            (len(start), english)
            for form in forms
            for start, english in table.get(form[:1], ())
            if form.startswith(start) and len(form) - len(start) <= _most_ending(start, tag)
        ]
        if found:
            yield max(found)[1]


def _most_ending(start: str, tag: str) -> int:
    """Return how many letters may follow the beginning of a word that the table has."""
    if tag == "ko":
        return 3  # particles, a letter for each syllable
    if tag == "ar":
        return 2 if len(start) > 2 else 1
    if tag == "ru":
        return 0 if len(start) < 3 else 4 if len(start) < 7 else 9
    return 0 if len(start) < 4 else 3 if len(start) < 7 else 9


def _unspaced_matches(text: str, table: dict[str, list[tuple[str, str]]]) -> Iterator[str]:
    at = 0
    while at < len(text):
        found = [(len(start), english) for start, english in table.get(text[at], ()) if text.startswith(start, at)]
        length, english = max(found, default=(1, ""))
        if english:
            yield english
        at += length


@functools.lru_cache(maxsize=16)
def _glosses(tag: str) -> dict[str, list[tuple[str, str]]]:
    """Return beginnings of the language's words with their English meanings, by their first letter."""
    table: dict[str, list[tuple[str, str]]] = {}
    for name in _TABLES:
        head, *rows = resources.files(__package__).joinpath(name).read_text(encoding="utf-8").splitlines()
        tags = [cell.strip() for cell in head.split("|")]
        if tag in tags[1:]:
            for row in rows:
                if row and not row.startswith("#"):
                    cells = [cell.strip() for cell in row.split("|")]
                    for start in cells[tags.index(tag)].split("/"):
                        table.setdefault(start[:1], []).append((start, cells[0]))
    return table


def names_in(text: str, language: str | None) -> list[str]:
    """Return up to six names in Latin letters without accents: words with a capital inside a sentence.

    None for German, which capitalises every noun, and for scripts without capitals.
    """
    if primary(language or "") in _CAPITALISES_NOUNS:
        return []
    found = []
    for sentence in _SENTENCE.split(text):
        for word in words_of(sentence)[1:]:
            latin = _latin(word)
            if word[0].isupper() and len(word) > 2 and latin.isalpha() and not word.isupper():
                found.append(latin[0].upper() + latin[1:].lower())
    return list(dict.fromkeys(found))[:MOST_NAMES]


def opening(text: str) -> str:
    """Return the first words of a text in plain Latin letters, at most 60 characters."""
    pieces = [piece for piece in re.split(r"\s+", _latin(_spaced(text))) if piece]
    kept = re.sub(r"[^A-Za-z ',-]", "", " ".join(pieces[:OPENING_WORDS]))
    return kept[:60].strip(" ,'-").lower()


def _latin(text: str) -> str:
    import anyascii  # noqa: PLC0415 - only for stories that aren't in English

    return anyascii.anyascii(text)


def _spaced(text: str) -> str:
    """Part Chinese characters by spaces, as anyascii writes a word for each."""
    return "".join(f" {c} " if script_of(c) == "Han" else c for c in text[:400])
