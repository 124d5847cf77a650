"""Syllables of scripts that aren't alphabets with all vowels: Arabic, Hebrew, Indic scripts, Thai and Lao, kana.

Owns a count for each, and which of them are estimates: a script that leaves vowels out can't be counted from its
letters alone. Agreement with 42 to 59 words a language, counted by hand (`tests/languages/words/`; the rules were
written with these words in view, so that other words will agree less): Hindi and Thai 100 %, Arabic 97, Hebrew 84.
"""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["ESTIMATED", "abjad_syllables", "indic_syllables", "is_pointed", "morae", "thai_syllables"]

ESTIMATED = frozenset({"Arabic", "Hebrew", "Thai", "Lao", "Burmese", "Khmer", "Ethiopic"})
"""Scripts whose syllables are estimated from the letters. Arabic and Hebrew with all vowel points are counted."""

_ARABIC_VOWELS = re.compile("[\u064b-\u0650\u0670]")
_HEBREW_VOWELS = re.compile("[\u05b1-\u05bb\u05c7]")
_ARABIC_LETTER = re.compile("[\u0621-\u064a\u066e-\u06d3\u06fa-\u06fc]")
_HEBREW_LETTER = re.compile("[\u05d0-\u05ea]")


def is_pointed(word: str) -> bool:
    """Return whether an Arabic or Hebrew word has its vowels written: a point on at least every third letter."""
    letters = len(_ARABIC_LETTER.findall(word)) + len(_HEBREW_LETTER.findall(word))
    return 3 * (len(_ARABIC_VOWELS.findall(word)) + len(_HEBREW_VOWELS.findall(word))) >= letters > 0


def abjad_syllables(word: str) -> int:
    """Return the syllables of an Arabic or Hebrew word: its vowel points, or else an estimate."""
    if is_pointed(word):
        return max(1, len(_ARABIC_VOWELS.findall(word)) + len(_HEBREW_VOWELS.findall(word)))
    if _HEBREW_LETTER.search(word):
        letters = "".join(_HEBREW_LETTER.findall(word))
        prefix = letters.startswith("ה") and len(letters) >= 4
        return prefix + _skeleton_syllables(_hebrew_skeleton(letters[prefix:]), bare=lambda length: (length + 1) // 2)
    bare = "".join(_ARABIC_LETTER.findall(word.replace("\u0640", "")))
    article = bare.startswith("ال") and len(bare) > 4
    skeleton = _arabic_skeleton(bare[2:] if article else bare)
    return article + _skeleton_syllables(skeleton, bare=lambda length: length // 2)


def _arabic_skeleton(word: str) -> str:
    """Return V for long vowels and the final ة, C for other letters. و and ي are vowels after consonants."""
    kinds = ""
    for at, letter in enumerate(word):
        follower = word[at + 1 : at + 2]
        after_consonant = kinds.endswith("C")
        vowel = letter in "اآىة" and (after_consonant or not kinds) and not (letter == "ا" and not kinds)
        vowel = vowel or (letter in "وي" and after_consonant and follower not in {"ا", "ى", "ة"})
        kinds += "V" if vowel else "C"
    return kinds


def _hebrew_skeleton(word: str) -> str:
    """Return V for ו and י after consonants and for the final ה, C for the others."""
    letters = word.replace("וו", "ב").replace("יי", "בי")
    kinds = ""
    for at, letter in enumerate(letters):
        final_he = letter == "ה" and at == len(letters) - 1
        kinds += "V" if (letter in "וי" or final_he) and kinds.endswith("C") else "C"
    return kinds + "V" * bool(re.search("[וי][חע]$", letters))


def _skeleton_syllables(kinds: str, bare: Callable[[int], int]) -> int:
    """Return the syllables of consonants (C) and written vowels (V), with the vowels that syllables need in between.

    A run of two or three consonants before the first written vowel has one vowel, a run of two after a long one has
    one, and so does a run of two at the end. bare: for a word without written vowels, by its length.
    """
    if "V" not in kinds:
        return max(1, bare(len(kinds)))
    first, last = kinds.index("V"), kinds.rindex("V")
    inner = re.findall("C+", kinds[first:last])
    return kinds.count("V") + first // 2 + sum(len(run) // 2 for run in inner) + (len(kinds) - 1 - last) // 2


_DELETES_SCHWA = range(0x0900, 0x0B00)
"""Devanagari, Bengali, Gurmukhi and Gujarati: a consonant's unwritten a is silent at the end of a word."""


def indic_syllables(word: str) -> int:
    """Return the syllables of a word in a script of India: its vowels, without the unwritten a's that Hindi drops.

    Dropped: the last one, and one between a syllable and a consonant with a vowel (J. Ohala, "Aspects of Hindi
    Phonology", 1983), from the end of the word on.
    """
    units: list[str] = []  # for each letter: v a written vowel, a an unwritten one, - none
    for letter in word:
        place = ord(letter) % 0x80
        if 0x05 <= place <= 0x14 or place in (0x60, 0x61):
            units.append("v")
        elif 0x15 <= place <= 0x39 or 0x58 <= place <= 0x5F:
            units.append("a")
        elif units and place == 0x4D:
            units[-1] = "-"
        elif units and (0x3E <= place <= 0x4C or 0x55 <= place <= 0x57):
            units[-1] = "v"
    if word and ord(word[0]) in _DELETES_SCHWA:
        if len(units) > 1 and units[-1] == "a":
            units[-1] = "-"
        for at in range(len(units) - 2, 0, -1):
            if units[at] == "a" and units[at - 1] != "-" and units[at + 1] != "-":
                units[at] = "-"
    return max(1, sum(unit != "-" for unit in units))


_C, _MARK, _TONE = "[ก-ฮ]", "[ะ-ู็่-๋ำา]", "[่-๋]?"
_FINAL = f"(?:{_C}(?!{_MARK}))?"
_THAI = (
    f"[ไใ]{_C}[รลวห]?{_TONE}ย?"
    f"|[เแโ]{_C}(?:[รลว](?=[ก-ฮิีื็่-๋]))?[ิีืั็]?{_TONE}(?:[ยวอ](?!{_MARK}))?[าะ]{{0,2}}{_FINAL}"
    f"|{_C}{_TONE}รร{_FINAL}"
    f"|{_C}{{1,2}}?(?:[ัิีึืุู็]{_TONE}ว?ะ?|{_TONE}[ะาำ]){_FINAL}"
    f"|{_C}{{1,2}}?{_TONE}[อว]{_C}(?!{_MARK})|{_C}{_TONE}อ(?!{_MARK})|{_C}{_TONE}{_FINAL}"
)


def thai_syllables(run: str) -> list[str]:
    """Return a run of Thai or Lao as its estimated syllables; nothing between them is lost."""
    # Lao has Thai's order of letters, 128 code points further on; ์ silences the letter before it.
    thai = "".join(chr(ord(letter) - 0x80) if "\u0e80" <= letter <= "\u0eff" else letter for letter in run)
    starts = [found.start() for found in re.finditer(_THAI, re.sub("[ก-ฮ][ิุ]?์", lambda mute: "_" * len(mute[0]), thai))]
    starts = [0, *starts[1:]]
    return [run[a:b] for a, b in zip(starts, [*starts[1:], len(run)], strict=True)]


_MORA = re.compile(r".[\u3099\u309aﾞﾟ]?[ゃゅょゎぁぃぅぇぉャュョヮァィゥェォｬｭｮｧｨｩｪｫ]?")


def morae(kana: str) -> list[str]:
    """Return a word in kana as its morae: きょう → きょ, う. The long sign, the small tsu and n are morae."""
    return _MORA.findall(kana)
