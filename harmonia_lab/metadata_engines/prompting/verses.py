"""From candidate lines to a song's sections: which lines rhyme, which follow each other, how much text a song has.

Owns the form and the choice of couplets. Pure functions; the same lines give the same song.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from harmonia_lab.metadata_engines.prompting.lines import Line, with_ending
from harmonia_lab.metadata_engines.prompting.words import stem
from harmonia_lab.syllables import rhyme, rhyme_families

__all__ = ["Couplet", "best_couplets", "form_for"]

RHYME = 2.0
"""What a perfect rhyme is worth, in units of a line's value."""

POOL = 80
"""Lines that are paired with each other: the best ones."""

PAIRS = 600
"""Couplets that are compared with what is taken: the best ones."""


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
"""Sections with their number of lines, longest song first."""


class Couplet(NamedTuple):
    first: Line
    second: Line
    value: float


class _Ending(NamedTuple):
    """A last word that a line may have, and what it costs against the one that it has."""

    word: str
    cost: float


def form_for(seconds: float) -> list[tuple[str, int]]:
    """Sections (verse, chorus, bridge) with their number of lines.

    About a line in four seconds, after four seconds for intro and ending; more than four verses are not written, since
    a longer song repeats them.
    """
    for form in FORMS:
        if 4 * sum(count for _, count in form) + 4 <= seconds:
            return list(form)
    return list(FORMS[-1])


def best_couplets(
    lines: Sequence[Line],
    count: int,
    *,
    bonus: Callable[[Line], float] = lambda _: 0.0,
    taken: Sequence[Line] = (),
    may_sing: Callable[[Line, str], bool] = lambda _line, _word: True,
) -> list[Couplet]:
    """The `count` best pairs that share no line and say different things, best first; fewer where there are no more.

    A line may take another last word if it rhymes then. bonus: added to a line's value. taken: lines of other sections.
    may_sing: whether a line may have a certain last word.
    """
    free = [line for line in lines if not any(_alike(line, other) for other in taken)]
    pool = sorted((replace(line, value=line.value + bonus(line)) for line in free), key=lambda a: (-a.value, a.text))[
        :POOL
    ]
    endings = [_endings(line, may_sing) for line in pool]
    found: list[tuple[float, int, int, str, str]] = []
    for i, a in enumerate(pool):
        for j, b in enumerate(pool):
            if i != j and not _alike(a, b):
                together = a.value + b.value + _together(a, b)
                ways = list(_ways(a, b, endings[i], endings[j]))
                if ways:
                    value, first, second = max(ways)
                    found.append((together + value, i, j, first, second))
    found.sort(key=lambda way: (-way[0], *way[1:]))
    pairs = [Couplet(with_ending(pool[i], x), with_ending(pool[j], y), value) for value, i, j, x, y in found[:PAIRS]]
    chosen: list[Couplet] = []
    used = list(taken)
    while pairs and len(chosen) < count:
        old = _used(used)
        chosen.append(max(pairs, key=lambda pair: pair.value - _staleness(pair, old)))
        used += chosen[-1][:2]
        pairs = [pair for pair in pairs if not any(_alike(line, old) for line in pair[:2] for old in chosen[-1][:2])]
    return chosen


def _endings(line: Line, may_sing: Callable[[Line, str], bool]) -> dict[tuple[str, ...], _Ending]:
    """By family of rhymes, the cheapest last word."""
    found: dict[tuple[str, ...], _Ending] = {}
    for word, drop in ((line.words[-1], 0.0), *line.endings):
        if not may_sing(line, word):
            continue
        cost = 0.2 + 0.2 * max(0.0, drop) if word != line.words[-1] else 0.0
        for family in rhyme_families(word):
            if family not in found or cost < found[family].cost:
                found[family] = _Ending(word, cost)
    return found


def _ways(
    a: Line, b: Line, a_endings: dict[tuple[str, ...], _Ending], b_endings: dict[tuple[str, ...], _Ending]
) -> Iterator[tuple[float, str, str]]:
    """Pairs of last words with what they are worth: the own ones, and those that rhyme."""
    options = [(_Ending(a.words[-1], 0.0), _Ending(b.words[-1], 0.0))]
    options += [(a_endings[family], b_endings[family]) for family in a_endings.keys() & b_endings.keys()]
    for one, other in options:
        if stem(one.word) != stem(other.word):
            yield RHYME * rhyme(one.word, other.word) - one.cost - other.cost, one.word, other.word


def _together(a: Line, b: Line) -> float:
    """How well b follows a, rhyme apart."""
    value = -0.2 * max(0, abs(a.syllables - b.syllables) - 1)
    if a.sample == b.sample:
        gap = b.start - a.end
        value += 0.6 if gap == 1 else 0.3 if 0 < gap <= 4 else -0.3 if gap < 0 else 0.0
    value -= 0.25 * len(a.people ^ b.people)
    if not a.opens:
        value -= 0.8  # a fragment may follow, but not begin
    if not b.opens and not (a.sample == b.sample and b.start == a.end + 1):
        value -= 0.3
    if a.words[:2] == b.words[:2]:
        value -= 0.8
    return value


class _Used(NamedTuple):
    """What lines that are taken have said, ended on and begun with, and of whom they spoke."""

    stems: frozenset[str]
    ends: frozenset[str]
    begins: frozenset[tuple[str, ...]]
    people: frozenset[str]


def _used(lines: Sequence[Line]) -> _Used:
    return _Used(
        frozenset[str]().union(*(line.stems for line in lines)),
        frozenset(line.words[-1] for line in lines),
        frozenset(line.words[:2] for line in lines),
        frozenset[str]().union(*(line.people for line in lines)),
    )


def _staleness(pair: Couplet, used: _Used) -> float:
    value = 0.0
    for line in pair[:2]:
        value += (
            0.4 * len(line.stems & used.stems) + (line.words[-1] in used.ends) + 0.4 * (line.words[:2] in used.begins)
        )
    if used.ends:
        value += 0.3 * len((pair.first.people | pair.second.people) - used.people)
    return value


def _alike(a: Line, b: Line) -> bool:
    """Cut from the same place, or saying nearly the same."""
    if a.sample == b.sample and a.start <= b.end and b.start <= a.end:
        return True
    enough = max(1, min(2, len(a.stems) - 1, len(b.stems) - 1))
    return len(a.stems & b.stems) >= enough or a.words[:-1] == b.words[:-1]
