"""Titles from a small model's attempts and from phrases of its lyrics, with their ranks.

Owns the cleaning, the refusals and the ranking of titles (not the prompt: `examples.py`). Pure functions.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from harmonia_lab.metadata_engines.prompting.dialogue_types import Answer
from harmonia_lab.metadata_engines.prompting.lines import META_STEMS, CandidateLine, StoryContext, is_meta
from harmonia_lab.metadata_engines.prompting.words import FUNCTION_WORDS, plain, stem, word_set
from harmonia_lab.syllables import in_dictionary, words_of

__all__ = ["numerals", "phrases", "rank", "rank_attempt", "title_of"]

NAME = 0.4
"""Added to a title that has a name or a number of the story."""

_WORD = re.compile(r"[^\W_]+(?:['’.&:/-][^\W_]+)*")
"""Words of a title: figures and their endings belong to them ("40th", "80s", "9.30")."""

UNKNOWN = -2.0
"""Log-probability per token, for a title without log-probabilities."""

ATTEMPT_BONUS = 0.8
"""Added to a title that the model wrote as a title."""

_LENGTHS = {1: -0.5, 2: 0.1, 3: 0.4, 4: 0.5, 5: 0.4, 6: -0.4}
"""Value of a title by its number of words; other numbers are refused."""

_LOWER_CASE = word_set("a an the of and or but in on at by for to with from into as is")
_NO_BEGINNING = word_set("of and or but at by for to with from into as is are was that before after until")
_NO_END = FUNCTION_WORDS - word_set("you me again now here there nobody everything nothing")
_OPENING = word_set("a an the my your his her our their no every under")
_SEPARATORS = word_set(
    "and or but in on at by with from of for into under over through where when as that who is are was were"
)
_PRONOUNS = word_set("he she they it his her their its i my we our")
_CLICHES = word_set("lament tale symphony tapestry journey whispers echoes")


def title_of(text: str) -> str:
    """Return the title in an answer: its first line up to punctuation, in title case; may be empty."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    first = re.sub(r"^\W*(?:title|song)\s*:", "", first.strip(), flags=re.IGNORECASE)
    quoted = re.match(r"\W*[\"“]([^\"”]+)[\"”]", first)
    first = re.split(
        r"[;!?(\[{|…—–]|[:./](?!\d)|(?<!\d)[:./]|\s-\s|,\s+(?:a|an|the|by)\s", quoted[1] if quoted else first
    )[0]
    words = re.findall(rf"{_WORD.pattern}|[,&]", first)
    title = ""
    for index, word in enumerate(words):
        small = 0 < index < len(words) - 1 and plain(word) in _LOWER_CASE
        title += "," if word == "," else f" {word.lower() if small else word[0].upper() + word[1:]}"
    return title.strip(" ,")


def numerals(text: str) -> frozenset[str]:
    """Return the words of a text that begin with a figure, in lower case: "80s", "40th", "1979"."""
    return frozenset(plain(word) for word in _WORD.findall(text) if word[0].isdigit())


def rank(title: str, story: StoryContext, *, likelihood: float = UNKNOWN) -> float | None:
    """Return a title's rank, about −1…4; None if it is refused. likelihood: mean log-probability of its tokens."""
    words = [plain(word) for word in _WORD.findall(title)]
    stems = [stem(word) for word in words if word not in FUNCTION_WORDS and len(word) > 2]
    named = [word for word in words if _name(word) in story.names]
    related = len(set(stems) & story.stems - META_STEMS) + len(numerals(title) & story.names)
    if not _can_be_title(title, words, stems, story) or (story.stems and not related):
        return None
    value = min(2.0, 1.2 * related) - 0.5 * max(0, len(set(stems) - story.stems) - 1) + _LENGTHS[len(words)]
    value += NAME * bool(named)
    value -= 0.3 * (words[0] in _NO_BEGINNING) + 0.5 * (words[0] in _PRONOUNS)
    value -= 0.5 * sum(word in _CLICHES for word in words)
    if len(words) > 4 and " ".join(words) in story.plain_text:
        value -= 0.5
    return value + max(-1.0, min(0.5, 1.5 + likelihood)) * 0.6


def _name(word: str) -> str:
    return word.removesuffix("'s").capitalize()


def _can_be_title(title: str, words: Sequence[str], stems: Sequence[str], story: StoryContext) -> bool:
    known = all(in_dictionary(word) or _name(word) in story.names for word in words)
    repeats = len(set(stems)) < len(stems) or any(one == other for one, other in itertools.pairwise(words))
    return (
        len(words) in _LENGTHS
        and bool(stems)
        and known
        and title.count(",") < 2
        and not (repeats or words[-1] in _NO_END or is_meta(words, story))
    )


def rank_attempt(answer: Answer, story: StoryContext) -> tuple[float, str] | None:
    """Return the title in an answer with its rank; None if it is refused."""
    title = title_of(answer.text)
    tokens = [token.logprob for token in answer.tokens][: max(1, len(title.split()) + 1)]
    value = rank(title, story, likelihood=sum(tokens) / len(tokens) if tokens else UNKNOWN)
    return None if value is None else (value + ATTEMPT_BONUS, title)


def phrases(lines: Sequence[CandidateLine]) -> list[str]:
    """Return phrases of two to five words that begin and end where a clause of the lyrics may."""
    clauses = [words_of(clause) for line in lines for clause in line.text.split(",")]
    return [title_of(" ".join(run)) for words in clauses for run in _runs(words)]


def _runs(words: Sequence[str]) -> Iterator[Sequence[str]]:
    plains = [plain(word) for word in words]
    for start, end in itertools.combinations(range(len(words) + 1), 2):
        begins = not start or plains[start] in _OPENING or plains[start - 1] in _SEPARATORS
        ends = end == len(words) or plains[end] in _SEPARATORS
        if begins and ends and 2 <= end - start <= 5 and plains[start] not in _NO_BEGINNING:
            yield words[start:end]
