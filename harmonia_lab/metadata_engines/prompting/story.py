"""The narrative as a prompt has it: cleaned, shortened, and, if it is not in English, reduced to English key words.

Owns which text of a narrative the model gets, and the note that says what was left out (not the prompts around it:
`structured.py`, `stepwise.py`, `lyrics.py`; nor the key words: `foreign.py`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from harmonia_lab.languages.detection import detect_language
from harmonia_lab.languages.tags import language_name
from harmonia_lab.metadata_engines.prompting.foreign import gloss, names_in, opening
from harmonia_lab.metadata_engines.prompting.words import FUNCTION_WORDS, content_stems, persons, plain
from harmonia_lab.syllables import in_dictionary, words_of

__all__ = ["Story", "clean", "excerpt", "excerpt_note", "passages", "read_story"]

MOST_WORDS = 40
"""Most key words in the prompt of a story that is not in English."""

LATIN_END = 0x250
"""The code point after the Latin letters."""

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
    what the model could not read, as sentences for people; empty for an English story.
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
    """Return the story of a narrative in any language, as English text."""
    text = " ".join(filter(None, map(clean, _SENTENCE_END.split(narrative))))
    language = detect_language(text) if words_of(text) else "en"  # emoji alone need no translation
    emoji = _emoji_names(text)
    if language == "en" and words_of(text):
        prompt_text = _without_other_scripts(text) + (f" ({', '.join(emoji)})" if emoji else "")
        return _story(prompt_text, persons(prompt_text), note="")
    words = gloss(text, language)
    names = names_in(text, language)
    known = [*names, *(word for word in words if word not in names), *emoji][:MOST_WORDS]
    anybody = frozenset({"first", "she", "he"})
    if words or emoji:
        return _story(f"It is about {', '.join(known)}.", anybody, note=_note(language, words, names))
    quoted = f": \u201c{opening(text)}\u201d" if opening(text) else ""
    prompt_text = f"Somebody far away tells an old story, in words that nobody here knows{quoted}."
    return Story(prompt_text, frozenset(), frozenset(), anybody, _note(language, words, names))


def _story(prompt_text: str, grammatical_persons: frozenset[str], note: str) -> Story:
    names = frozenset(w for w in words_of(prompt_text) if w[0].isupper() and plain(w) not in FUNCTION_WORDS)
    return Story(prompt_text, frozenset(content_stems(prompt_text)), names, grammatical_persons, note)


def _note(language: str | None, words: list[str], names: list[str]) -> str:
    """Return what became of a story that isn't in English; nothing for emoji without words."""
    if language == "en":
        return ""
    where = f"in {language_name(language)}" if language else "in a language that was not recognised"
    count = f"{len(words)} words" if len(words) > 1 else "one word"
    told = f"{count} that a list knows" + (f" and these names: {', '.join(names)}" if names else "")
    read = f"it was told the {told}" if words else "the song cannot be about it"
    return (
        f"The narrative is {where}. This small model reads and writes English only: {read}, and the lyrics are "
        "English. A larger model, on an Ollama server, writes in the language of the story."
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
