"""The narrative as a prompt has it: cleaned, shortened, and, if it is not in English, reduced to English key words.

Owns which text of a narrative the model gets, and the note that says what was left out (not the prompts around it:
`structured.py`, `stepwise.py`, `lyrics.py`).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

from harmonia_lab.metadata_engines.prompting.words import FUNCTION_WORDS, content_stems, persons, plain
from harmonia_lab.syllables import in_dictionary, words_of

__all__ = ["Story", "clean", "excerpt", "excerpt_note", "passages", "read_story"]

LANGUAGES = ("Spanish", "German", "French", "Italian", "Portuguese")
"""The columns of `glosses.txt`, after English."""

MOST_WORDS = 40
"""Most key words in the prompt of a story that is not in English."""

LATIN_END = 0x250
"""The code point after the Latin letters."""

_ARTICLES = {
    "Spanish": "el la los las de del que y en un una me mi su se con por para no es al lo le cada",
    "German": "der die das und in den dem ein eine einen ich er sie mit von zu nicht ist auf im seine ihre mein es als",
    "French": "le la les de du des et un une je il elle que dans est ne pas mon ma son sa au nous qui leur se",
    "Italian": "il lo la gli le di che e un una in mi io non è con del della dei mia suo sua si per",
    "Portuguese": "o a os as de do da que e um uma em no na me meu minha não com dos das seu sua por",
}
_TEMPLATE_MARK = re.compile(
    r"<\|[^|<>]{0,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<\|?/?(?:im_start|im_end)\|?>"
)
"""Marks that chat templates put between messages: in a narrative, one could end the prompt's message."""

_SENTENCE_END = re.compile(r"(?<=[.!?…。！？])[\"”’»)]*\s+|\n+")
_EMOJI_FILLERS = {"sign", "symbol", "black", "white", "heavy", "face", "emoji"}


@dataclass(frozen=True)
class Story:
    """A narrative for a model that reads only English.

    prompt_text: what prompts contain of it. stems, names, persons: of `prompt_text`, for `lines.StoryContext`. note:
    what was left out or changed; empty for an English story.
    """

    prompt_text: str
    stems: frozenset[str]
    names: frozenset[str]
    persons: frozenset[str]
    note: str


def clean(text: str) -> str:
    """Return one line without control characters, text-direction marks and marks of chat templates."""
    text = unicodedata.normalize("NFC", text)
    previous = None
    while previous != text:  # a mark may be hidden inside another
        previous, text = text, _TEMPLATE_MARK.sub(" ", text)
    kept = (
        " " if c.isspace() else "" if unicodedata.category(c) in {"Cc", "Cf", "Co", "Cs"} and c != "\u200d" else c
        for c in text
    )
    return " ".join("".join(kept).split())


def read_story(narrative: str) -> Story:
    """Return the story of a narrative in any language."""
    text = " ".join(filter(None, map(clean, _SENTENCE_END.split(narrative))))
    words = words_of(text)
    language = _language(words)
    english = language == "English"
    glosses = _gloss(words, language) if language in LANGUAGES else []
    emoji = _emoji_names(text)
    note = ""
    if english and words:
        prompt_text = _without_other_scripts(text) + (f" ({', '.join(emoji)})" if emoji else "")
    elif glosses or emoji:
        prompt_text = f"It is about {', '.join([*glosses, *emoji][:MOST_WORDS])}."
        note = f"The narrative seems to be {language}: the model was told the {len(glosses)} words that a list knows."
    else:
        prompt_text = "Somebody far away tells an old story, in words that nobody here knows."
        note = "The narrative is in a language that this model does not read: the song cannot be about it."
    return Story(
        prompt_text,
        stems=frozenset(content_stems(prompt_text)) if english or glosses or emoji else frozenset(),
        names=frozenset(w for w in words_of(prompt_text) if w[0].isupper() and plain(w) not in FUNCTION_WORDS),
        persons=persons(prompt_text) if english else frozenset({"first", "she", "he"}),
        note=note,
    )


def _without_other_scripts(text: str) -> str:
    """Remove symbols and letters that are not Latin, which an English model tokenizes byte by byte."""
    kept = "".join(c if ord(c) < LATIN_END or not c.isalpha() else " " for c in text)
    return " ".join("".join(c for c in kept if unicodedata.category(c) != "So").split())


def excerpt(text: str, budget: int) -> str:
    """Return the text, or its first and last sentences with at most `budget` characters, in a ratio of three to two."""
    if len(text) <= budget:
        return text
    sentences = _sentences(text, budget // 4)
    head = _fitting(sentences, budget * 3 // 5)
    spare = budget - sum(len(sentence) + 1 for sentence in head)
    tail = _fitting(reversed(sentences[len(head) :]), spare)
    return " ".join([*head, *reversed(tail)])


def _fitting(sentences: Iterable[str], budget: int) -> list[str]:
    """Return the first sentences that fit into `budget` characters, with a space after each."""
    found: list[str] = []
    for sentence in sentences:
        if len(sentence) > budget:
            break
        found.append(sentence)
        budget -= len(sentence) + 1
    return found


def excerpt_note(text: str) -> str:
    """Return the transcript's note on a text of which the prompts contain an excerpt."""
    return f"Of {len(text)} characters, the model was shown the first and the last sentences."


def passages(text: str, count: int, budget: int) -> list[str]:
    """Return `count` excerpts of consecutive parts of the text; of a short text, the same excerpt each time."""
    sentences = _sentences(text, budget)
    if len(text) < budget * 2 // 3 or len(sentences) < 2 * count:
        return [excerpt(text, budget)] * count
    parts: list[list[str]] = [[] for _ in range(count)]
    position = 0
    for sentence in sentences:
        parts[min(count - 1, position * count // len(text))].append(sentence)
        position += len(sentence) + 1
    return [excerpt(" ".join(part) or text, budget) for part in parts]


def _sentences(text: str, longest: int) -> list[str]:
    """Return the sentences; one longer than `longest` characters is cut between words, or anywhere without spaces."""
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
    """Return English, one of `LANGUAGES`, or "unknown". A text without words (emoji alone) counts as English."""
    if not words:
        return "English"
    lower = [plain(word) for word in words]
    shares = {name: sum(w in articles.split() for w in lower) / len(lower) for name, articles in _ARTICLES.items()}
    english = sum(word in FUNCTION_WORDS for word in lower) / len(lower)
    best = max(shares, key=lambda name: shares[name])
    if shares[best] > max(0.15, english):
        return best
    if english >= 0.15 or sum(map(in_dictionary, lower[:200])) >= 0.6 * len(lower[:200]):
        return "English"
    return best if shares[best] > 0.1 else "unknown"


def _emoji_names(text: str) -> list[str]:
    """Return the names of up to 12 emoji, from their Unicode names."""
    found: list[str] = []
    for character in text:
        if unicodedata.category(character) == "So":
            name = unicodedata.name(character, "").lower().split(" with ")[0].split(" face")[0].replace("-", " ")
            words = [word for word in name.split() if word not in _EMOJI_FILLERS]
            if words and all(map(in_dictionary, words)) and " ".join(words) not in found:
                found.append(" ".join(words))
    return found[:12]


def _gloss(words: list[str], language: str) -> list[str]:
    """Return the English words for the words that `glosses.txt` has, in the story's order."""
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
    """Return prefixes of the language's words with their English meanings, by their first two letters."""
    table: dict[str, list[tuple[str, str]]] = {}
    text = resources.files(__package__).joinpath("glosses.txt").read_text(encoding="utf-8")
    for row in text.splitlines():
        if row and not row.startswith("#"):
            english, *others = (cell.strip() for cell in row.split("|"))
            for start in others[LANGUAGES.index(language)].split("/"):
                table.setdefault(start[:2], []).append((start, english))
    return table
