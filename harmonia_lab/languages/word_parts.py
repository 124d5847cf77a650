"""A word divided into as many parts as it has syllables, to be shown under as many notes.

Owns where the cuts are. How many syllables a word has is known before, by `singing.py`.
"""

from __future__ import annotations

import itertools
import re
import unicodedata

__all__ = ["divide"]

_VOWELS = frozenset("aeiouyæœøıαειουηωаеёиоуыэюяіїєўѣა")
_TOGETHER = {
    *("bl", "br", "ch", "ck", "cl", "cr", "dl", "dr", "fl", "fr", "gh", "gl", "gn", "gr", "kl", "kn", "kr", "ph", "pl"),
    *("pr", "qu", "sch", "sh", "sk", "sl", "sm", "sn", "sp", "st", "str", "sw", "th", "tl", "tr", "tw", "wh", "wr"),
    *("бл", "бр", "вл", "вр", "гл", "гр", "др", "кл", "кр", "пл", "пр", "ст", "тр", "фл", "фр", "хл"),
}
"""Consonants that begin a syllable together, or are one sound."""


def divide(word: str, count: int) -> tuple[str, ...]:
    """Return `count` parts that make up the word, for alphabets that write their vowels; else the word and "" for each
    further syllable.

    A consonant between two vowels belongs to the later one, and of several the last, or the last pair that begins a
    word ("lan-tern", "moth-er" is "mo-ther"). That is a singer's division, and for display: dictionaries differ.
    """
    nuclei = _nuclei(word, count)
    if len(nuclei) != count:
        return (word, *[""] * (count - 1))
    cuts = [_cut(word, end, start) for (_, end), (start, _) in itertools.pairwise(nuclei)]
    return tuple(word[start:end] for start, end in zip([0, *cuts], [*cuts, len(word)], strict=True))


def _nuclei(word: str, count: int) -> list[tuple[int, int]]:
    """Return start and end of each syllable's vowels; more or fewer than `count` where spelling doesn't tell them."""
    plain = [unicodedata.normalize("NFD", letter)[0].lower() for letter in word]
    vowel = [letter in _VOWELS for letter in plain]
    for at, letter in enumerate(plain[:-1]):
        if (letter == "y" and vowel[at + 1]) or (letter == "u" and at and plain[at - 1] == "q"):
            vowel[at] = False
    found = [match.span() for match in re.finditer("1+", "".join("01"[is_vowel] for is_vowel in vowel))]
    mute = [span for span in found if span[1] - span[0] == 1 and plain[span[0]] == "e" and span != found[0]]
    for span in reversed(mute):  # the last first: lone-some, walked
        if len(found) > count:
            found.remove(span)
    for at in reversed(range(len(found))):  # vowels that are sung apart: i-de-a, po-em
        start, end = found[at]
        while len(found) < count and end - start > 1:
            found[at : at + 1] = [(start, end - 1), (end - 1, end)]
            end -= 1
    return found


def _cut(word: str, end: int, start: int) -> int:
    """Return where the next syllable begins, between the end of one vowel and the start of the next."""
    between = word[end:start].lower()
    if not between:
        return start
    inner = re.search(r"['’-]|[^\W\d_]e(?=[^\W\d_])", between)
    if inner:  # after an apostrophe or a hyphen of the word, or a mute e
        return end + inner.end()
    for length in (3, 2):
        if between[-length:] in _TOGETHER and len(between) >= length:
            return start - length
    return start - 1
