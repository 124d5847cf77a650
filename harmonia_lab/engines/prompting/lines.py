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

from harmonia_lab.engines.prompting.wording import FUNCTION_WORDS, content_stems, persons, plain, stem
from harmonia_lab.syllables import count_syllables, in_dictionary, words_of

__all__ = ["Line", "Setting", "cut_into_lines", "refusal", "score"]

WORDS = range(4, 10)
SYLLABLES = range(5, 12)
"""What a singer takes in one breath at a usual tempo."""

TARGET_SYLLABLES = 8


@dataclass(frozen=True)
class Line:
    """One candidate. words: lower case. fluency: mean log-probability of its tokens, None where unknown.

    sample, start, end: which text it was cut from, and the clauses of it that it covers, so that neighbours are known.
    """

    text: str
    words: tuple[str, ...]
    syllables: int
    fluency: float | None = None
    natural: int = 0
    sample: int = 0
    start: int = 0
    end: int = 0
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


_SENTENCE = re.compile(r"[^.!?;:\n…—\"“”()\[\]*_#<>|{}]+")
_BREATH = re.compile(
    r",|\s-\s|\s(?=(?:and|but|or|with|in|on|at|by|from|for|as|where|when|while|that|who|until|like|into|through|under|over|beneath"
    r"|beside|between|across|behind|beyond|before|after|because|if|so|down|along|upon|within|without)\s)"
)
_JOINERS = frozenset("and but or as where when while that who until because if so which than".split())
_DANGLING = FUNCTION_WORDS - frozenset(
    """me you him her it us them mine yours hers ours theirs myself yourself himself herself itself themselves again now here
    there once ever never always too up down out over off through along around behind before below beneath above inside outside
    all done gone known seen more one two nothing everything something anything nobody somebody everyone someone own go come
    goes comes went came know alone""".split()
)
"""A line that ends in one of these hangs in the air."""

_META = frozenset(
    """verse verses chorus lyric lyrics stanza stanzas refrain rhyme rhymes rhyming poem poems poet poets poetry songwriter
    narrative user assistant prompt paragraph sentence sentences version title titled example instruction instructions
    essay author reader readers write writes writing written wrote sure here's response task stanzas""".split()
)
_META_UNLESS_TOLD = frozenset("story stories tale tales song songs line lines word words page pages".split())
_STALE = frozenset("tapestry testament canvas hue hues etched realm symphony embrace expanse beauty whispers fleeting amidst".split())
"""Words that language models reach for. Allowed, at a price."""


def cut_into_lines(text: str, sample: int, *, complete: bool, logprobs: Sequence[tuple[str, float]] = ()) -> list[Line]:
    """Every run of clauses within a sentence that has a line's length.

    complete: False when the text was cut off, so that its last clause is not to be trusted.
    logprobs: the text's tokens with their log-probabilities, in order; empty where the server gives none.
    """
    fluency = _Fluency(logprobs)
    sentences = [(m.start(), m.group()) for m in _SENTENCE.finditer(text) if m.group().strip()]
    lines = []
    number = 0
    for index, (offset, sentence) in enumerate(sentences):
        clauses = list(_clauses(sentence, offset))
        if not complete and index == len(sentences) - 1 and text.rstrip()[-1:] not in ".!?":
            del clauses[-1:]
        for first in range(len(clauses)):
            for last in range(first, min(first + 4, len(clauses))):
                begin, end = clauses[first][0], clauses[last][1]
                piece = " ".join(text[begin:end].split()).strip(" ,-'’")
                words = tuple(plain(word) for word in words_of(piece))
                if len(words) in WORDS:
                    syllables = sum(count_syllables(word) for word in words)
                    if syllables in SYLLABLES:
                        shown = piece[0].upper() + piece[1:]
                        natural = clauses[first][2] + clauses[last][3]
                        lines.append(Line(shown, words, syllables, fluency.of(begin, end), natural, sample, number + first, number + last))
        number += len(clauses) + 2
    return lines


def _clauses(sentence: str, offset: int) -> Iterator[tuple[int, int, bool, bool]]:
    begin = 0
    hard = True
    for match in [*_BREATH.finditer(sentence), None]:
        end = match.start() if match else len(sentence)
        closed = match is None or bool(match.group().strip())
        if sentence[begin:end].strip():
            yield offset + begin, offset + end, hard, closed
        begin = match.end() if match else end
        hard = closed


class _Fluency:
    """Mean log-probability of the tokens that overlap a span of the text."""

    def __init__(self, logprobs: Sequence[tuple[str, float]]) -> None:
        self._spans: list[tuple[int, int, float]] = []
        position = 0
        for token, value in logprobs:
            self._spans.append((position, position + len(token), value))
            position += len(token)

    def of(self, begin: int, end: int) -> float | None:
        inside = [max(value, -8.0) for first, last, value in self._spans if last > begin and first < end]
        return sum(inside) / len(inside) if inside else None


def refusal(line: Line, setting: Setting, *, examples: Iterable[str] = ()) -> str | None:
    """Why the line can't be sung, or None."""
    words = line.words
    if not all(map(in_dictionary, words)):
        return "not in the dictionary"
    if re.search(r"[^\w\s,'’-]|[\d_]", line.text):
        return "not plain text"
    shown = words_of(line.text)
    if any(word[:1].isupper() and plain(word).split("'")[0] not in {"i"} and word not in setting.names for word in shown[1:]):
        return "a name that the story lacks"
    if _META.intersection(words):
        return "talks about the task"
    if any(word in _META_UNLESS_TOLD and stem(word) not in setting.stems for word in words):
        return "talks about the task"
    if words[-1] in _DANGLING or words[-1].endswith("'"):
        return "ends in the air"
    if words[0] in {"of", "than", "'s"} or words[0] == words[1]:
        return "begins in the air"
    stems = [stem(word) for word in words if word not in FUNCTION_WORDS]
    if len(stems) < 2 or len(set(stems)) < len(stems):
        return "repeats or says nothing"
    if len(set(zip(words, words[1:], strict=False))) < len(words) - 1:
        return "repeats itself"
    text = " ".join(words)
    if any(" ".join(words[i : i + 4]) in example for example in examples for i in range(len(words) - 3)):
        return "copied from the example"
    if text in setting.told and len(words) > 8:
        return "copied from the story"
    return None


def score(line: Line, setting: Setting) -> Line:
    """The line with its value: relation to the story, fluency, length, who speaks, worn words. About −2…3."""
    stems = set(content_stems(line.text))
    value = min(1.5, 0.6 * len(stems & setting.stems))
    if line.fluency is not None:
        value += max(-1.0, min(1.0, 1.2 + line.fluency))
    value += 0.4 * line.natural
    value -= 0.15 * max(0, abs(line.syllables - TARGET_SYLLABLES) - 1)
    strangers = persons(line.text) - setting.people - {"they"}
    value -= 0.5 * len(strangers)
    value -= 0.5 * len(_STALE.intersection(line.words))
    value -= 0.7 * len(stems & setting.clash)
    if " ".join(line.words) in setting.told:
        value -= 0.4
    if line.words[0] in _JOINERS:
        value -= 0.3
    return replace(line, value=value)
