"""When the syllables of a line are sung: stressed ones on strong beats, even spacing, a breath at the end.

Owns the placing of onsets inside one phrase. Pitch is `melody.py`.

The onsets are the cheapest path through a grid of slots (dynamic programming). A table of random costs, the same for
all lines that share a theme, makes its rhythm recognisable and lets seeds differ.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

__all__ = ["invented_stresses", "metric_weight", "place_syllables"]


def metric_weight(beat: float, beats_per_bar: int) -> float:
    """1 on the first beat of a bar … 0 off the sixteenths. beat: from any bar line."""
    position = beat % beats_per_bar
    if position < 1e-6 or beats_per_bar - position < 1e-6:
        return 1.0
    if abs(position - round(position)) < 1e-6:
        return 0.8 if beats_per_bar == 4 and round(position) == 2 else 0.55
    eighth = position * 2
    return 0.25 if abs(eighth - round(eighth)) < 1e-6 else 0.05


def place_syllables(
    stressed: Sequence[bool],
    beats: float,
    *,
    beats_per_bar: int,
    pace: float,
    syncopation: float,
    theme: random.Random,
) -> list[float]:
    """The onsets in beats from the phrase's start, strictly growing, the last at least half a beat before its end.

    beats: length of the phrase. pace: seconds a beat. syncopation: 0 keeps to the beats, 1 doesn't mind missing them.
    theme: random numbers that lines of the same theme share.
    """
    count = len(stressed)
    grid = next((g for g in (0.5, 0.25, 0.125) if count <= 0.75 * (beats - 1) / g), 0.0625)
    slots = max(count, int((beats - (1.0 if beats > 2 else 0.5)) / grid) + 1)
    noise = [(0.35 + 1.3 * syncopation) * theme.random() for _ in range(256)]
    usable = slots / count
    ideal = max(1.0, min(usable, 0.45 / pace / grid, 1.5 / grid))
    reach = max(2, math.ceil(min(3 * ideal, slots)))
    spacing = [0.0] + [0.7 * math.log2(gap / ideal) ** 2 for gap in range(1, reach + 1)]

    def cost(syllable: int, slot: int) -> float:
        weight = metric_weight(slot * grid, beats_per_bar)
        wish = (1.0 - syncopation * 0.6) * (1.0 - weight) if stressed[syllable] else 0.5 * weight
        last = 0.8 * (1.0 - weight) if syllable == count - 1 else 0.0
        return wish + last + noise[int(slot * grid * 16) % 256]

    best = [cost(0, slot) + 0.35 * slot * grid if slot <= usable + 1 else math.inf for slot in range(slots)]
    came: list[list[int]] = []
    for syllable in range(1, count):
        now, origin = [math.inf] * slots, [0] * slots
        for slot in range(syllable, slots):
            options = [(best[slot - gap] + spacing[gap], slot - gap) for gap in range(1, min(reach, slot) + 1)]
            least, at = min(options)
            now[slot], origin[slot] = least + cost(syllable, slot), at
        best = now
        came.append(origin)
    slot = min(range(slots), key=best.__getitem__)
    path = [slot]
    for origin in reversed(came):
        slot = origin[slot]
        path.append(slot)
    return [at * grid for at in reversed(path)]


def invented_stresses(beats: float, pace: float, lively: float, theme: random.Random) -> tuple[bool, ...]:
    """Syllables for a phrase without words: about one in 0.5 s, more when lively (0…1), as a singer would scat them."""
    count = max(1, min(int(beats * 1.5), round(beats * pace * (1.2 + lively) * theme.uniform(0.85, 1.15))))
    return tuple(i % 2 == 0 or theme.random() < 0.25 for i in range(count))
