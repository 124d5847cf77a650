"""Names of languages and their tags (BCP 47, so mostly ISO 639-1).

Owns the table of the languages that a request can name.
"""

from __future__ import annotations

import re

__all__ = ["language_name", "language_tag", "nearest_names", "primary"]

_NAMES = {
    "af": "Afrikaans", "sq": "Albanian/Shqip", "am": "Amharic", "ar": "Arabic/العربية", "hy": "Armenian/Հայերեն",
    "az": "Azerbaijani", "eu": "Basque/Euskara", "be": "Belarusian/Беларуская", "bn": "Bengali/Bangla/বাংলা",
    "bs": "Bosnian/Bosanski", "br": "Breton", "bg": "Bulgarian/Български", "my": "Burmese", "ca": "Catalan/Català",
    "zh": "Chinese/Mandarin/中文/汉语/漢語", "hr": "Croatian/Hrvatski", "cs": "Czech/Čeština", "da": "Danish/Dansk",
    "nl": "Dutch/Nederlands", "en": "English", "eo": "Esperanto", "et": "Estonian/Eesti", "fo": "Faroese",
    "fi": "Finnish/Suomi", "fr": "French/Français", "gl": "Galician/Galego", "ka": "Georgian/ქართული",
    "de": "German/Deutsch", "el": "Greek/Ελληνικά", "gu": "Gujarati", "ht": "Haitian Creole", "he": "Hebrew/עברית",
    "hi": "Hindi/हिन्दी", "hu": "Hungarian/Magyar", "is": "Icelandic/Íslenska", "id": "Indonesian/Bahasa Indonesia",
    "ga": "Irish/Gaeilge", "it": "Italian/Italiano", "ja": "Japanese/日本語", "jv": "Javanese", "kn": "Kannada",
    "kk": "Kazakh", "km": "Khmer", "rw": "Kinyarwanda", "ko": "Korean/한국어", "ku": "Kurdish", "ky": "Kyrgyz",
    "lo": "Lao", "la": "Latin", "lv": "Latvian/Latviešu", "lt": "Lithuanian/Lietuvių", "lb": "Luxembourgish",
    "mk": "Macedonian/Македонски", "mg": "Malagasy", "ms": "Malay/Bahasa Melayu", "ml": "Malayalam", "mt": "Maltese",
    "mr": "Marathi", "mn": "Mongolian", "ne": "Nepali", "no": "Norwegian/Norsk", "nb": "Norwegian Bokmål/Bokmål",
    "nn": "Norwegian Nynorsk/Nynorsk", "oc": "Occitan", "or": "Odia", "ps": "Pashto", "fa": "Persian/Farsi/فارسی",
    "pl": "Polish/Polski", "pt": "Portuguese/Português", "pa": "Punjabi", "qu": "Quechua", "ro": "Romanian/Română",
    "ru": "Russian/Русский", "sr": "Serbian/Српски/Srpski", "si": "Sinhala", "sk": "Slovak/Slovenčina",
    "sl": "Slovenian/Slovene/Slovenščina", "es": "Spanish/Castilian/Español/Castellano", "sw": "Swahili/Kiswahili",
    "sv": "Swedish/Svenska", "tl": "Tagalog/Filipino", "ta": "Tamil", "te": "Telugu", "th": "Thai/ไทย",
    "tr": "Turkish/Türkçe", "uk": "Ukrainian/Українська", "ur": "Urdu/اردو", "ug": "Uyghur",
    "vi": "Vietnamese/Tiếng Việt", "cy": "Welsh/Cymraeg", "xh": "Xhosa", "yi": "Yiddish", "zu": "Zulu",
}  # fmt: skip
"""Tag → the English name, then the language's own."""

_OLD_TAGS = {"iw": "he", "in": "id", "ji": "yi", "fil": "tl", "cmn": "zh", "jp": "ja", "kr": "ko", "cn": "zh"}
"""Withdrawn codes, a code of three letters that is used, and codes of countries that people write instead."""

_TAGS = {name.casefold(): tag for tag, names in _NAMES.items() for name in names.split("/")}


def language_tag(text: str) -> str | None:
    """Return the tag of a language that is named by a tag or a name: "DE", "de_at" → "de-AT"; "german" → "de".

    None if it is no language that we know.
    """
    plain = " ".join(text.split()).casefold()
    if plain in _TAGS:
        return _TAGS[plain]
    head, *rest = re.split(r"[-_]", plain)
    head = _OLD_TAGS.get(head, head)
    if head not in _NAMES or not all(re.fullmatch(r"[a-z0-9]{2,8}", part) for part in rest):
        return None
    # Conventional case: language lower, script title, region upper (RFC 5646, 2.1.1).
    cased = [part.title() if len(part) == 4 else part.upper() if len(part) == 2 else part for part in rest]
    return "-".join([head, *cased])


def nearest_names(text: str) -> list[str]:
    """Return up to three names of languages that are spelled like `text`, or else three examples."""
    import difflib  # noqa: PLC0415 - for an error's words alone

    near = difflib.get_close_matches(text.casefold(), _TAGS, 3, 0.6)
    return list(dict.fromkeys(language_name(_TAGS[name]) for name in near)) or ["English", "Spanish", "Japanese"]


def language_name(tag: str) -> str:
    """Return the English name of a tag: "German" of "de-AT"; the tag itself if it is unknown."""
    return _NAMES.get(primary(tag), tag).partition("/")[0]


def primary(tag: str) -> str:
    """Return the tag's first part: "de" of "de-AT"."""
    return tag.partition("-")[0].lower()
