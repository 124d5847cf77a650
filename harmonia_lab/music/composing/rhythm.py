"""Rhythm of the melody: stressed syllables on strong beats, even spacing, a breath at the end.

Owns the onsets of syllables inside one phrase (not pitch, which is in `melody.py`).

The onsets are the cheapest path through a grid of slots (dynamic programming). Random costs, equal for all lines that
share a theme, make lines of a theme alike and seeds differ.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

__all__ = ["invented_stresses", "metric_weight", "place_syllables"]


def metric_weight(beat: float, beats_per_bar: int) -> float:
    """Return the metric weight: 1 on the first beat of a bar … 0.05 off the eighths. beat: from any bar line."""
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
    beat_s: float,
    syncopation: float,
    rng: random.Random,
) -> list[float]:
    """Return the onsets in beats from the phrase's start, strictly increasing, the last half a beat before its end.

    beats: length of the phrase. beat_s: seconds a beat. syncopation: 0 strict … 1 free of the beats. rng: equal for
    lines of the same theme.
    """
    count = len(stressed)
    grid = next((g for g in (0.5, 0.25, 0.125) if count <= 0.75 * (beats - 1) / g), 0.0625)
    slots = max(count, int((beats - (1.0 if beats > 2 else 0.5)) / grid) + 1)
    noise = [(0.35 + 1.3 * syncopation) * rng.random() for _ in range(256)]
    usable = slots / count
    ideal = max(1.0, min(usable, 0.45 / beat_s / grid, 1.5 / grid))
    reach = max(2, math.ceil(min(3 * ideal, slots)))
    spacing = [0.0] + [0.7 * math.log2(gap / ideal) ** 2 for gap in range(1, reach + 1)]

    def cost(syllable: int, slot: int) -> float:
        weight = metric_weight(slot * grid, beats_per_bar)
        stress = (1.0 - syncopation * 0.6) * (1.0 - weight) if stressed[syllable] else 0.5 * weight
        last = 0.8 * (1.0 - weight) if syllable == count - 1 else 0.0
        return stress + last + noise[int(slot * grid * 16) % 256]

    best = [cost(0, slot) + 0.35 * slot * grid if slot <= usable + 1 else math.inf for slot in range(slots)]
    origins: list[list[int]] = []  # for each syllable after the first and its slot: the slot of the syllable before
    for syllable in range(1, count):
        now, origin = [math.inf] * slots, [0] * slots
        for slot in range(syllable, slots):
            options = [(best[slot - gap] + spacing[gap], slot - gap) for gap in range(1, min(reach, slot) + 1)]
            least, at = min(options)
            now[slot], origin[slot] = least + cost(syllable, slot), at
        best = now
        origins.append(origin)
    slot = min(range(slots), key=best.__getitem__)
    path = [slot]
    for origin in reversed(origins):
        slot = origin[slot]
        path.append(slot)
    return [at * grid for at in reversed(path)]


def invented_stresses(beats: float, beat_s: float, density: float, rng: random.Random) -> tuple[bool, ...]:
    """Return stresses of invented syllables for a phrase without words: 1.2 (density 0) to 2.2 (1) in a second."""
    count = max(1, min(int(beats * 1.5), round(beats * beat_s * (1.2 + density) * rng.uniform(0.85, 1.15))))
    return tuple(i % 2 == 0 or rng.random() < 0.25 for i in range(count))
