"""The form of a song, and the choice of couplets for its sections from candidate lines.

Owns how much text a song of a given length has, and which lines rhyme and follow each other (not the score of a single
line: `lines.py`). Pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from harmonia_lab.metadata_engines.prompting.lines import CandidateLine, with_ending
from harmonia_lab.metadata_engines.prompting.words import stem
from harmonia_lab.syllables import rhyme, rhyme_families

__all__ = ["Couplet", "best_couplets", "form_for"]

RHYME = 2.0
"""Value of a perfect rhyme, in units of `CandidateLine.value`."""

POOL = 80
"""Lines that are paired with each other: the best ones."""

PAIRS = 600
"""Couplets that are compared with the lines in use: the best ones."""

FORMS = tuple(
    tuple(({"V": "verse", "C": "chorus", "B": "bridge"}[part[0]], int(part[1])) for part in form.split())
    for form in (
        "V4 C4 V4 C4 V4 C4 B4 C4 V4 C4",
        "V4 C4 V4 C4 B4 C4 V4 C4",
        "V4 C4 V4 C4 B2 C4",
        "V4 C4 V4 C4",
        "V4 C2 V4 C2",
        "V4 C4",
        "V4 C2",
        "V2 C2",
        "V2",
    )
)
"""Sections with their numbers of lines, longest song first."""


class Couplet(NamedTuple):
    """value: of both lines, their rhyme, and how well the second follows the first."""

    first: CandidateLine
    second: CandidateLine
    value: float


class _Ending(NamedTuple):
    """A last word for a line. cost: subtracted from the couplet's value; 0 for the line's own last word."""

    word: str
    cost: float


def form_for(seconds: float) -> list[tuple[str, int]]:
    """Return the sections (verse, chorus, bridge) of a song with their numbers of lines.

    A line takes about 4 s, intro and ending together 4 s. A form has at most four verses; a longer song repeats them.
    """
    fitting = (form for form in FORMS if 4 * sum(count for _, count in form) + 4 <= seconds)
    return list(next(fitting, FORMS[-1]))


def best_couplets(
    lines: Sequence[CandidateLine],
    count: int,
    *,
    bonus: Callable[[CandidateLine], float] = lambda _: 0.0,
    used: Sequence[CandidateLine] = (),
    allow_ending: Callable[[CandidateLine, str], bool] = lambda _line, _word: True,
) -> list[Couplet]:
    """Return the `count` best pairs of lines that don't overlap, best first; fewer if there are not as many.

    A line gets another last word if it rhymes then. bonus: added to a line's value. used: lines of other sections.
    allow_ending: whether a line may end in a word.
    """
    free = [line for line in lines if not any(_overlap(line, other) for other in used)]
    pool = [replace(line, value=line.value + bonus(line)) for line in free]
    pool = sorted(pool, key=lambda line: (-line.value, line.text))[:POOL]
    endings = [_endings(line, allow_ending) for line in pool]
    found: list[tuple[float, int, int, str, str]] = []
    for i, a in enumerate(pool):
        for j, b in enumerate(pool):
            rhymes = _rhymes(a, b, endings[i], endings[j]) if i != j and not _overlap(a, b) else []
            if rhymes:
                value, first, second = max(rhymes)
                found.append((a.value + b.value + _continuity(a, b) + value, i, j, first, second))
    found.sort(key=lambda pair: (-pair[0], *pair[1:]))
    pairs = [Couplet(with_ending(pool[i], x), with_ending(pool[j], y), value) for value, i, j, x, y in found[:PAIRS]]
    chosen: list[Couplet] = []
    while pairs and len(chosen) < count:
        known = [*used, *(line for couplet in chosen for line in couplet[:2])]
        chosen.append(_freshest(pairs, known))
        pairs = [pair for pair in pairs if not any(_overlap(a, b) for a in pair[:2] for b in chosen[-1][:2])]
    return chosen


def _endings(line: CandidateLine, allow_ending: Callable[[CandidateLine, str], bool]) -> dict[tuple[str, ...], _Ending]:
    """Return the cheapest last word for each family of rhymes."""
    found: dict[tuple[str, ...], _Ending] = {}
    for word, drop in ((line.words[-1], 0.0), *line.endings):
        cost = 0.2 + 0.2 * max(0.0, drop) if word != line.words[-1] else 0.0
        for family in rhyme_families(word) if allow_ending(line, word) else ():
            if family not in found or cost < found[family].cost:
                found[family] = _Ending(word, cost)
    return found


def _rhymes(
    a: CandidateLine,
    b: CandidateLine,
    a_endings: dict[tuple[str, ...], _Ending],
    b_endings: dict[tuple[str, ...], _Ending],
) -> list[tuple[float, str, str]]:
    """Return pairs of last words with their values: the lines' own words, and all pairs of a common family."""
    pairs = [(_Ending(a.words[-1], 0.0), _Ending(b.words[-1], 0.0))]
    pairs += [(a_endings[family], b_endings[family]) for family in a_endings.keys() & b_endings.keys()]
    return [
        (RHYME * rhyme(one.word, other.word) - one.cost - other.cost, one.word, other.word)
        for one, other in pairs
        if stem(one.word) != stem(other.word)
    ]


def _continuity(a: CandidateLine, b: CandidateLine) -> float:
    """Return how well b follows a, rhyme apart."""
    value = -0.2 * max(0, abs(a.syllables - b.syllables) - 1)
    if a.sample == b.sample:
        gap = b.start - a.end
        value += 0.6 if gap == 1 else 0.3 if 0 < gap <= 4 else -0.3 if gap < 0 else 0.0
    value -= 0.25 * len(a.persons ^ b.persons)
    if not a.opens:
        value -= 0.8  # a fragment may follow another line, but should not begin a couplet
    if not b.opens and not (a.sample == b.sample and b.start == a.end + 1):
        value -= 0.3
    if a.words[:2] == b.words[:2]:
        value -= 0.8
    return value


def _freshest(pairs: Sequence[Couplet], used: Sequence[CandidateLine]) -> Couplet:
    """Return the best couplet, after a penalty for words, beginnings and endings that `used` has already."""
    stems = frozenset[str]().union(*(line.stems for line in used))
    ends = {line.words[-1] for line in used}
    begins = {line.words[:2] for line in used}
    persons = frozenset[str]().union(*(line.persons for line in used))

    def freshness(pair: Couplet) -> float:
        penalty = 0.0
        for line in pair[:2]:
            penalty += 0.4 * len(line.stems & stems) + (line.words[-1] in ends) + 0.4 * (line.words[:2] in begins)
        if used:
            penalty += 0.3 * len((pair.first.persons | pair.second.persons) - persons)
        return pair.value - penalty

    return max(pairs, key=freshness)


def _overlap(a: CandidateLine, b: CandidateLine) -> bool:
    """Return whether both lines were cut from the same place or share most of their words."""
    if a.sample == b.sample and a.start <= b.end and b.start <= a.end:
        return True
    enough = max(1, min(2, len(a.stems) - 1, len(b.stems) - 1))
    return len(a.stems & b.stems) >= enough or a.words[:-1] == b.words[:-1]
