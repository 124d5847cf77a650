"""From candidate lines to a song's sections: which lines rhyme, which follow each other, how much text a song has.

Owns the form and the choice of couplets. Pure functions; the same lines give the same song.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harmonia_lab.engines.prompting.lines import Line
from harmonia_lab.engines.prompting.wording import content_stems, persons
from harmonia_lab.syllables import rhyme, rhyme_families

__all__ = ["Couplet", "best_couplets", "form_for"]


class Couplet(NamedTuple):
    first: Line
    second: Line
    value: float


def form_for(seconds: float) -> list[tuple[str, int]]:
    """Sections with their number of lines: about a line in four seconds, after four seconds of intro and ending."""
    lines = (seconds - 4) / 4
    for least, form in (
        (36, "V4 C4 V4 C4 V4 C4 B4 C4 V4 C4"),
        (28, "V4 C4 V4 C4 B4 C4 V4 C4"),
        (22, "V4 C4 V4 C4 B2 C4"),
        (16, "V4 C4 V4 C4"),
        (12, "V4 C2 V4 C2"),
        (8, "V4 C4"),
        (6, "V4 C2"),
        (3, "V2 C2"),
        (2, "V2"),
    ):
        if lines >= least:
            return [(part[0], int(part[1])) for part in form.split()]
    return [("V", 2)]


def best_couplets(lines: Sequence[Line], count: int, *, taken: Sequence[Line] = ()) -> list[Couplet]:
    """The `count` best pairs that share no line and say different things, best first."""
    pool = sorted(lines, key=lambda line: (-line.value, line.text))
    families: dict[tuple[str, ...], list[Line]] = {}
    for line in pool:
        for family in rhyme_families(line.words[-1]):
            families.setdefault(family, []).append(line)
    candidates = {(id(a), id(b)): (a, b) for group in families.values() for a in group for b in group}
    best = [line for line in pool if line.endings or line.value > 0][:60]
    candidates |= {(id(a), id(b)): (a, b) for a in best for b in best}
    pairs = [Couplet(a, b, a.value + b.value + _together(a, b)) for a, b in candidates.values() if not _overlap(a, b)]
    pairs.sort(key=lambda pair: (-pair.value, pair.first.text, pair.second.text))
    del pairs[4000:]
    chosen: list[Couplet] = []
    used = list(taken)
    while len(chosen) < count:
        pairs = [pair for pair in pairs if not any(_overlap(line, old) for line in pair[:2] for old in used)]
        if not pairs:
            break
        chosen.append(max(pairs, key=lambda pair: pair.value - _staleness(pair, used)))
        used += chosen[-1][:2]
    return chosen


def _together(a: Line, b: Line) -> float:
    value = 1.4 * rhyme(a.words[-1], b.words[-1])
    value -= 0.2 * max(0, abs(a.syllables - b.syllables) - 1)
    if a.sample == b.sample:
        gap = b.start - a.end
        value += 0.6 if gap == 1 else 0.3 if 0 < gap <= 4 else -0.3 if gap < 0 else 0.0
    who = persons(a.text) ^ persons(b.text)
    value -= 0.25 * len(who)
    if a.words[:2] == b.words[:2]:
        value -= 0.3
    return value


def _staleness(pair: Couplet, used: Sequence[Line]) -> float:
    old = {stem for line in used for stem in content_stems(line.text)}
    new = content_stems(pair.first.text) + content_stems(pair.second.text)
    ends = {line.words[-1] for line in used}
    return 0.5 * sum(stem in old for stem in new) + 1.0 * sum(line.words[-1] in ends for line in pair[:2])


def _overlap(a: Line, b: Line) -> bool:
    """Cut from the same place, or saying nearly the same."""
    if a.sample == b.sample and a.start <= b.end and b.start <= a.end:
        return True
    one, other = set(content_stems(a.text)), set(content_stems(b.text))
    return a.words[-1] == b.words[-1] or len(one & other) >= max(2, min(len(one), len(other)))
