"""Candidate lines of lyrics: whether one can be used, and how good it is.

Owns the reasons to refuse a line, and the score of a single line (not how text becomes lines: `cutting.py`, nor which
lines go together: `verses.py`). Pure functions.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from harmonia_lab.metadata_engines.prompting.examples import EXAMPLES
from harmonia_lab.metadata_engines.prompting.words import FUNCTION_WORDS, content_stems, plain, stem, word_set
from harmonia_lab.syllables import in_dictionary, words_of

__all__ = [
    "META_STEMS",
    "SYLLABLES",
    "WORDS",
    "CandidateLine",
    "StoryContext",
    "can_end",
    "is_meta",
    "refusal",
    "score",
]

WORDS = range(4, 10)
SYLLABLES = range(5, 12)
"""The length of a line that a singer takes in one breath at a usual tempo."""

TARGET_SYLLABLES = 8
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
    r"(?:(?:and |but |oh |so )?"
    r"(?:in|within|amids?t?|beneath|under|through|into|from|beyond|by|at|on) (?:the |a |this |every |each |our )?"
    r"(?:heart|stillness|quiet|silence|depths?|midst|realm|lands?|shadows?|glow|hush|embrace|twilight|moonlight|moon"
    r"|stars?|starry|night|darkness|storm|world|dreams?|edge|light|golden|gentle|soft|shimmering|twilight's|dawn's"
    r"|night's|moon's|nature's|evening's|morning's)\b"
    r"|as (?:the )?(?:sun|night|moon|world|stars?|day|darkness|dawn|twilight)\b"
    r"|(?:with |in )?(?:every|each) (?:step|breath|beat|note|word|moment|heart|passing)\b"
    r"|(?:a|an|the) (?:tale|story|symphony|tapestry|song|dance|whisper|testament|world|gentle|beacon)"
    r" (?:of|where|to|that)\b"
    r"|(?:whispers?|echoes|lost|amidst?) |where (?:dreams|shadows|whispers|hearts?)\b"
    r"|once upon|oh the|the (?:world|stars) (?:is|above)|and in the end)"
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


@functools.lru_cache(maxsize=8192)
def can_end(word: str) -> bool:
    """Return whether a word may replace the last word of a line."""
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
    ("copied from an example", _copies_an_example),
)


def is_meta(words: Iterable[str], story: StoryContext) -> bool:
    """Return whether words, in lower case, are about writing; nouns such as "song" are fine if the story has them."""
    bare = [word.removesuffix("'s") for word in words]
    return any(word in _META or (word in _META_NOUNS and stem(word) not in story.stems) for word in bare)


def score(line: CandidateLine, story: StoryContext) -> CandidateLine:
    """Return the line with its value, about −3…3: relation to the story, fluency, shape, persons and stock phrases."""
    related = line.stems & story.stems
    value = 2.4 * bool(related) + 0.4 * min(2, max(0, len(related) - 1)) + 0.5 * bool(related & story.name_stems)
    if line.fluency is not None:
        value += max(-1.5, min(0.4, 1.2 + line.fluency))
    value += 0.5 * line.opens + 0.4 * line.closes - 0.25 * line.drop
    value -= line.swapped * (1.0 - 0.7 * line.pause)
    value -= 0.15 * max(0, abs(line.syllables - story.syllables) - 1)
    if story.syllables < TARGET_SYLLABLES:
        value -= 0.5 * max(0, line.syllables - story.syllables)
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
