"""Which language a text is in.

Owns the decision by script, by English words, and by py3langid (BSD; 97 languages by their letter sequences; 0.8 s to
load, 0.3 ms a text), which is loaded only for texts that neither decides.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from harmonia_lab.languages.tags import language_tag, primary
from harmonia_lab.syllables import in_dictionary, words_of

__all__ = ["detect_language", "same_family", "script_of"]

CONFIDENT, CONFIDENT_AGAINST = 0.35, 0.5
"""Least probability of py3langid's answer, and of one against the English dictionary, which has four of five words.
"Había una vez" gets 0.58, "Mi amor se fue al mar" 0.64, "Sing for Ukraine" (as Danish) 0.47."""

_SCRIPTS = (
    (0x0041, 0x024F, "Latin"), (0x0250, 0x02AF, "Latin"), (0x1E00, 0x1EFF, "Latin"),
    (0x0370, 0x03FF, "Greek"), (0x1F00, 0x1FFF, "Greek"), (0x0400, 0x052F, "Cyrillic"),
    (0x0530, 0x058F, "Armenian"), (0x0590, 0x05FF, "Hebrew"), (0xFB1D, 0xFB4F, "Hebrew"),
    (0x0600, 0x06FF, "Arabic"), (0x0750, 0x077F, "Arabic"), (0xFB50, 0xFDFF, "Arabic"), (0xFE70, 0xFEFC, "Arabic"),
    (0x0900, 0x0DFF, "Indic"), (0x0E00, 0x0E7F, "Thai"), (0x0E80, 0x0EFF, "Lao"), (0x1000, 0x109F, "Burmese"),
    (0x10A0, 0x10FF, "Georgian"), (0x1100, 0x11FF, "Hangul"), (0xAC00, 0xD7A3, "Hangul"), (0x1200, 0x137F, "Ethiopic"),
    (0x1780, 0x17FF, "Khmer"), (0x3005, 0x3007, "Han"), (0x3041, 0x3096, "Kana"), (0x309D, 0x30FF, "Kana"),
    (0x31F0, 0x31FF, "Kana"), (0xFF66, 0xFF9F, "Kana"), (0x3400, 0x4DBF, "Han"), (0x4E00, 0x9FFF, "Han"),
    (0xF900, 0xFAFF, "Han"), (0x20000, 0x323AF, "Han"),
)  # fmt: skip
"""First and last code point of the blocks of the scripts that are told apart, after Unicode's Blocks.txt."""

_ONLY_LANGUAGE = {
    "Greek": "el", "Armenian": "hy", "Thai": "th", "Lao": "lo", "Burmese": "my", "Georgian": "ka", "Hangul": "ko",
    "Ethiopic": "am", "Khmer": "km",
}  # fmt: skip
_USUAL_LANGUAGE = {"Cyrillic": "ru", "Arabic": "ar", "Hebrew": "he", "Indic": "hi"}
"""Of scripts that several languages use, where py3langid isn't confident."""

_ENGLISH = frozenset(
    """the and with my you your from that this are were she his it its they them then when where who what not been have
    but our will into there their never through""".split()  # noqa: SIM905 - a word list
)
"""Function words that no other language spells so (as "a", "in", "on", "me" and "was" are)."""

_FAMILIES = (
    {"no", "nb", "nn", "da", "sv"}, {"hr", "bs", "sr", "sl"}, {"id", "ms", "jv"}, {"pt", "gl", "es", "ca"},
    {"cs", "sk"},
    {"bg", "mk", "ru", "uk", "be"}, {"af", "nl"}, {"hi", "mr", "ne"}, {"fa", "ar", "ur", "ps", "ug"}, {"zu", "xh"},
)  # fmt: skip
"""Languages that a short text leaves hard to tell apart."""

_KANA_SHARE = 0.05
"""Least share of kana of a Japanese text; Chinese has none."""


@functools.lru_cache(maxsize=2048)
def script_of(character: str) -> str:
    """Return the script's name, or "" for a character that belongs to none of those that are told apart."""
    if not (character.isalpha() or ord(character) >= 0x300):
        return ""
    return next((name for first, last, name in _SCRIPTS if first <= ord(character) <= last), "")


def _word_scripts(text: str) -> Counter[str]:
    """Return how many characters of each script the text has."""
    found = Counter(map(script_of, text))
    del found[""]
    return found


@functools.lru_cache(maxsize=64)
def detect_language(text: str) -> str | None:
    """Return the text's language as a tag, or None if it has no words or nothing decides."""
    scripts = _word_scripts(text)
    total = sum(scripts.values())
    if not total:
        return None
    if scripts["Kana"] + scripts["Han"] > 0.3 * total:
        return "ja" if scripts["Kana"] > _KANA_SHARE * total else "zh"
    script = max(scripts, key=lambda name: scripts[name])
    if script in _ONLY_LANGUAGE:
        return _ONLY_LANGUAGE[script]
    words = words_of(text)[:200] if script == "Latin" else []
    if words and _share(words, _ENGLISH.__contains__) >= 0.1 and _share(words, in_dictionary) >= 0.6:
        return "en"
    # The English dictionary also has many words of other languages, as names: so it doesn't decide alone.
    in_english = _share(words, in_dictionary) if words else 0.0
    label, probability = _identifier().classify(text[:4000])
    if probability >= (CONFIDENT_AGAINST if in_english >= 0.8 else CONFIDENT):
        return str(label)
    return "en" if in_english >= 0.6 else _USUAL_LANGUAGE.get(script)


def same_family(one: str, other: str) -> bool:
    """Return whether two tags name one language, or languages that short texts are easily taken for."""
    a, b = primary(one), primary(other)
    return a == b or any(a in family and b in family for family in _FAMILIES)


def _share(words: Sequence[str], test: Callable[[str], bool]) -> float:
    """Return the share of the words that pass the test, in lower case."""
    return sum(test(word.lower().replace("’", "'")) for word in words) / len(words)


@functools.lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # noqa: PLC0415 - loads its model where it is needed

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages([label for label in identifier.labels if language_tag(label)])
    return identifier
