"""Free text of a small model, cut into candidates for lines of lyrics.

Owns the cutting, and the other last words that a line may have (not what makes a good line: `lines.py`). Pure
functions.

A model of 135 M parameters writes good clauses and poor verses. So its text is cut at punctuation, before a preposition
or a conjunction, where a singer can breathe, and wherever else the model might have paused. For rhymes, the last word
may be one that the model considered there.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from harmonia_lab.metadata_engines.prompting.dialogue_types import GeneratedToken
from harmonia_lab.metadata_engines.prompting.lines import SYLLABLES, WORDS, CandidateLine, can_end
from harmonia_lab.metadata_engines.prompting.words import content_stems, persons, plain, stem
from harmonia_lab.syllables import count_syllables, words_of

__all__ = ["PAUSE_PROBABILITY", "cut_into_lines", "pause_probability", "with_hero"]

LONGEST_RUN = 4
"""Most clauses in one line."""

PAUSE_PROBABILITY = 0.25
"""Least probability of a pause behind a line that ends where the model went on, or with another last word."""

_PAUSE = re.compile(r"\s*[.,;:!?…—\n]|\s+(?:and|but|or|as|where|when|while|until)$|$")

UNLIKELY = -5.0
"""Log-probability below which an alternative last word is ignored."""

_SENTENCE = re.compile(r"[^.!?;:\n…—\"“”()\[\]*_#<>|{}]+")
_CLAUSE_BREAK = re.compile(
    r",|\s-\s|\s(?=(?:and|but|or|with|in|on|at|by|from|for|as|where|when|while|that|who|until|like|into|through|under"
    r"|over|beneath|beside|between|across|behind|beyond|before|after|because|if|upon|within|without)\s)"
)


def cut_into_lines(
    text: str, sample: int, *, complete: bool, tokens: Sequence[GeneratedToken] = ()
) -> list[CandidateLine]:
    """Return every run of up to `LONGEST_RUN` neighbouring clauses of a sentence that has the length of a line.

    With log-probabilities, also every beginning of a run behind which the model might have paused, and each such line
    with the last words that the model considered there (`swapped`). complete: False if a token limit cut the text off;
    its last clause is then left out. tokens: the text's tokens in order; empty without log-probabilities.
    """
    spans = _TokenSpans(tokens)
    sentences = [(m.start(), m.group()) for m in _SENTENCE.finditer(text) if m.group().strip()]
    lines: list[CandidateLine] = []
    number = 0
    for index, (offset, sentence) in enumerate(sentences):
        clauses = list(_clauses(sentence, offset))
        if not complete and index == len(sentences) - 1 and text.rstrip()[-1:] not in ".!?":
            del clauses[-1:]
        for first, clause in enumerate(clauses):
            for last, run in enumerate(clauses[first : first + LONGEST_RUN], first):
                for end in [*spans.word_ends(run.begin, run.end), run.end]:
                    line = _line(text, clause, run._replace(end=end, closes=run.closes and end == run.end), spans)
                    if line:
                        pause = 1.0 if end == run.end else spans.pause(end)
                        line = replace(line, sample=sample, start=number + first, end=number + last, pause=pause)
                        own = pause > PAUSE_PROBABILITY
                        lines += [line] * own + [_with_ending(line, *other) for other in spans.others(end)]
        number += len(clauses) + 2
    return lines


def _with_ending(line: CandidateLine, word: str, drop: float) -> CandidateLine:
    """Return the line with another last word, which is `drop` nats less likely than its own, negative if more."""
    text = line.text[: len(line.text) - len(line.words[-1])] + word
    syllables = line.syllables - count_syllables(line.words[-1]) + count_syllables(word)
    fluency = None if line.fluency is None else line.fluency - drop / (len(line.words) + 1)
    return replace(
        line,
        text=text,
        words=(*line.words[:-1], word),
        stems=frozenset(content_stems(text)),
        syllables=syllables,
        fluency=fluency,
        swapped=True,
        drop=max(0.0, drop),
    )


def with_hero(line: CandidateLine, hero: tuple[str, str] | None) -> CandidateLine | None:
    """Return the line with the hero's name instead of the pronoun that it begins with; None for another line."""
    name, pronoun = hero or ("", "")
    first, _, rest = line.text.partition(" ")
    if not name or first != pronoun:
        return None
    return replace(
        line,
        text=f"{name} {rest}",
        words=(plain(name), *line.words[1:]),
        stems=line.stems | {stem(name)},
        syllables=line.syllables - 1 + count_syllables(name),
    )


class _Clause(NamedTuple):
    """begin, end: in the text. opens, closes: whether punctuation stands before and after it."""

    begin: int
    end: int
    opens: bool
    closes: bool


def _clauses(sentence: str, offset: int) -> Iterator[_Clause]:
    begin, opens = 0, True
    for match in [*_CLAUSE_BREAK.finditer(sentence), None]:
        end = match.start() if match else len(sentence)
        closes = match is None or bool(match.group().strip())
        if sentence[begin:end].strip():
            yield _Clause(offset + begin, offset + end, opens, closes)
        begin, opens = match.end() if match else end, closes


def _line(text: str, first: _Clause, last: _Clause, spans: _TokenSpans) -> CandidateLine | None:
    """Return the line from the first to the last clause; None if it is too short or too long."""
    raw = text[first.begin : last.end]
    piece = " ".join(raw.replace("’", "'").split()).strip(" ,-'")
    words = tuple(plain(word) for word in words_of(piece))
    syllables = sum(map(count_syllables, words))
    if len(words) not in WORDS or syllables not in SYLLABLES:
        return None
    end = first.begin + len(raw.rstrip(" ,-'’"))
    return CandidateLine(
        text=piece[0].upper() + piece[1:],
        words=words,
        stems=frozenset(content_stems(piece)),
        persons=persons(piece),
        syllables=syllables,
        fluency=spans.fluency(first.begin, end),
        opens=first.opens,
        closes=last.closes,
    )


class _TokenSpans:
    """The tokens of a text, each with its start and end there."""

    def __init__(self, tokens: Sequence[GeneratedToken]) -> None:
        ends = list(itertools.accumulate(len(token.text) for token in tokens))
        self._tokens = list(zip([0, *ends], ends, tokens, strict=False))
        self._last = {end: (begin, token) for begin, end, token in self._tokens}
        self._next = {begin: token for begin, _, token in self._tokens}

    def fluency(self, begin: int, end: int) -> float | None:
        inside = [max(token.logprob, -8.0) for first, last, token in self._tokens if last > begin and first < end]
        return sum(inside) / len(inside) if inside else None

    def word_ends(self, begin: int, end: int) -> list[int]:
        """Return where, between two places in the text, a word ends that is a token by itself."""
        inside = [(last, token.text) for first, last, token in self._tokens if first > begin and last < end]
        return [at for at, word in inside if word[:1] == " " and word[1:].isalpha() and at in self._next
                and not self._next[at].text[:1].isalnum() and self._next[at].text[:1] not in "'’-"]  # fmt: skip

    def pause(self, end: int) -> float:
        """Return the probability of a pause behind the token that ends here."""
        return pause_probability(self._next[end]) if end in self._next else 0.0

    def others(self, end: int) -> list[tuple[str, float]]:
        """Return the alternatives to the one-token word that ends here, with how much less likely they were."""
        _, token = self._last.get(end, (0, None))
        if token is None or token.text[:1] != " ":
            return []
        own = token.text[1:]
        return [
            (text[1:], token.logprob - logprob)
            for text, logprob in token.alternatives
            if logprob > UNLIKELY and text[:1] == " " and text[1:] != own and can_end(text[1:])
        ]


def pause_probability(token: GeneratedToken) -> float:
    """Return the probability that a pause stood in this token's place: punctuation, a line end, a conjunction."""
    alternatives = token.alternatives or ((token.text, 0.0),)
    return sum(math.exp(logprob) for text, logprob in alternatives if _PAUSE.match(text))
