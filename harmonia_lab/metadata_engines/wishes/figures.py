"""Wishes that are written with figures or names: tempo in bpm, key, metre, length, language.

Owns their patterns (not words such as "slow": `words.py`, nor when a match is a wish: `reading.py`). Keys in English,
German, and the solmisation of the Romance languages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from harmonia_lab.protocol.vocabulary import normalise_key

__all__ = ["LANGUAGES", "Candidate", "figures"]


class Candidate(NamedTuple):
    """A possible wish in a text. start, end: characters. field, value: as in a `Wish`. plain: its words are everyday
    language. noun: it can be what is asked for."""

    start: int
    end: int
    field: str
    value: str
    plain: bool = False
    noun: bool = False


LANGUAGES = {
    "en": "English inglés anglais Englisch inglese ingles", "de": "German Deutsch alemán allemand tedesco",
    "es": "Spanish español espanol Spanisch espagnol spagnolo", "fr": "French francés français Französisch francese",
    "it": "Italian italiano Italienisch italien", "pt": "Portuguese português portugués Portugiesisch portugais",
    "nl": "Dutch Niederländisch Flemish", "sv": "Swedish Schwedisch", "no": "Norwegian Norwegisch",
    "da": "Danish Dänisch",
    "fi": "Finnish Finnisch", "is": "Icelandic", "pl": "Polish Polnisch polaco", "cs": "Czech Tschechisch",
    "sk": "Slovak", "hu": "Hungarian", "ro": "Romanian", "bg": "Bulgarian", "ru": "Russian Russisch ruso russe",
    "uk": "Ukrainian", "el": "Greek", "tr": "Turkish Türkisch", "he": "Hebrew", "ar": "Arabic árabe arabe",
    "fa": "Persian Farsi", "hi": "Hindi", "ur": "Urdu", "bn": "Bengali", "ta": "Tamil", "te": "Telugu",
    "zh": "Chinese Mandarin Cantonese chinois", "ja": "Japanese Japanisch japonés japonais", "ko": "Korean",
    "vi": "Vietnamese", "th": "Thai", "id": "Indonesian", "tl": "Tagalog Filipino", "sw": "Swahili", "yo": "Yoruba",
    "zu": "Zulu", "am": "Amharic", "ha": "Hausa", "ig": "Igbo", "la": "Latin Latein", "ga": "Irish Gaelic",
    "cy": "Welsh", "eu": "Basque", "ca": "Catalan", "hr": "Croatian", "sr": "Serbian", "sl": "Slovenian",
    "lt": "Lithuanian", "lv": "Latvian", "et": "Estonian", "eo": "Esperanto", "yi": "Yiddish", "haw": "Hawaiian",
    "Klingon": "Klingon", "Elvish": "Elvish Sindarin Quenya", "Dothraki": "Dothraki", "Simlish": "Simlish",
}  # fmt: skip
"""BCP 47 tag → names of the language; invented languages are their own tag."""

_TAGS = {name.lower(): tag for tag, names in LANGUAGES.items() for name in names.split()}
_NAMES = "|".join(sorted(map(re.escape, _TAGS), key=len, reverse=True))

_NUMBERS = {
    "a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "fifteen": 15, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50,
    "sixty": 60, "ninety": 90, "eine": 1, "einer": 1, "zwei": 2, "drei": 3, "vier": 4, "dos": 2, "tres": 3, "un": 1,
    "una": 1, "une": 1, "deux": 2, "trois": 3, "due": 2, "tre": 3,
}  # fmt: skip
_COUNT = rf"(?:\d+(?:[.,]\d+)?[ -]?|(?:{'|'.join(_NUMBERS)})[ -])"
_MINUTES = r"minutes?|mins?|minuten?|minutos?|minuti"
_SECONDS = r"seconds?|secs?|sekunden?|segundos?|secondes?|secondi"

_ACCIDENTAL = r"(?:\s?[#♯♭]|b(?![a-z])|[ -](?:sharp|flat)\b)?"
_TONIC = rf"(?P<tonic>[A-Ga-g]{_ACCIDENTAL})"
_MODE = r"(?P<mode>major|minor|maj|min|dur|moll|m)"
_GERMAN_TONIC = r"(?P<german>[a-h](?:is|es|s)?|[A-H](?:is|es|s)?)"
_SOLFEGE = {"do": "C", "re": "D", "ré": "D", "mi": "E", "fa": "F", "sol": "G", "la": "A", "si": "B"}
_GERMAN = {"es": "Eb", "as": "Ab", "h": "B", "b": "Bb"}

_METRES = {
    "3/4": r"waltz[ -](?:time|metre|meter)|three[ -](?:four|quarter)s?(?: time)|triple (?:metre|meter|time)"
    r"|drei[ -]?viertel",
    "6/8": r"six[ -]eight(?: time)?|compound duple",
    "2/4": r"two[ -](?:four|quarter)(?: time)?",
    "4/4": r"four[ -]four(?: time)?|common time",
    "5/4": r"five[ -]four(?: time)?",
    "7/8": r"seven[ -]eight(?: time)?",
}

SHORTEST = 5
"""Seconds; "a second" is no length of a song."""

_LONG = re.compile(
    rf"\b(?:(?P<minutes>{_COUNT})(?:{_MINUTES})\b(?: (?:and |y |und |et )?(?P<rest>{_COUNT})(?:{_SECONDS})\b"
    rf"| (?P<bare>fifteen|thirty|forty)\b)?"
    rf"(?P<half> and a half)?|(?P<seconds>{_COUNT})(?:{_SECONDS}|(?<!0)(?<!808)s|(?<=[123]0)s)\b"
    r"|(?P<halves>\w+) and a half minutes"
    r"|(?P<ahalf>half a minute|half-minute|eine halbe minute|medio minuto|une demi-minute)"
    r"|(?P<clock>\d{1,2}:[0-5]\d)\b(?!\s*[ap]\.?m))",
    re.IGNORECASE,
)
_BPM = re.compile(
    r"\b(?:between )?(?P<low>\d{2,3})(?:\s?(?:-|–|to|and)\s?(?P<high>\d{2,3}))?[\s-]?"
    r"(?:bpm|b\.p\.m\.?|beats per minute|beats a minute|schläge pro minute)\b"
    r"|\b(?:bpm|tempo)(?: should be| of| at| around| about| is|[:=])*\s?(?P<after>\d{2,3})\b(?! ?(?:years|%))",
    re.IGNORECASE,
)
_BARE = re.compile(r"(?<![\w/.:])(?P<n>\d{2,3})(?![\w/.:%’'])")
_KEY = re.compile(rf"(?<![\w’']){_TONIC}(?:[ -]?{_MODE})(?![\w’'])")
_KEY_OF = re.compile(
    rf"\b(?:in|key|key of|key[:=])\s(?:the key of )?{_TONIC}(?![\w’'#])(?!\s(?:major|minor|maj|min|dorian|phrygian)\b)"
)
_KEY_TAG = re.compile(r"(?<![\w’'])(?P<tonic>[A-G](?:[#♯♭]|[ -](?:sharp|flat)\b|b(?![a-z])))(?![\w’'])")
_KEY_GERMAN = re.compile(rf"(?<![\w’']){_GERMAN_TONIC}-(?P<mode>dur|moll)\b", re.IGNORECASE)
_KEY_SOLFEGE = re.compile(
    r"\b(?P<tonic>do|re|ré|mi|fa|sol|la|si)(?P<shift> sostenido| bemol| dièse| bémol| diesis| bemolle)?"
    r" (?P<mode>mayor|menor|majeur|mineur|maggiore|minore)\b",
    re.IGNORECASE,
)
_MODE_ONLY = re.compile(
    r"\b(?:(?:a |in )(?P<a>minor|major)(?: key| scale)?|(?P<b>minor|major)[ -](?:key|scale|mode|tonality)"
    r"|key[:=]? (?:is )?(?P<c>minor|major)|(?P<d>minor|major)(?=\s*[.,;!]|$))",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(
    r"(?<![\d/])(?P<beats>\d{1,2})/(?P<unit>2|4|8|16)(?![\d/])(?:[ -](?:time|takt|beat|metre|meter)\b)?", re.IGNORECASE
)
_METRE_WORDS = re.compile("|".join(f"(?P<m{i}>{words})" for i, words in enumerate(_METRES.values())), re.IGNORECASE)
_LANGUAGE = re.compile(rf"\b(?:in |auf |en )?(?P<name>{_NAMES})(?:-language)?\b", re.IGNORECASE)


def figures(text: str) -> Iterator[Candidate]:
    """Yield what may be a tempo, key, metre, length or language. Bare numbers and note names have plain set."""
    yield from _tempos(text)
    yield from _keys(text)
    for match in _SIGNATURE.finditer(text):
        if 2 <= int(match["beats"]) <= 19:
            yield Candidate(*match.span(), "meter", f"{int(match['beats'])}/{match['unit']}", True)
    for match in _METRE_WORDS.finditer(text):
        name = list(_METRES)[int(str(match.lastgroup)[1:])]
        yield Candidate(*match.span(), "meter", name)
    for match in _LONG.finditer(text):
        seconds = _seconds(match)
        if seconds >= SHORTEST:
            yield Candidate(*match.span(), "length", f"{seconds:g} s", True)
    for match in _LANGUAGE.finditer(text):
        yield Candidate(*match.span(), "language", _TAGS[match["name"].lower()], True)


def _tempos(text: str) -> Iterator[Candidate]:
    taken: list[tuple[int, int]] = []
    for match in _BPM.finditer(text):
        low = int(match["low"] or match["after"])
        high = int(match["high"] or low)
        taken.append(match.span())
        yield Candidate(*match.span(), "tempo", f"{(low + high) // 2} bpm")
    for match in _BARE.finditer(text):
        if 40 <= int(match["n"]) <= 220 and not any(a <= match.start() < b for a, b in taken):
            yield Candidate(*match.span(), "tempo", f"{match['n']} bpm", True)


def _keys(text: str) -> Iterator[Candidate]:
    for match in _KEY.finditer(text):
        tonic, mode = match["tonic"], match["mode"]
        if tonic == "a" or (mode == "m" and (tonic[0].islower() or " " in match[0])):
            continue  # "a minor injury", "I'm", "5 m"
        yield from _key(match, tonic, mode)
    for match in _KEY_OF.finditer(text):
        if match["tonic"] == "a" or (match["tonic"][0].islower() and "key" not in match[0]):
            continue
        yield from _key(match, match["tonic"], "major", plain=True)
    for match in _KEY_TAG.finditer(text):
        yield from _key(match, match["tonic"], "major", plain=True)
    for match in _KEY_GERMAN.finditer(text):
        tonic = match["german"].lower()
        tonic = _GERMAN.get(tonic, tonic[0] + ("#" if tonic.endswith("is") else "b" if tonic.endswith("es") else ""))
        yield from _key(match, tonic, "minor" if match["mode"].lower() == "moll" else "major")
    for match in _KEY_SOLFEGE.finditer(text):
        shift = (match["shift"] or "").strip().lower()
        sign = "b" if shift.startswith(("bem", "bém")) else "#" if shift else ""
        mode = "minor" if match["mode"].lower().startswith(("men", "min")) else "major"
        yield from _key(match, _SOLFEGE[match["tonic"].lower()] + sign, mode)
    for match in _MODE_ONLY.finditer(text):
        mode = next(filter(None, match.groups()))
        yield Candidate(*match.span(), "key", mode.lower(), True)


def _key(match: re.Match[str], tonic: str, mode: str, *, plain: bool = False) -> Iterator[Candidate]:
    letter = tonic[0].upper()
    rest = tonic[1:].strip(" -").lower()
    sign = "#" if rest in ("#", "♯", "sharp") else "b" if rest in ("b", "♭", "flat") else ""
    minor = mode.lower() in ("minor", "min", "m", "moll")
    found = normalise_key(f"{letter}{sign} {'minor' if minor else 'major'}")
    if found:
        yield Candidate(*match.span(), "key", found, plain)


def _number(text: str) -> float:
    text = text.strip(" -").lower()
    return float(_NUMBERS.get(text, 0) or text.replace(",", ".")) if text else 0.0


def _seconds(match: re.Match[str]) -> float:
    """Return the seconds of a length, 0 for one that can't be read."""
    if match["clock"]:
        minutes, seconds = match["clock"].split(":")
        return 60 * int(minutes) + int(seconds)
    if match["ahalf"]:
        return 30
    if match["halves"]:
        known = match["halves"].lower()
        return 60 * (_NUMBERS[known] + 0.5) if known in _NUMBERS else 0
    if match["seconds"]:
        return _number(match["seconds"])
    rest = _number(match["rest"] or match["bare"] or "")
    return 60 * _number(match["minutes"]) + rest + (30 if match["half"] else 0)
