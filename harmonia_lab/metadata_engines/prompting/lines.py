"""From a small model's free text to lines that can be sung.

Owns the cutting of text into clauses, the reasons to refuse a line, and a line's own score. Which lines go together is
decided in `verses.py`. Pure functions of text.

A model of 135 M parameters writes good clauses and poor verses. So it is let write freely, and its text is cut where a
singer would breathe: at punctuation, and before a preposition or a conjunction.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from harmonia_lab.metadata_engines.prompting.dialogue_types import Token
from harmonia_lab.metadata_engines.prompting.words import (
    FUNCTION_WORDS,
    content_stems,
    persons,
    plain,
    stem,
    word_set,
)
from harmonia_lab.syllables import count_syllables, in_dictionary, words_of

__all__ = ["DANGLING", "Line", "Setting", "cut_into_lines", "is_meta", "meta_stems", "refusal", "score", "with_ending"]

WORDS = range(4, 10)
SYLLABLES = range(5, 12)
"""What a singer takes in one breath at a usual tempo."""

TARGET_SYLLABLES = 8
LONGEST_RUN = 4
"""Clauses that one line may join."""

UNLIKELY = -6.0
"""Log-probability below which a word is no alternative to the one that was written."""

_SENTENCE = re.compile(r"[^.!?;:\n…—\"“”()\[\]*_#<>|{}]+")
_BREATH = re.compile(
    r",|\s-\s|\s(?=(?:and|but|or|with|in|on|at|by|from|for|as|where|when|while|that|who|until|like|into|through|under"
    r"|over|beneath|beside|between|across|behind|beyond|before|after|because|if|upon|within|without)\s)"
)
_JOINERS = word_set("and but or as where when while that who until because if so which than")
DANGLING = FUNCTION_WORDS - word_set("""
    me you him her it us them mine yours hers ours theirs myself yourself himself herself itself themselves again now
    here there once ever never always too up down out over off through along around behind before below beneath above
    all done gone known seen more one two nothing everything something anything nobody somebody everyone someone own go
    come goes comes went came know
""")
"""A line that ends in one of these hangs in the air. Lower case."""

_META = word_set("""
    verse verses chorus lyric lyrics stanza stanzas refrain rhyme rhymes rhyming poem poems poet poets poetry songwriter
    narrative user assistant prompt paragraph sentence sentences version title titled example instruction instructions
    essay author reader readers write writes writing written wrote sure response task symbolism symbol symbolizes
    metaphor imagery creative explores evoke evokes conveys conveyed poignant language
""")
_META_UNLESS_TOLD = word_set("story stories tale tales song songs line lines word words page pages")
_STALE = word_set("""
    tapestry testament canvas hue hues etched realm symphony embrace expanse beauty whispers fleeting amidst hush ode
    nigh thee thy doth behold
""")
"""Words that language models reach for. Allowed, at a price."""

_OPENERS = word_set("tonight today tomorrow yesterday outside inside somewhere sometimes together oh yes love darling")
"""Single words that may stand before a comma at a line's beginning, where a small model likes to put invented names."""


@dataclass(frozen=True)
class Line:
    """One candidate. words: lower case. stems: of those that carry meaning. people: who it speaks of.

    fluency: mean log-probability of its tokens, None where unknown. opens, closes: whether there was punctuation.
    sample, start, end: which text it was cut from, and the clauses of it that it covers, so that neighbours are known.
    endings: other last words that the model thought of, and how much less likely they were (in log-probability).
    swapped: it has one of those. value: see `score`.
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
        found = [order.index(word) for line in lines for word in line.stems if word in order]
        return sum(found) / len(found) / len(order) if found else 0.5


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
        for first in range(len(clauses)):
            for last in range(first, min(first + LONGEST_RUN, len(clauses))):
                line = _line(text, clauses[first], clauses[last], spans)
                if line:
                    lines.append(replace(line, sample=sample, start=number + first, end=number + last))
        number += len(clauses) + 2
    return lines


def with_ending(line: Line, word: str) -> Line:
    """The line with another last word."""
    if word == line.words[-1]:
        return line
    text = line.text[: len(line.text) - len(line.words[-1])] + word
    syllables = line.syllables - count_syllables(line.words[-1]) + count_syllables(word)
    words = (*line.words[:-1], word)
    return replace(
        line, text=text, words=words, stems=frozenset(content_stems(text)), syllables=syllables, swapped=True
    )


class _Clause(NamedTuple):
    """begin, end: in the text. opens, closes: whether there was punctuation."""

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


def _line(text: str, first: _Clause, last: _Clause, spans: _Spans) -> Line | None:
    """The line from one clause to another; None where it is too short or too long."""
    raw = text[first.begin : last.end]
    piece = " ".join(raw.replace("’", "'").split()).strip(" ,-'")
    words = tuple(plain(word) for word in words_of(piece))
    syllables = sum(map(count_syllables, words))
    if len(words) not in WORDS or syllables not in SYLLABLES:
        return None
    end = first.begin + len(raw.rstrip(" ,-'’"))
    return Line(
        text=piece[0].upper() + piece[1:],
        words=words,
        stems=frozenset(content_stems(piece)),
        people=persons(piece),
        syllables=syllables,
        fluency=spans.fluency(first.begin, end),
        opens=first.opens,
        closes=last.closes,
        endings=spans.endings(end, words[-1]),
    )


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
        others = token.others if token else ()
        return tuple(
            (text[1:], token.logprob - logprob)
            for text, logprob in others
            if token and logprob > UNLIKELY and text[:1] == " " and text[1:] != word and _can_end(text[1:])
        )


def _can_end(word: str) -> bool:
    if not (word.isalpha() and word.islower() and len(word) > 2):
        return False
    return word not in DANGLING and word not in _STALE and word not in _META and in_dictionary(word)


def refusal(line: Line, setting: Setting) -> str | None:
    """Why the line can't be sung, or None."""
    return next((reason for reason, holds in _REFUSALS if holds(line, setting)), None)


def _is_no_plain_text(line: Line, _setting: Setting) -> bool:
    shouted = any(len(word) > 1 and word.isupper() for word in words_of(line.text))
    return shouted or bool(re.search(r"[^\w\s,'’-]|[\d_]", line.text))


def _names_a_stranger(line: Line, setting: Setting) -> bool:
    """A capital inside the line, or a single word before a comma at its beginning, that the story doesn't have."""
    shown = words_of(line.text)
    inner = any(word[0].isupper() and not re.match(r"I\b", word) and word not in setting.names for word in shown[1:])
    first = line.words[0]
    called = line.text.split(",")[0] == shown[0] and "," in line.text
    return inner or (called and first not in FUNCTION_WORDS | _OPENERS and stem(first) not in setting.stems)


def _hangs_in_the_air(line: Line, _setting: Setting) -> bool:
    return line.words[-1] in DANGLING or line.words[-1].endswith("'") or line.words[0] in {"of", "than", "'s"}


def _repeats_or_says_nothing(line: Line, _setting: Setting) -> bool:
    meant = [stem(word) for word in line.words if word not in FUNCTION_WORDS]
    pairs = list(itertools.pairwise(line.words))
    stammers = len(set(pairs)) < len(pairs) or any(one == other for one, other in pairs)
    return stammers or len(meant) < 2 or len(set(meant)) < len(meant)


_REFUSALS: tuple[tuple[str, Callable[[Line, Setting], bool]], ...] = (
    ("not in the dictionary", lambda line, _setting: not all(map(in_dictionary, line.words))),
    ("not plain text", _is_no_plain_text),
    ("a name that the story lacks", _names_a_stranger),
    ("talks about the task", lambda line, setting: is_meta(line.words, setting)),
    ("hangs in the air", _hangs_in_the_air),
    ("repeats or says nothing", _repeats_or_says_nothing),
    ("a list", lambda line, _setting: line.text.count(",") >= min(3, len(line.words) // 2)),
    (
        "copied from the story",
        lambda line, setting: len(line.words) >= WORDS[-1] and " ".join(line.words) in setting.told,
    ),
)


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
    spans = itertools.combinations(range(len(words) + 1), 2)
    return max((j - i for i, j in spans if f" {' '.join(words[i:j])} " in padded), default=0)
