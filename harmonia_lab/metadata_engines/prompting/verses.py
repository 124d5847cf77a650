"""The form of a song, and the choice of couplets for its sections from candidate lines.

Owns how much text a song of a given length has, and which lines rhyme and follow each other (not the score of a single
line: `lines.py`). Pure functions.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from harmonia_lab.metadata_engines.prompting.lines import TARGET_SYLLABLES, CandidateLine
from harmonia_lab.metadata_engines.prompting.words import FUNCTION_WORDS, stem
from harmonia_lab.music.composing.form import lay_out
from harmonia_lab.protocol.models import LyricSection
from harmonia_lab.syllables import rhyme, rhyme_families

__all__ = ["Couplet", "best_couplets", "form_for", "unsung", "usual_form"]

RHYME = 4.0
"""Value of a perfect rhyme, in units of `CandidateLine.value`."""

RHYME_VALUES = {1.0: 1.0, 0.5: 0.75, 0.0: 0.0}
"""By `syllables.rhyme`: what a near rhyme is worth of a perfect one."""

MOST_APART = 2
"""Syllables by which two lines may differ and still be sung to one phrase."""

RHYMED = 24
"""Lines of one family of rhymes that are paired with each other, or of those that need not rhyme: the best ones."""

VARIANTS = 2
"""Lines from one place of a sample among them."""

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
        "V2 C2 V2 C2",
        "V4 C2",
        "V2 C2",
        "V2",
    )
)
"""Sections with their numbers of lines, longest song first."""

SHORT_SYLLABLES = 6
"""Syllables of a line where the usual number would take too many bars."""


class Couplet(NamedTuple):
    """value: of both lines, their rhyme, and how well the second follows the first."""

    first: CandidateLine
    second: CandidateLine
    value: float


def form_for(seconds: float, bar_seconds: float) -> tuple[list[tuple[str, int]], int]:
    """Return the sections (verse, chorus, bridge) of a song with their numbers of lines, and the syllables of a line.

    It is the longest form of which every line is sung, where a line takes at least 4 s, intro and ending together 4 s.
    bar_seconds: of the music, whose tempo decides how many bars a line takes, and so how many lines fit; shorter lines
    may take one bar instead of two. A form has at most four verses; a longer song repeats them.
    """
    for form in _fitting(seconds):
        for syllables in (TARGET_SYLLABLES, SHORT_SYLLABLES):
            if _is_sung(form, syllables, seconds, bar_seconds):
                return list(form), syllables
    return list(FORMS[-1]), TARGET_SYLLABLES


def usual_form(seconds: float) -> list[tuple[str, int]]:
    """Return the form of a song whose tempo isn't known: the longest with 4 s a line, and 4 s more."""
    return list(_fitting(seconds)[0])


def _fitting(seconds: float) -> Sequence[tuple[tuple[str, int], ...]]:
    return [form for form in FORMS if 4 * sum(count for _, count in form) + 4 <= seconds] or FORMS[-1:]


def _is_sung(form: Sequence[tuple[str, int]], syllables: int, seconds: float, bar_seconds: float) -> bool:
    words = " ".join(["la"] * syllables)
    sections = []
    for index, (kind, count) in enumerate(form):
        mark = 0 if kind == "chorus" else index + 1  # figures have no syllables, but make a line another one
        sections.append(LyricSection(kind, tuple(f"{words} {number}.{mark}" for number in range(count))))
    return not unsung(sections, seconds, bar_seconds)


def unsung(sections: Sequence[LyricSection], seconds: float, bar_seconds: float) -> set[str]:
    """Return the lines for which a song of this length and tempo has no room."""
    sung = {
        phrase.line.text
        for section in lay_out(sections, bar_seconds, seconds).sections
        for phrase in section.phrases
        if phrase.line
    }
    return {line for section in sections for line in section.lines} - sung


def best_couplets(
    lines: Sequence[CandidateLine],
    count: int,
    *,
    bonus: Callable[[CandidateLine], float] = lambda _: 0.0,
    used: Sequence[CandidateLine] = (),
    names: frozenset[str] = frozenset(),
) -> list[Couplet]:
    """Return the `count` best pairs of lines that don't overlap, best first; fewer if there are not as many.

    bonus: added to a line's value. used: lines of other sections. names: stems, of which one line at least should have
    one.
    """
    free = [line for line in lines if not any(_overlap(line, other) for other in used)]
    pool = sorted((replace(line, value=line.value + bonus(line)) for line in free), key=lambda x: (-x.value, x.text))
    families: dict[tuple[str, ...], list[CandidateLine]] = {}
    for line in pool:
        for family in sorted(rhyme_families(line.words[-1])):
            families.setdefault(family, []).append(line)
    plain = [line for line in pool if not line.swapped]
    pairs = [pair for group in (*families.values(), plain) for pair in _pairs(_varied(group)[:RHYMED])]
    pairs.sort(key=lambda pair: (-pair.value, pair.first.text, pair.second.text))
    pairs = pairs[:PAIRS]
    chosen: list[Couplet] = []
    while pairs and len(chosen) < count:
        known = [*used, *(line for couplet in chosen for line in couplet[:2])]
        chosen.append(_freshest(pairs, known, names))
        pairs = [pair for pair in pairs if not any(_overlap(a, b) for a in pair[:2] for b in chosen[-1][:2])]
    return chosen


def _varied(group: Iterable[CandidateLine]) -> list[CandidateLine]:
    """Return the lines, but only the first few that were cut from one place."""
    seen = Counter[tuple[int, int]]()
    kept = []
    for line in group:
        seen[line.sample, line.start] += 1
        if seen[line.sample, line.start] <= VARIANTS:
            kept.append(line)
    return kept


def _pairs(group: Sequence[CandidateLine]) -> Iterator[Couplet]:
    """Yield the pairs of lines that can follow each other."""
    for a, b in itertools.permutations(group, 2):
        if stem(a.words[-1]) != stem(b.words[-1]) and not _overlap(a, b):
            rhymes = RHYME * RHYME_VALUES[rhyme(a.words[-1], b.words[-1])]
            yield Couplet(a, b, a.value + b.value + rhymes + _continuity(a, b))


def _continuity(a: CandidateLine, b: CandidateLine) -> float:
    """Return how well b follows a, rhyme apart."""
    apart = abs(a.syllables - b.syllables)
    value = -0.2 * max(0, apart - 1) - 1.5 * (apart > MOST_APART)
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
    elif a.words[0] == b.words[0] and a.words[0] not in FUNCTION_WORDS:
        value -= 0.5
    return value


def _freshest(pairs: Sequence[Couplet], used: Sequence[CandidateLine], names: frozenset[str]) -> Couplet:
    """Return the best couplet, after a penalty for words, beginnings and endings that `used` has already.

    A name that no line in use has adds to the value.
    """
    stems = frozenset[str]().union(*(line.stems for line in used))
    ends = {line.words[-1] for line in used}
    begins = {line.words[:2] for line in used}
    persons = frozenset[str]().union(*(line.persons for line in used))
    missing = names if names.isdisjoint(stems) else frozenset()

    def freshness(pair: Couplet) -> float:
        both = pair.first.stems | pair.second.stems
        penalty = 0.0
        for line in pair[:2]:
            penalty += 0.4 * len(line.stems & stems) + (line.words[-1] in ends) + 0.4 * (line.words[:2] in begins)
            penalty += 0.5 * (line.words[0] not in FUNCTION_WORDS and line.words[0] in {first for first, *_ in begins})
        if used:
            penalty += 0.3 * len((pair.first.persons | pair.second.persons) - persons)
        return pair.value - penalty + 2.0 * bool(both & missing)

    return max(pairs, key=freshness)


def _overlap(a: CandidateLine, b: CandidateLine) -> bool:
    """Return whether both lines were cut from the same place or share most of their words."""
    if a.sample == b.sample and a.start <= b.end and b.start <= a.end:
        return True
    enough = max(1, min(2, len(a.stems) - 1, len(b.stems) - 1))
    return len(a.stems & b.stems) >= enough or a.words[:-1] == b.words[:-1]
