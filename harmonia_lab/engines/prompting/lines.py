"""From a small model's free text to lines that can be sung.

Owns the cutting of text into clauses, the reasons to refuse a line, and a line's own score. Which lines go together is
decided in `verses.py`. Pure functions of text.

A model of 135 M parameters writes good clauses and poor verses. So it is let write freely, and its text is cut where a
singer would breathe: at punctuation, and before a preposition or a conjunction.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from harmonia_lab.engines.prompting.exchange import Token
from harmonia_lab.engines.prompting.wording import FUNCTION_WORDS, content_stems, persons, plain, stem
from harmonia_lab.syllables import count_syllables, in_dictionary, words_of

__all__ = ["DANGLING", "Line", "Setting", "cut_into_lines", "is_meta", "meta_stems", "refusal", "score", "with_ending"]

WORDS = range(4, 10)
SYLLABLES = range(5, 12)
"""What a singer takes in one breath at a usual tempo."""

TARGET_SYLLABLES = 8


@dataclass(frozen=True)
class Line:
    """One candidate. words: lower case. stems: of those that carry meaning. people: who it speaks of.

    fluency: mean log-probability of its tokens, None where unknown.
    opens, closes: whether its ends were at punctuation. sample, start, end: which text it was cut from, and the clauses
    of it that it covers, so that neighbours are known. endings: other last words that the model thought of, and how much
    less likely they were (in log-probability). swapped: it has one of those. value: see `score`.
    """

    text: str
    words: tuple[str, ...]
    stems: frozenset[str]
    people: frozenset[str]
    syllables: int
    fluency: float | None = None
    opens: bool = True
    closes: bool = True
    sample: int = 0
    start: int = 0
    end: int = 0
    endings: tuple[tuple[str, float], ...] = ()
    swapped: bool = False
    value: float = 0.0


@dataclass(frozen=True)
class Setting:
    """What lines are measured against. stems: of the story. names: its capitalised words. told: the story, plain.

    people: who it speaks of. clash: stems that contradict the song's mood.
    """

    stems: frozenset[str]
    names: frozenset[str]
    told: str
    people: frozenset[str]
    clash: frozenset[str] = frozenset()

    def place(self, *lines: Line) -> float:
        """Where in the story the lines belong, 0…1: the mean place of the words they share; 0.5 for none."""
        order = content_stems(self.told)
        found = [order.index(stem) for line in lines for stem in line.stems if stem in order]
        return sum(found) / len(found) / len(order) if found else 0.5


_SENTENCE = re.compile(r"[^.!?;:\n…—\"“”()\[\]*_#<>|{}]+")
_BREATH = re.compile(
    r",|\s-\s|\s(?=(?:and|but|or|with|in|on|at|by|from|for|as|where|when|while|that|who|until|like|into|through|under|over|beneath"
    r"|beside|between|across|behind|beyond|before|after|because|if|upon|within|without)\s)"
)
_JOINERS = frozenset("and but or as where when while that who until because if so which than".split())
DANGLING = FUNCTION_WORDS - frozenset(
    """me you him her it us them mine yours hers ours theirs myself yourself himself herself itself themselves again now here
    there once ever never always too up down out over off through along around behind before below beneath above inside outside
    all done gone known seen more one two nothing everything something anything nobody somebody everyone someone own go come
    goes comes went came know alone""".split()
)
"""A line that ends in one of these hangs in the air. Lower case."""

_META = frozenset(
    """verse verses chorus lyric lyrics stanza stanzas refrain rhyme rhymes rhyming poem poems poet poets poetry songwriter
    narrative user assistant prompt paragraph sentence sentences version title titled example instruction instructions
    essay author reader readers write writes writing written wrote sure here's response task stanzas""".split()
)
_META_UNLESS_TOLD = frozenset("story stories tale tales song songs line lines word words page pages".split())
_STALE = frozenset(
    "tapestry testament canvas hue hues etched realm symphony embrace expanse beauty whispers fleeting amidst".split()
)
"""Words that language models reach for. Allowed, at a price."""


def cut_into_lines(text: str, sample: int, *, complete: bool, tokens: Sequence[Token] = ()) -> list[Line]:
    """Every run of clauses within a sentence that has a line's length.

    complete: False when the text was cut off, so that its last clause is not to be trusted.
    tokens: the text's tokens in order; empty where the server tells nothing of them.
    """
    spans = _Spans(tokens)
    sentences = [(m.start(), m.group()) for m in _SENTENCE.finditer(text) if m.group().strip()]
    lines = []
    number = 0
    for index, (offset, sentence) in enumerate(sentences):
        clauses = list(_clauses(sentence, offset))
        if not complete and index == len(sentences) - 1 and text.rstrip()[-1:] not in ".!?":
            del clauses[-1:]
        for first, last in ((i, j) for i in range(len(clauses)) for j in range(i, min(i + 4, len(clauses)))):
            begin, end = clauses[first].begin, clauses[last].end
            piece = " ".join(text[begin:end].split()).strip(" ,-'’")
            words = tuple(plain(word) for word in words_of(piece))
            syllables = sum(count_syllables(word) for word in words)
            if len(words) in WORDS and syllables in SYLLABLES:
                end = begin + len(text[begin:end].rstrip(" ,-'’"))
                lines.append(
                    Line(
                        piece[0].upper() + piece[1:],
                        words,
                        frozenset(content_stems(piece)),
                        persons(piece),
                        syllables,
                        fluency=spans.fluency(begin, end),
                        opens=clauses[first].opens,
                        closes=clauses[last].closes,
                        sample=sample,
                        start=number + first,
                        end=number + last,
                        endings=spans.endings(end, words[-1]),
                    )
                )
        number += len(clauses) + 2
    return lines


def with_ending(line: Line, word: str) -> Line:
    """The line with another last word."""
    if word == line.words[-1]:
        return line
    text = line.text[: len(line.text) - len(line.words[-1])] + word
    syllables = line.syllables - count_syllables(line.words[-1]) + count_syllables(word)
    words = (*line.words[:-1], word)
    return replace(line, text=text, words=words, stems=frozenset(content_stems(text)), syllables=syllables, swapped=True)


class _Clause(NamedTuple):
    """opens, closes: whether there was punctuation."""

    begin: int
    end: int
    opens: bool
    closes: bool


def _clauses(sentence: str, offset: int) -> Iterator[_Clause]:
    begin, opens = 0, True
    for match in [*_BREATH.finditer(sentence), None]:
        end = match.start() if match else len(sentence)
        closes = match is None or bool(match.group().strip())
        if sentence[begin:end].strip():
            yield _Clause(offset + begin, offset + end, opens, closes)
        begin, opens = match.end() if match else end, closes


class _Spans:
    """What is known of the tokens that overlap a span of the text."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens: list[tuple[int, int, Token]] = []
        position = 0
        for token in tokens:
            self._tokens.append((position, position + len(token.text), token))
            position += len(token.text)

    def fluency(self, begin: int, end: int) -> float | None:
        inside = [max(token.logprob, -8.0) for first, last, token in self._tokens if last > begin and first < end]
        return sum(inside) / len(inside) if inside else None

    def endings(self, end: int, word: str) -> tuple[tuple[str, float], ...]:
        """Other words in place of the one that ends here, where that one is a single token; likely ones first."""
        token = next((token for _, last, token in self._tokens if last == end and token.text == f" {word}"), None)
        if token is None:
            return ()
        found = []
        for text, logprob in token.others:
            other = text[1:]
            if text[:1] == " " and other.isalpha() and other.islower() and other != word and logprob > -6:
                if other not in DANGLING and other not in _STALE and len(other) > 2 and in_dictionary(other):
                    found.append((other, token.logprob - logprob))
        return tuple(found)


def refusal(line: Line, setting: Setting, *, examples: Iterable[str] = ()) -> str | None:
    """Why the line can't be sung, or None."""
    words = line.words
    if not all(map(in_dictionary, words)):
        return "not in the dictionary"
    if re.search(r"[^\w\s,'’-]|[\d_]", line.text):
        return "not plain text"
    shown = words_of(line.text)
    if any(
        word[:1].isupper() and plain(word).split("'")[0] not in {"i"} and word not in setting.names
        for word in shown[1:]
    ):
        return "a name that the story lacks"
    if is_meta(words, setting):
        return "talks about the task"
    if words[-1] in DANGLING or words[-1].endswith("'"):
        return "ends in the air"
    if words[0] in {"of", "than", "'s"} or words[0] == words[1]:
        return "begins in the air"
    stems = [stem(word) for word in words if word not in FUNCTION_WORDS]
    if len(stems) < 2 or len(set(stems)) < len(stems):
        return "repeats or says nothing"
    if len(set(zip(words, words[1:], strict=False))) < len(words) - 1:
        return "repeats itself"
    if line.text.count(",") >= min(3, len(words) // 2):
        return "a list"
    text = " ".join(words)
    if any(" ".join(words[i : i + 4]) in example for example in examples for i in range(len(words) - 3)):
        return "copied from the example"
    if text in setting.told and len(words) > 8:
        return "copied from the story"
    return None


def is_meta(words: Iterable[str], setting: Setting) -> bool:
    """Whether words, in lower case, talk about writing instead of the story."""
    bare = [word.removesuffix("'s") for word in words]
    return any(word in _META or (word in _META_UNLESS_TOLD and stem(word) not in setting.stems) for word in bare)


def meta_stems() -> frozenset[str]:
    """Stems of words about songs and stories: a title that has only those in common with a story is not about it."""
    return frozenset(stem(word) for word in _META_UNLESS_TOLD)


def score(line: Line, setting: Setting) -> Line:
    """The line with its value: relation to the story, fluency, shape, who speaks, worn words. About −2…3."""
    value = min(1.2, 0.6 * len(line.stems & setting.stems))
    if line.fluency is not None:
        value += max(-1.0, min(0.4, 1.2 + line.fluency))
    value += 0.5 * line.opens + 0.4 * line.closes
    value -= 0.15 * max(0, abs(line.syllables - TARGET_SYLLABLES) - 1)
    value -= 0.5 * len(line.people - setting.people - {"they"})
    value -= 0.5 * len(_STALE.intersection(line.words))
    value -= 0.7 * len(line.stems & setting.clash)
    value -= 0.25 * max(0, _copied(line.words, setting.told) - 4)
    if line.words[0] in _JOINERS:
        value -= 0.3
    return replace(line, value=value)


def _copied(words: Sequence[str], told: str) -> int:
    """Length in words of the longest run that stands in the story as well."""
    padded = f" {told} "
    runs = (
        j - i for i in range(len(words)) for j in range(i + 1, len(words) + 1) if f" {' '.join(words[i:j])} " in padded
    )
    return max(runs, default=0)
