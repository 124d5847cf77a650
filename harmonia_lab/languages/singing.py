"""A line of lyrics as the words that are sung, each with its syllables (in Japanese: morae) and their stress.

Owns the division of any script into sung words, and the sentence that says which counts are estimates.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import unicodedata
from collections.abc import Iterator
from typing import Any, NamedTuple

from harmonia_lab.languages.detection import script_of
from harmonia_lab.languages.scripts import (
    ESTIMATED,
    abjad_syllables,
    indic_syllables,
    is_pointed,
    morae,
    thai_syllables,
)
from harmonia_lab.languages.spelling import spelled_stresses
from harmonia_lab.languages.tags import primary

__all__ = ["SungWord", "estimate_warning", "sung_words"]

KANJI_MORAE = 2
"""Morae of a kanji without a dictionary: 63 % of the 68 words in `tests/languages/words/ja.txt` get their count so,
with SudachiPy's readings all."""

_CYRILLIC = frozenset("ru uk be bg sr mk kk ky mn".split())  # noqa: SIM905 - a word list
_OTHER_SCRIPTS = frozenset("ar bn el fa gu he hi hy ja ka km kn ko lo ml mr my ne pa ps si ta te th ur yi zh".split())  # noqa: SIM905
_APOSTROPHES = "'’ʼ"


class SungWord(NamedTuple):
    """text: as written. pieces: one a syllable, to be shown under its note: a character or mora where the script has
    one for it, else the whole word and then "-". stresses: one a syllable."""

    text: str
    pieces: tuple[str, ...]
    stresses: tuple[bool, ...]


def sung_words(text: str, language: str | None = None) -> list[SungWord]:
    """Return the words of a line, without digits and signs. language: a tag, for words in Latin or Cyrillic letters.

    A word in another script than its language's is sung as the script suggests.
    """
    found: list[SungWord] = []
    for run, script in _runs(unicodedata.normalize("NFC", text)):
        if script in ("Kana", "Han") and primary(language or "") not in ("zh", "ko"):
            found += _japanese(run) if script == "Kana" or language else _characters(run)
        elif script in ("Han", "Hangul"):
            found += _characters(run) if script == "Han" else [_by_character(run)]
        else:
            found.append(_word(run, script, language))
    return found


def estimate_warning(lyrics: str) -> str | None:
    """Return a sentence if the syllables of the lyrics can only be estimated, else None."""
    scripts = {script for run, script in _runs(lyrics) if script in ESTIMATED and not is_pointed(run)}
    if any(script in ("Kana", "Han") for _, script in _runs(lyrics)) and not has_readings():
        kana = any(script == "Kana" for _, script in _runs(lyrics))
        if kana and re.search(r"[\u4e00-\u9fff]", lyrics):
            return (
                "The morae of kanji are estimated as two each, so notes and syllables may not agree: "
                "`pip install harmonia-lab[japanese]` adds a dictionary with readings."
            )
    if not scripts:
        return None
    return (
        f"The syllables of text in {' and '.join(sorted(scripts))} letters are estimated, because the script leaves "
        "vowels or the ends of words unwritten: notes and syllables may not agree everywhere."
    )


def has_readings() -> bool:
    """Return whether SudachiPy and its small dictionary (both Apache-2.0) are installed."""
    return all(importlib.util.find_spec(name) for name in ("sudachipy", "sudachidict_small"))


def _runs(text: str) -> Iterator[tuple[str, str]]:
    """Return runs of letters and their marks, with their scripts. Kana and kanji that touch are one run of kana."""
    run, script = "", ""
    for at, character in enumerate(text):
        kind = script_of(character)
        if not kind and run and unicodedata.category(character)[0] == "M":
            kind = script
        if not kind and character.isalpha():
            kind = "Other"
        if not kind and run and character in _APOSTROPHES and text[at + 1 : at + 2].isalpha():
            kind = script
        if kind == "Kana" and unicodedata.category(character)[0] not in "LM":  # the middle dot
            kind = ""
        mixed = {kind, script} == {"Kana", "Han"}
        if run and kind != script and not mixed:
            yield run, script
            run = ""
        run += character if kind else ""
        script = "Kana" if mixed else kind
    if run:
        yield run, script


def _word(run: str, script: str, language: str | None) -> SungWord:
    if script in ("Thai", "Lao"):
        pieces = thai_syllables(run)
        return SungWord(run, tuple(pieces), (True,) * len(pieces))
    if script in ("Arabic", "Hebrew"):
        stresses = _last_but_one(abjad_syllables(run))
    elif script == "Indic":
        stresses = _last_but_one(indic_syllables(run))
    elif script in ("Burmese", "Khmer", "Ethiopic"):
        stresses = _last_but_one(len(re.findall(r"(?<![\u17d2\u1039])[\u1000-\u102a\u1200-\u137f\u1780-\u17b3]", run)))
    else:
        tag = primary(language or "")
        own = {"Greek": "el", "Cyrillic": tag if tag in _CYRILLIC else "ru"}.get(script, language)
        if script == "Latin" and tag in _CYRILLIC | _OTHER_SCRIPTS:
            own = "en"  # an English word in a Japanese song
        stresses = spelled_stresses(run, own)
    return SungWord(run, (run, *["-"] * (len(stresses) - 1)), stresses)


def _last_but_one(count: int) -> tuple[bool, ...]:
    return tuple(at == max(0, count - 2) for at in range(max(1, count)))


def _by_character(run: str) -> SungWord:
    return SungWord(run, tuple(run), tuple(at == 0 for at in range(len(run))))


def _characters(run: str) -> list[SungWord]:
    """Return each Chinese character as a word of one syllable."""
    return [SungWord(character, (character,), (True,)) for character in run]


def _japanese(run: str) -> list[SungWord]:
    """Return the words of a run of kana and kanji, by the dictionary's readings or, without it, estimated."""
    tokens = _tokens(run) if has_readings() else [(part, part) for part in re.findall(r"[^぀-ヿ]|[぀-ヿ]+", run)]
    return [_japanese_word(surface, reading) for surface, reading in tokens]


def _japanese_word(surface: str, reading: str) -> SungWord:
    if all(script_of(character) == "Kana" for character in surface):
        pieces = tuple(morae(surface))
    else:
        count = sum(KANJI_MORAE if script_of(piece[0]) != "Kana" else 1 for piece in morae(reading))
        pieces = (surface, *["-"] * (count - 1))
    return SungWord(surface, pieces, tuple(at == 0 and len(pieces) > 1 for at in range(len(pieces))))


def _tokens(run: str) -> list[tuple[str, str]]:
    """Return (as written, reading in katakana) for each word."""
    return [(token.surface(), token.reading_form() or token.surface()) for token in _tokenizer().tokenize(run)]


@functools.lru_cache(maxsize=1)
def _tokenizer() -> Any:
    import sudachipy  # noqa: PLC0415 - an optional package

    return sudachipy.Dictionary(dict="small").tokenizer()
