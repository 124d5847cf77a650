"""English word lists, stems and grammatical persons, for comparing a story with lyrics and titles.

Owns the function words and the stemmer (not how a comparison counts: `lines.py`, `titles.py`, `labels.py`).
"""

from __future__ import annotations

import re

from harmonia_lab.syllables import in_dictionary, words_of

__all__ = ["FUNCTION_WORDS", "content_stems", "hero_of", "persons", "plain", "proper_names", "stem", "word_set"]


def word_set(text: str) -> frozenset[str]:
    """Return the words of a list that is written as running text."""
    return frozenset(text.split())


FUNCTION_WORDS = word_set("""
    a an the this that these those some any each every all both no not nor and or but so if than then as at by for from
    in into of off on onto out over to too up upon with within without about above after again against along among
    around before behind below beneath beside between beyond down during near through till toward towards under until
    while i me my mine myself you your yours yourself he him his himself she her hers herself it its itself we us our
    ours they them their theirs themselves who whom whose which what when where why how am is are was were be been being
    have has had having do does did doing done can could will would shall should may might must just very also only even
    still yet there here now because now though although one two once ever never always i'm i've i'll i'd you're you've
    you'll he's she's it's we're we've we'll they're they've they'll don't doesn't didn't isn't aren't wasn't weren't
    can't couldn't won't wouldn't that's there's what's let's ain't own such more most much many other another like get
    got go goes going went come comes came say says said make makes made take takes took know knows known see seen saw
    let lets put seem seems something nothing everything anything someone everyone anyone nobody somebody
""")
"""Words that say little about the topic of a text. Lower case."""

_CAPITALISED = re.compile(r"[A-ZÀ-Þ][^\W\d_]+")
_NO_NAMES = word_set("""
    January February March April May June July August September October November December Monday Tuesday Wednesday
    Thursday Friday Saturday Sunday English French German Spanish Italian American Christmas Easter God Mr Mrs Ms Dr St
    Happy Dear Mum Mom Mama Dad Papa Grandma Grandpa Mother Father Grandmother Grandfather
""")
_VERBS = word_set(
    "was is has had grew went came took got found lived loves loved turns said says lost knew met learned"
)

_PERSONS = {
    "first": word_set("i me my mine myself i'm i've i'll i'd we us our ours we're we've we'll"),
    "second": word_set("you your yours yourself you're you've you'll"),
    "she": word_set("she her hers herself she's she'll she'd"),
    "he": word_set("he him his himself he's he'll he'd"),
    "they": word_set("they them their theirs themselves they're they've they'll"),
}


def plain(word: str) -> str:
    """Return the word in lower case, with a straight apostrophe."""
    return word.lower().replace("’", "'")


def stem(word: str) -> str:
    """Return a crude stem: "dances", "dancing" and "danced" give the same one, and so do plurals and possessives."""
    word = plain(word).removesuffix("'s").removesuffix("'")
    for ending, instead in (("ies", "y"), ("ied", "y"), ("ing", ""), ("ed", ""), ("es", ""), ("s", ""), ("ly", "")):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word[: -len(ending)] + instead
            break
    word = re.sub(r"([^aeiouls])\1$", r"\1", word)  # "stopped" → "stopp" → "stop"
    return word.removesuffix("e")


def content_stems(text: str) -> list[str]:
    """Return the stems of all words but function words and short ones, in order, with repetitions."""
    return [stem(word) for word in words_of(text) if plain(word) not in FUNCTION_WORDS and len(word) > 2]


def proper_names(text: str) -> list[str]:
    """Return the names of persons and places in a text: words with a capital inside a sentence, or, at the beginning of
    one, words that the dictionary lacks or that a verb follows.
    """
    found: dict[str, None] = {}
    for match in _CAPITALISED.finditer(text):
        word = match[0]
        before = text[: match.start()].rstrip("\"“‘'(")
        begins = not before.strip() or before.rstrip()[-1] in ".!?:…" or word in _NO_NAMES
        named = not begins or not in_dictionary(word) or (word not in _NO_NAMES and _acts(word, text[match.end() :]))
        if named and plain(word) not in FUNCTION_WORDS and not word.isupper():
            found[word] = None
    return list(found)


def hero_of(text: str) -> tuple[str, str] | None:
    """Return the first person's name in a text and the pronoun for it, He or She; None if no pronoun follows a name."""
    places = set(re.findall(r"\b(?:in|at|from|to|near|off|of|on|called) ([A-ZÀ-Þ][^\W\d_]+)", text))
    for name in proper_names(text):
        pronoun = re.search(r"\b(he|him|his|she|her)\b", text.partition(name)[2].lower())
        if name not in places and pronoun:
            return name, "She" if pronoun[1] in {"she", "her"} else "He"
    return None


def _acts(word: str, rest: str) -> bool:
    """Return whether the first word of a sentence, which has no article, is the subject of a verb, as a name is."""
    following = re.match(r" ([a-z]+)", rest)
    verb = following is not None and (following[1] in _VERBS or following[1].endswith("ed"))
    return verb and not word.endswith(("s", "ing", "ly"))


def persons(text: str) -> frozenset[str]:
    """Return the persons of the text's pronouns: first, second, she, he, they."""
    words = {plain(word) for word in words_of(text)}
    return frozenset(person for person, pronouns in _PERSONS.items() if words & pronouns)
