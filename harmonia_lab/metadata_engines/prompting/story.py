"""The narrative as a model is shown it: clean, clipped, and, for a model that reads only English, glossed.

Owns what of a narrative is told to a model and what is left out, and says so (`Story.notes`). The prompts around it are
the strategies' business.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass
from importlib import resources

from harmonia_lab.metadata_engines.prompting.words import FUNCTION_WORDS, content_stems, persons, plain
from harmonia_lab.syllables import in_dictionary, words_of

__all__ = ["Story", "clean", "excerpt", "passages", "read_story"]

LANGUAGES = ("Spanish", "German", "French", "Italian", "Portuguese")
"""The columns of `glosses.txt`, after English."""

MOST_WORDS = 40
"""Of a story that is told word by word."""

LATIN_END = 0x250
"""The code point after the Latin letters."""

_ARTICLES = {
    "Spanish": "el la los las de del que y en un una me mi su se con por para no es al lo le cada",
    "German": "der die das und in den dem ein eine einen ich er sie mit von zu nicht ist auf im seine ihre mein es als",
    "French": "le la les de du des et un une je il elle que dans est ne pas mon ma son sa au nous qui leur se",
    "Italian": "il lo la gli le di che e un una in mi io non è con del della dei mia suo sua si per",
    "Portuguese": "o a os as de do da que e um uma em no na me meu minha não com dos das seu sua por",
}
_SPECIAL = re.compile(
    r"<\|[^|<>]{0,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<\|?/?(?:im_start|im_end)\|?>"
)
"""How chat templates mark turns: in a narrative they could end ours."""

_SENTENCE_END = re.compile(r"(?<=[.!?…。！？])[\"”’»)]*\s+|\n+")


@dataclass(frozen=True)
class Story:
    """text: cleaned, one line. english: whether it is. told: what a model that reads English is shown.

    stems, names, people: what lines and titles are compared with; see `wording`. notes: what was left out or changed.
    """

    text: str
    english: bool
    told: str
    stems: frozenset[str]
    names: frozenset[str]
    people: frozenset[str]
    notes: tuple[str, ...] = ()


def clean(text: str) -> str:
    """One line without control characters, text-direction marks and turn marks of chat templates."""
    text = unicodedata.normalize("NFC", text)
    previous = None
    while previous != text:  # a mark may be hidden inside another
        previous, text = text, _SPECIAL.sub(" ", text)
    kept = (
        " " if c.isspace() else "" if unicodedata.category(c) in {"Cc", "Cf", "Co", "Cs"} and c != "\u200d" else c
        for c in text
    )
    return " ".join("".join(kept).split())


def read_story(narrative: str) -> Story:
    """What an English-reading model is told of a narrative in any language."""
    sentences = [clean(part) for part in _SENTENCE_END.split(narrative)]
    text = " ".join(part for part in sentences if part)
    words = words_of(text)
    language = _language(words)
    glosses = _gloss(words, language) if language in LANGUAGES else []
    pictures = _pictures(text)
    if language == "English" and words:
        told, note = _readable(text) + (f" ({', '.join(pictures)})" if pictures else ""), ""
    elif glosses or pictures:
        told = f"It is about {', '.join([*glosses, *pictures][:MOST_WORDS])}."
        note = f"The narrative seems to be {language}: the model was told the {len(glosses)} words that a list knows."
    else:
        told = "Somebody far away tells an old story, in words that nobody here knows."
        note = "The narrative is in a language that this model does not read: the song cannot be about it."
    known = language == "English" or glosses or pictures
    return Story(
        text=text,
        english=language == "English",
        told=told,
        stems=frozenset(content_stems(told)) if known else frozenset(),
        names=frozenset(word for word in words_of(told) if word[0].isupper() and plain(word) not in FUNCTION_WORDS),
        people=persons(told) if language == "English" else frozenset({"first", "she", "he"}),
        notes=(note,) if note else (),
    )


def _readable(text: str) -> str:
    """Without the scripts that a model of English words spells out byte by byte."""
    kept = "".join(c if ord(c) < LATIN_END or not c.isalpha() else " " for c in text)
    return " ".join("".join(c for c in kept if unicodedata.category(c) != "So").split())


def excerpt(text: str, budget: int) -> str:
    """At most about `budget` characters: all of it, or the first and the last sentences that fit, three to two."""
    if len(text) <= budget:
        return text
    sentences = _sentences(text, budget // 4)
    head: list[str] = []
    tail: list[str] = []
    room = budget * 3 // 5
    for sentence in sentences:
        if len(sentence) > room:
            break
        head.append(sentence)
        room -= len(sentence) + 1
    room += budget - budget * 3 // 5
    for sentence in reversed(sentences[len(head) :]):
        if len(sentence) > room:
            break
        tail.insert(0, sentence)
        room -= len(sentence) + 1
    return " ".join([*head, *tail])


def passages(text: str, count: int, budget: int) -> list[str]:
    """The text in `count` parts of consecutive sentences, each an `excerpt`; if it is short, the same each time."""
    sentences = _sentences(text, budget)
    if len(text) < budget * 2 // 3 or len(sentences) < 2 * count:
        return [excerpt(text, budget)] * count
    parts: list[list[str]] = [[] for _ in range(count)]
    position = 0
    for sentence in sentences:
        parts[min(count - 1, position * count // len(text))].append(sentence)
        position += len(sentence) + 1
    return [excerpt(" ".join(part), budget) if part else excerpt(text, budget) for part in parts]


def _sentences(text: str, longest: int) -> list[str]:
    """Sentences; one that is longer than `longest` characters is cut between words, or anywhere if it has no spaces."""
    found = []
    for sentence in _SENTENCE_END.split(text):
        rest = sentence
        while len(rest) > longest:
            cut = rest.rfind(" ", longest // 2, longest)
            cut = cut if cut > 0 else longest
            found.append(rest[:cut])
            rest = rest[cut:].strip()
        if rest:
            found.append(rest)
    return found


def _language(words: list[str]) -> str:
    """English, one of `LANGUAGES`, or "unknown". No words at all (emoji alone) read like English."""
    if not words:
        return "English"
    lower = [plain(word) for word in words]
    shares = {
        name: sum(word in articles.split() for word in lower) / len(lower) for name, articles in _ARTICLES.items()
    }
    english = sum(word in FUNCTION_WORDS for word in lower) / len(lower)
    best = max(shares, key=lambda name: shares[name])
    if shares[best] > max(0.15, english):
        return best
    if english >= 0.15 or sum(map(in_dictionary, lower[:200])) >= 0.6 * len(lower[:200]):
        return "English"
    return best if shares[best] > 0.1 else "unknown"


def _pictures(text: str) -> list[str]:
    """What emoji show, by their Unicode names."""
    shown = []
    for character in text:
        if unicodedata.category(character) == "So":
            name = unicodedata.name(character, "").lower().split(" with ")[0].split(" face")[0].replace("-", " ")
            words = [
                word
                for word in name.split()
                if word not in {"sign", "symbol", "black", "white", "heavy", "face", "emoji"}
            ]
            if words and all(map(in_dictionary, words)) and " ".join(words) not in shown:
                shown.append(" ".join(words))
    return shown[:12]


def _gloss(words: list[str], language: str) -> list[str]:
    """English words for those that the list knows, in the story's order."""
    found: list[str] = []
    table = _glosses(language)
    for word in words:
        lower = plain(word)
        matches = [
            (len(start), english)
            for start, english in table.get(lower[:2], ())
            if lower.startswith(start)
            and len(lower) - len(start) <= (0 if len(start) < 4 else 3 if len(start) < 7 else 9)
        ]
        if matches and max(matches)[1] not in found:
            found.append(max(matches)[1])
    return found


@functools.lru_cache(maxsize=len(LANGUAGES))
def _glosses(language: str) -> dict[str, list[tuple[str, str]]]:
    """Beginnings of the language's words with their English meaning, by their first two letters."""
    table: dict[str, list[tuple[str, str]]] = {}
    text = resources.files(__package__).joinpath("glosses.txt").read_text(encoding="utf-8")
    for row in text.splitlines():
        if row and not row.startswith("#"):
            english, *others = (cell.strip() for cell in row.split("|"))
            for start in others[LANGUAGES.index(language)].split("/"):
                table.setdefault(start[:2], []).append((start, english))
    return table
