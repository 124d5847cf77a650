"""Syllables and stress of words in alphabets that write their vowels: Latin, Greek, Cyrillic and others.

Owns a rule for each language: which letters make one vowel, and which vowel has the stress. Sung elisions between words
("la estrella") are not made.

Agreement with syllables that were counted by hand, on 55 to 66 words a language that were chosen after the rules were
written (`tests/languages/words/later/`): Spanish 100 %, German 95, French 97, Italian 98, Portuguese 98. On the longer
lists that the rules were written with: 98 to 100 %, Dutch, Polish, Russian and Greek likewise. Hyphenation by pyphen
0.18 (left and right of one letter) agrees on 73, 78, 74, 85 and 98 % of the longer lists, Greek 57: a hyphen isn't set
where it would look odd. That is why it isn't used.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable

from harmonia_lab.languages.tags import primary
from harmonia_lab.syllables import syllable_stresses

__all__ = ["spelled_stresses"]

_VOWELS = "aeiouyæœøåäöüáàâãăąéèêëěėęíìîïīįıóòôõőúùûůűūųýÿāēōαειουηωάέίόύήώϊϋΐΰаеёиоуыэюяіїєўѣაეიოუաեէըիոօու"
_ANY = f"[{_VOWELS}]+"

_SPANISH = r"[iuü]?[aeoáéó](?:[iuüy](?![aeiouáéíóúü]))?|[íú]|[iuü]+y?|y(?![aeiouáéíóúü])"
_GERMANIC = r"[aeiouyåäöæøéèê]"
_SLAVIC_R = r"(?<![aeiouyáéěíóúůý])[rl](?![aeiouyáéěíóúůýjrl])(?=.)"
_PORTUGUESE = (
    r"[ãõ][oe]|[iu](?=[aeo]s?$)(?<=\+.)[aeo]"  # não, and the final diphthong that `_portuguese` marks
    r"|[aeoáéóâêôãõà](?:[iu](?!nh|[lmnrz](?![aeiouáéíóúâêôãõ]))(?![íú]))?|[íú]|[iu]{1,2}"
)
_FRENCH = (
    r"œu|oeu|eau|oui|ou[iî]?|oi|oî|oy|aî|ai|ay|au|eû|eu|ei|ey|œi?|u[iî]"
    r"|[iy](?=[aeéèêoô])(?:au|ai|eau|eu|e|é|è|ê|a|ou|o|ô)|[aàâeéèêëiîïoôuûüyæ]"
)
_ROMANIAN = (
    r"[ei]?oa|[ie]a(?=[^aeiou])|[aeiouăâî]i(?!$)|[aeoăâî]i$|[aeoă]u|[aeouăâî]"
    r"|i(?!$)|(?<=[bcdfghjklmnprsștțvz][lr])i$"  # another final i is not sung: lupi
)
_FINAL_R = r"(?<=[bcčdfghkmnpsštvzž])[rl]$"

_NUCLEI: dict[str, str] = {
    "es": _SPANISH, "gl": _SPANISH, "ca": r"[iuü]?[aeoàáèéòó](?:[iuüy](?![aeiouàáèéíòóú]))?|[íúï]|[iu]+",
    "it": r"[iu]?[aeoàèéòó](?:[iu](?![aeiouàèéòó]))?|[ìùí]|[iu]+y?",
    "pt": _PORTUGUESE, "fr": _FRENCH, "ro": _ROMANIAN,
    "de": r"aa|ee|oo|ie|ei|ey|ai|ay|au|eu|äu|[aeiouyäöüéè]",
    "nl": r"aai|ooi|oei|eeu|ieu|aa|ee|oo|uu|ie|oe|eu|ei|ij|ui|au|ou|ëe|[aeiouyéèëïöü]",
    "sv": _GERMANIC, "da": r"ej|øj|[aeiouyæøåé]", "nb": r"ei|au|øy|oi|ai|[aeiouyæøåé]",
    "is": r"au|ei|ey|[aeiouyáéíóúýæö]", "fo": r"ei|ey|oy|[aeiouyáíóúýæø]",
    "fi": r"aa|ee|ii|oo|uu|yy|ää|öö|[aeouäöy]i|[aeoi]u|[eiäö]y|ie|uo|yö|[aeiouyäöå]",
    "et": r"aa|ee|ii|oo|uu|ää|öö|üü|õõ|[aeouäöüõ]i|[aeo]u|[aeoäö]e|[aeiouäöüõ]",
    "hu": r"[aáeéiíoóöőuúüű]", "tr": r"[aeıiîoöuüâû]", "az": r"[aeəıioöuü]",
    "pl": r"au|[aąeęoóuy]|i(?![aąeęoóuy])", "cs": rf"ou|au|eu|[aáeéěiíoóuúůyý]|{_SLAVIC_R}|{_FINAL_R}",
    "sk": rf"ia|ie|iu|ô|ou|[aáäeéiíoóuúyý]|[ŕĺ]|{_SLAVIC_R}|{_FINAL_R}", "hr": rf"[aeiou]|{_SLAVIC_R}",
    "sl": rf"[aeiou]|{_SLAVIC_R}",
    "id": r"(?:ai|au|oi)$|[aeiouéè]", "sw": r"[aeiou]", "vi": r".*", "eo": r"[aeio]j|[ae]ŭ|[aeiou]",
    "lv": r"ai|ei|au|ie|[aāeēiīouū]", "lt": r"[iį]?(?:ai|au|ei|ui|uo|[aąoųuū])|ie|[eęėiįy]",
    "el": r"(?:ι|υ|ει|οι)?(?:α[ιί]|ε[ιί]|ο[ιί]|ο[υύ]|υ[ιί]|α[υύ]|ε[υύ]|η[υύ]|[αεοωάέόώ])|ει|οι|[ηήιίυύϊϋΐΰ]",
    "ru": r"[аеёиоуыэюяіїєў]", "sr": r"[аеиоу]|(?<![аеиоу])р(?![аеиоуљњј])(?=.)",
}  # fmt: skip
"""Primary tag → the letters that make one vowel. Sources: the languages' orthographies as reference grammars give them
(Real Academia, Ortografía 2010, for diphthong and hiatus; Duden; Le bon usage for French e muet)."""

_LIKE = {
    "nn": "nb", "no": "nb", "lb": "de", "af": "nl", "ms": "id", "jv": "id", "tl": "id", "bs": "hr", "uk": "ru",
    "be": "ru", "bg": "ru", "kk": "ru", "ky": "ru", "mn": "ru", "mk": "sr", "oc": "ca", "zu": "sw", "xh": "sw",
    "rw": "sw", "mg": "sw",
}  # fmt: skip

_STRESSED_LETTERS = frozenset("áéíóúýàèìòùâêôãõάέίόύήώΐΰё\u0301")
_BACK_STRESS = frozenset({"fr", "tr", "az", "fa"})
_FRONT_STRESS = frozenset({"de", "nl", "sv", "da", "nb", "is", "fo", "fi", "et", "hu", "cs", "sk", "lv", "hr", "sr"})
_WRITTEN_STRESS = frozenset({"es", "gl", "ca", "pt", "it", "el", "ru"})
"""Languages in which an accent over a vowel marks the stress. (In French, Czech or Hungarian it does not.)"""

_PREFIXES = r"(?:be|ge|er|ver|zer|ent|emp|her|hin)(?=.{3})"


@functools.lru_cache(maxsize=16384)
def spelled_stresses(word: str, language: str | None) -> tuple[bool, ...]:
    """Return for each syllable of a word, one at least, whether it is stressed. language: a tag; None for English.

    Where spelling doesn't mark the stress, it is where the language usually has it.
    """
    tag = primary(language or "en")
    tag = _LIKE.get(tag, tag)
    if tag == "en":
        return syllable_stresses(word)
    plain = unicodedata.normalize("NFC", word.lower()).replace("’", "'")
    prepare = _PREPARE.get(tag)
    prepared = prepare(plain) if prepare else plain
    nuclei = [nucleus for nucleus in re.findall(_NUCLEI.get(tag, _ANY), prepared) if nucleus] or ["a"]
    at = _stressed(nuclei, plain, tag)
    return tuple(place == at for place in range(len(nuclei)))


def _stressed(nuclei: list[str], word: str, tag: str) -> int:
    """Return the place of the stressed syllable."""
    last = len(nuclei) - 1
    marked = [at for at, nucleus in enumerate(nuclei) if _STRESSED_LETTERS & set(nucleus)]
    if marked and tag in _WRITTEN_STRESS:
        return marked[-1]
    if tag in _BACK_STRESS:
        return last
    if tag in _FRONT_STRESS:
        return min(last, 1) if tag in {"de", "nl"} and re.match(_PREFIXES, word) else 0
    open_ends = {"es": r"[aeiou][ns]?$", "gl": r"[aeiou][ns]?$", "ca": r"[aeiou]s?$|[ei]n$", "pt": r"[aeo]s?$|[ae]m$"}
    if tag in open_ends and not re.search(open_ends[tag], word):
        return last
    return max(0, last - 1)


def _spanish(word: str) -> str:
    return re.sub(r"g[u](?=[eiéí])", "g", re.sub(r"qu(?=[eiéí])", "k", word))


_STRESSED_IA = (
    r"(?:[^aeiou]r|[aeo]s|[aeo]d|af|[oa]n|alg|erg|ol?om|of|log|ap|bug|mag|mar|luc|fil|farmac|compagn)i[ae]$|^pa(?=ur)"
)
"""Ends of Italian words in which a written i is a syllable of its own (allegria, poesia, melodia, fotografia)."""


def _italian(word: str) -> str:
    """Part the vowels that are sung apart, by a hyphen: zi-a, allegri-a, pa-ura."""
    word = re.sub(r"qu", "k", word)
    word = re.sub(r"^([^aeiouàèéìòù]*[iu])([aeo])$", r"\1-\2", word)
    found = re.search(_STRESSED_IA, word)
    if found and found[0] == "pa":
        return f"pa-{word[2:]}"
    return f"{word[:-1]}-{word[-1]}" if found else word


def _portuguese(word: str) -> str:
    """Mark a final diphthong with +, as words that are stressed before it have it: história, água."""
    word = re.sub(r"([qg])u(?=[aeioáéíóâêôãõ])", r"\1", word)
    return re.sub(r"([áéíóúâêô].*?)([iu][aeo]s?)$", r"\1+\2", word)


def _french(word: str) -> str:
    """Return the word without mute letters, and with hyphens between vowels that are sung apart."""
    word = re.sub(r"^(.*')", lambda match: re.sub(r"[aeiouy](?=')", "", match[1]), word)
    word = re.sub(r"qu", "k", word)
    word = re.sub(r"gu(?=[eiéèê])", "g", word)
    word = re.sub(r"ge(?=[aoâô])", "j", word)
    word = re.sub(r"(?<=[cg])ue(?=il)", "eu", word)
    word = re.sub(r"(?<=[aeouœ])il(?:l(?=[aeéèêioôu])|(?=s?$))", "j", word)
    word = re.sub(r"(?<=[^aeiouœ]i)ll(?=[aeéèêioôu])", "j", word)
    word = re.sub(r"pay(?=s)", "pé-i", word)
    word = re.sub(r"(?<=a)ient$", "", word)
    if len(re.findall(_ANY, word)) > 1 or re.search(r"[aiouyéû]es?$", word):
        word = re.sub(r"e(?:s|nt(?<=èrent))?$", "", word)
    # After a consonant with l or r, i and u are syllables of their own: ou-bli-er. But pluie, bruit.
    return re.sub(r"((?:[bcdfgptv][lr])[iu])(?=[aeéèêoô])", r"\1-", word)


def _german(word: str) -> str:
    word = re.sub(r"(?<=[a-z])eum(?=$|s)", "e-um", re.sub(r"qu", "k", word))
    word = re.sub(r"^(be|ge)(?=e[hnil]|erd|ein)", r"\1-", word)
    word = re.sub(r"^(be|ge)(?=inh|irr|ur|unr)", r"\1-", word)
    word = re.sub(r"(?<=[aeiouäöü])(.*)ee(?=n$)", r"\1e-e", word)
    return re.sub(r"(?<=[aeiouäöü])(.*)ie(?=n$)", r"\1i-e", word)


_PREPARE: dict[str, Callable[[str], str]] = {
    "es": _spanish,
    "gl": _spanish,
    "ca": _spanish,
    "it": _italian,
    "pt": _portuguese,
    "fr": _french,
    "de": _german,
    "nl": lambda word: re.sub(r"(?<=[a-z]{2})eum(?=$|s)", "e-um", word),
}
