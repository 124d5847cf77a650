"""Rhythm of the melody: stressed syllables on strong beats, even spacing, a breath at the end.

Owns the onsets of syllables inside one phrase (not pitch, which is in `melody.py`).

The onsets are the cheapest path through a grid of slots (dynamic programming). Random costs, equal for all lines that
share a theme, make lines of a theme alike and seeds differ.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

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
    entry: float | None = None,
    room: float = 0.0,
) -> list[float]:
    """Return the onsets in beats from the phrase's start, strictly increasing, the last half a beat before its end.

    beats: length of the phrase. beat_s: seconds a beat. syncopation: 0 strict … 1 free of the beats. rng: equal for
    lines of the same theme. entry: the first onset, negative for a pickup, a multiple of 0.5; None leaves it free.
    room: beats at the phrase's end that are left to the next phrase's pickup.
    """
    count, first = len(stressed), entry or 0.0
    span = beats - room - first
    densest = (
        0.9 if beat_s < 0.6 else 0.75
    )  # share of the slots that have a syllable; fast sixteenths are a last resort
    grid = next((g for g in (0.5, 0.25, 0.125) if count <= densest * (span - 1) / g), 0.0625)
    slots = max(count, int((span - (1.0 if beats > 2 else 0.5)) / grid) + 1)
    liking = _liking(beats_per_bar, 0.35 + 1.3 * syncopation, rng)
    usable = slots / count
    ideal = max(1.0, min(usable, 0.45 / _coarse(beat_s) / grid, 1.5 / grid))
    lilt = rng.choice((1.0, 1.0, 1.5, 0.67))
    reach = max(2, math.ceil(min(3 * ideal, slots)))
    gaps = range(1, reach + 1)
    spacings = [[0.0, *(0.7 * math.log2(gap / (ideal * stretch)) ** 2 for gap in gaps)] for stretch in (lilt, 1 / lilt)]
    downbeat = next((i for i, flag in enumerate(stressed) if flag), 0) if first < 0 else -1

    def cost(syllable: int, slot: int) -> float:
        at = first + slot * grid
        weight = metric_weight(at, beats_per_bar)
        stress = (1.0 - syncopation * 0.6) * (1.0 - weight) if stressed[syllable] else 0.5 * weight
        last = 0.8 * (1.0 - weight) + 0.6 * max(0.0, 1.5 - span - first + at) if syllable == count - 1 else 0.0
        off_beat = 0.6 * (1.0 - syncopation) ** 2 * (at % 1 > 0)
        return stress + last + off_beat + liking(at) - 1.5 * (syllable == downbeat and at == 0)

    if entry is None:
        best = [cost(0, slot) + 0.35 * slot * grid if slot <= usable + 1 else math.inf for slot in range(slots)]
    else:
        best = [0.0, *[math.inf] * (slots - 1)]
    origins: list[list[int]] = []  # for each syllable after the first and its slot: the slot of the syllable before
    for syllable in range(1, count):
        now, origin = [math.inf] * slots, [0] * slots
        spacing = spacings[syllable % 2]
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
    return [first + at * grid for at in reversed(path)]


def _coarse(beat_s: float) -> float:
    """Return a beat's seconds in steps of a fifth, so that a slightly other tempo has the same rhythms."""
    return float(1.2 ** round(math.log(beat_s, 1.2)))


def _liking(beats_per_bar: int, strength: float, rng: random.Random) -> Callable[[float], float]:
    """Return a random cost for a beat of the phrase: two thirds of it come again in every bar, as a motif."""
    in_bar = [strength * 0.85 * rng.random() for _ in range(16 * beats_per_bar)]
    in_line = [strength * 0.45 * rng.random() for _ in range(256)]
    return lambda at: in_bar[int(at * 16) % len(in_bar)] + in_line[int(at * 16) % 256]


def invented_stresses(beats: float, beat_s: float, density: float, rng: random.Random) -> tuple[bool, ...]:
    """Return stresses of invented syllables for a phrase without words: 1.2 (density 0) to 2.2 (1) in a second."""
    count = max(1, min(int(beats * 1.5), round(beats * beat_s * (1.2 + density) * rng.uniform(0.85, 1.15))))
    return tuple(i % 2 == 0 or rng.random() < 0.25 for i in range(count))
