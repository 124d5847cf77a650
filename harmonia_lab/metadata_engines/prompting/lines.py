"""Candidate lines of lyrics, cut from the free text of a small model.

Owns the cutting of text into clauses, the reasons to refuse a line, and the score of a single line (not which lines go
together: `verses.py`). Pure functions.

A model of 135 M parameters writes good clauses and poor verses. So the model writes freely, and its text is cut at
punctuation, and before a preposition or a conjunction, where a singer can breathe.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from harmonia_lab.metadata_engines.prompting.dialogue_types import GeneratedToken
from harmonia_lab.metadata_engines.prompting.examples import EXAMPLES
from harmonia_lab.metadata_engines.prompting.words import FUNCTION_WORDS, content_stems, persons, plain, stem, word_set
from harmonia_lab.syllables import count_syllables, in_dictionary, words_of

__all__ = [
    "META_STEMS",
    "PAUSE_PROBABILITY",
    "CandidateLine",
    "StoryContext",
    "cut_into_lines",
    "is_meta",
    "pause_probability",
    "refusal",
    "score",
    "with_hero",
]

WORDS = range(4, 10)
SYLLABLES = range(5, 12)
"""The length of a line that a singer takes in one breath at a usual tempo."""

TARGET_SYLLABLES = 8
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
_CONJUNCTIONS = word_set("and but or as where when while that who until because if so which than")
_DANGLING = FUNCTION_WORDS - word_set("""
    me you him her it us them mine yours hers ours theirs myself yourself himself herself itself themselves again now
    here there once ever never always too up down out over off through along around behind before below beneath above
    all done gone known seen more one two nothing everything something anything nobody somebody everyone someone own go
    come goes comes went came know
""")
"""Words that leave a line incomplete when it ends in them. Lower case."""

_META = word_set("""
    verse verses chorus lyric lyrics stanza stanzas refrain rhyme rhymes rhyming poem poems poet poets poetry songwriter
    narrative user assistant prompt paragraph sentence sentences version title titled example instruction instructions
    essay author reader readers write writes writing written wrote sure response task symbolism symbol symbolizes
    metaphor imagery creative explores evoke evokes conveys conveyed poignant language
""")
_META_NOUNS = word_set("story stories tale tales song songs line lines word words page pages")
META_STEMS = frozenset(map(stem, _META_NOUNS))
"""A title that shares only these stems with a story is not about the story."""

_CLICHES = word_set("""
    tapestry testament canvas hue hues etched realm symphony embrace expanse beauty whispers fleeting amidst hush ode
    nigh thee thy doth behold
""")
"""Words that language models overuse. They lower the score."""

_STOCK = re.compile(
    r"(?:(?:and |but |oh |so )?(?:in|within|amids?t?|beneath|under|through|into|from|beyond|by|at|on) (?:the |a |this |every |each |our )?"
    r"(?:heart|stillness|quiet|silence|depths?|midst|realm|lands?|shadows?|glow|hush|embrace|twilight|moonlight|moon"
    r"|stars?|starry|night|darkness|storm|world|dreams?|edge|light|golden|gentle|soft|shimmering|twilight's|dawn's"
    r"|night's|moon's|nature's|evening's|morning's)\b"
    r"|as (?:the )?(?:sun|night|moon|world|stars?|day|darkness|dawn|twilight)\b"
    r"|(?:with |in )?(?:every|each) (?:step|breath|beat|note|word|moment|heart|passing)\b"
    r"|(?:a|an|the) (?:tale|story|symphony|tapestry|song|dance|whisper|testament|world|gentle|beacon) (?:of|where|to|that)\b"
    r"|(?:whispers?|echoes|lost|amidst?) |where (?:dreams|shadows|whispers|hearts?)\b|once upon|oh the|the (?:world|stars) (?:is|above)"
    r"|and in the end)"
)
"""Beginnings that small models write about any story, of which each is in several of a hundred songs."""

_NO_ENDING = _DANGLING | _CLICHES | _META
"""Words that never replace a line's last word."""

_OPENERS = word_set("tonight today tomorrow yesterday outside inside somewhere sometimes together oh yes love darling")
"""Words that may start a line before a comma, where a small model often puts an invented name."""


@dataclass(frozen=True)
class CandidateLine:
    """A candidate for a line of lyrics.

    words: lower case. stems: see `content_stems`. persons: of its pronouns. fluency: mean log-probability of its
    tokens, None if unknown. opens, closes: whether punctuation stands before and after it. sample: number of the text
    that it was cut from; start, end: its first and last clause there. swapped: its last word is not the one of the
    sample, but one that the model considered there. drop: how much less likely it was, in nats, 0 or more. pause: the
    probability of a pause behind the sample's own last word. value: see `score`.
    """

    text: str
    words: tuple[str, ...]
    stems: frozenset[str]
    persons: frozenset[str]
    syllables: int
    fluency: float | None = None
    opens: bool = True
    closes: bool = True
    sample: int = 0
    start: int = 0
    end: int = 0
    swapped: bool = False
    drop: float = 0.0
    pause: float = 1.0
    value: float = 0.0


@dataclass(frozen=True)
class StoryContext:
    """The story that lines and titles are compared with.

    stems: of its words. names: its capitalised words. plain_text: its words in lower case, joined by spaces. persons:
    of its pronouns. mood_conflicts: stems that contradict the song's moods. name_stems: of persons and places.
    """

    stems: frozenset[str]
    names: frozenset[str]
    plain_text: str
    persons: frozenset[str]
    mood_conflicts: frozenset[str] = frozenset()
    proper_names: tuple[str, ...] = ()
    hero: tuple[str, str] | None = None
    syllables: int = TARGET_SYLLABLES

    @property
    def name_stems(self) -> frozenset[str]:
        return frozenset(map(stem, self.proper_names))

    def place(self, *lines: CandidateLine) -> float:
        """Return the mean position in the story, 0…1, of the words that it shares with the lines; 0.5 for none."""
        order = content_stems(self.plain_text)
        found = [order.index(word) for line in lines for word in line.stems if word in order]
        return sum(found) / len(found) / len(order) if found else 0.5


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
            if logprob > UNLIKELY and text[:1] == " " and text[1:] != own and _can_end(text[1:])
        ]


def pause_probability(token: GeneratedToken) -> float:
    """Return the probability that a pause stood in this token's place: punctuation, a line end, a conjunction."""
    alternatives = token.alternatives or ((token.text, 0.0),)
    return sum(math.exp(logprob) for text, logprob in alternatives if _PAUSE.match(text))


@functools.lru_cache(maxsize=8192)
def _can_end(word: str) -> bool:
    return word.isalpha() and word.islower() and len(word) > 2 and word not in _NO_ENDING and in_dictionary(word)


def refusal(line: CandidateLine, story: StoryContext) -> str | None:
    """Return why the line can't be used, or None."""
    return next((reason for reason, holds in _REFUSALS if holds(line, story)), None)


def _is_known(word: str, story: StoryContext) -> bool:
    return in_dictionary(word) or stem(word) in story.name_stems


def _is_not_plain_text(line: CandidateLine, _story: StoryContext) -> bool:
    all_capitals = any(len(word) > 1 and word.isupper() for word in words_of(line.text))
    return all_capitals or bool(re.search(r"[^\w\s,'’-]|[\d_]", line.text))


def _has_unknown_name(line: CandidateLine, story: StoryContext) -> bool:
    """Return whether a capitalised word, or a first word with a comma behind it, is missing in the story."""
    written = words_of(line.text)
    inner = any(word[0].isupper() and not re.match(r"I\b", word) and word not in story.names for word in written[1:])
    first = line.words[0]
    addressed = line.text.split(",")[0] == written[0] and "," in line.text
    return inner or (addressed and first not in FUNCTION_WORDS | _OPENERS and stem(first) not in story.stems)


def _is_incomplete(line: CandidateLine, _story: StoryContext) -> bool:
    return line.words[-1] in _DANGLING or line.words[-1].endswith("'") or line.words[0] in {"of", "than", "'s"}


def _repeats_or_is_empty(line: CandidateLine, _story: StoryContext) -> bool:
    stems = [stem(word) for word in line.words if word not in FUNCTION_WORDS]
    pairs = list(itertools.pairwise(line.words))
    repeats = len(set(pairs)) < len(pairs) or any(one == other for one, other in pairs)
    return repeats or len(stems) < 2 or len(set(stems)) < len(stems)


def _copies_an_example(line: CandidateLine, story: StoryContext) -> bool:
    """Return whether the line has two words of one example line that the story lacks, or four words in a row."""
    text = " ".join(line.words)
    return any(
        len((line.stems & stems) - story.stems) >= 2 or _copied(line.words, words) >= 4 or text == words
        for stems, words in _EXAMPLE_LINES
    )


_EXAMPLE_LINES = tuple(
    (frozenset(content_stems(line)), " ".join(map(plain, words_of(line)))) for one in EXAMPLES for line in one.lines
)

# Transcripts and error messages contain these reasons.
_REFUSALS: tuple[tuple[str, Callable[[CandidateLine, StoryContext], bool]], ...] = (
    ("not in the dictionary", lambda line, story: not all(_is_known(word, story) for word in line.words)),
    ("not plain text", _is_not_plain_text),
    ("a name that the story lacks", _has_unknown_name),
    ("talks about the task", lambda line, story: is_meta(line.words, story)),
    ("hangs in the air", _is_incomplete),
    ("too short or too long", lambda line, _story: line.syllables not in SYLLABLES),
    ("repeats or says nothing", _repeats_or_is_empty),
    ("a list", lambda line, _story: line.text.count(",") >= min(3, len(line.words) // 2)),
    ("copied from the story", lambda line, story: f" {' '.join(line.words)} " in f" {story.plain_text} "),
    ("copied from an example", lambda line, story: _copies_an_example(line, story)),
)


def is_meta(words: Iterable[str], story: StoryContext) -> bool:
    """Return whether words, in lower case, are about writing; nouns such as "song" are fine if the story has them."""
    bare = [word.removesuffix("'s") for word in words]
    return any(word in _META or (word in _META_NOUNS and stem(word) not in story.stems) for word in bare)


def score(line: CandidateLine, story: StoryContext) -> CandidateLine:
    """Return the line with its value, about −3…3: relation to the story, fluency, shape, persons and stock phrases."""
    related = line.stems & story.stems
    value = 1.3 * bool(related) + 0.4 * min(2, max(0, len(related) - 1)) + 0.5 * bool(related & story.name_stems)
    if line.fluency is not None:
        value += max(-1.5, min(0.4, 1.2 + line.fluency))
    value += 0.5 * line.opens + 0.4 * line.closes - 0.25 * line.drop
    value -= line.swapped * (1.0 - 0.7 * line.pause)
    value -= 0.15 * max(0, abs(line.syllables - story.syllables) - 1)
    value -= 0.5 * len(line.persons - story.persons - {"they"})
    value -= 0.5 * len(_CLICHES.intersection(line.words))
    value -= 1.5 * bool(_STOCK.match(" ".join(line.words)))
    value -= 0.7 * len(line.stems & story.mood_conflicts)
    value -= 0.25 * max(0, _copied(line.words, story.plain_text) - 4)
    if line.words[0] in _CONJUNCTIONS:
        value -= 0.3
    return replace(line, value=value)


def _copied(words: Sequence[str], text: str) -> int:
    """Return the length, in words, of the longest run that `text` contains."""
    spans = itertools.combinations(range(len(words) + 1), 2)
    return max((j - i for i, j in spans if f" {' '.join(words[i:j])} " in f" {text} "), default=0)
