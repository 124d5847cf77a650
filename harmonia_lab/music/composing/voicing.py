"""Voicings: the octave of each note of a chord, chosen for smooth voice leading.

Owns voice leading (not who plays a voicing, and in which rhythm, which is in `accompaniment.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from harmonia_lab.music.plan import Chord

__all__ = ["voice_lead"]


def voice_lead(chords: Sequence[Chord], low: int, high: int, voices: int) -> list[tuple[int, ...]]:
    """Return a voicing for each chord, lowest note first, in [low, high]: the one nearest to the voicing before.

    Parallel fifths and octaves between the top voice and the root are avoided if another inversion is near. voices: 3,
    which leave out the fifth of a chord of four notes, or 4, which double a tone of a triad.
    """
    centre = (low + high) / 2
    first = _voicings(chords[0].pitch_classes, low, high, voices)
    found = [min(first, key=lambda v: (abs(sum(v) / len(v) - centre), v))]
    for before, chord in pairwise(chords):
        costs = {
            v: _distance(found[-1], v, centre) + _parallels(before, chord, found[-1], v)
            for v in _voicings(chord.pitch_classes, low, high, voices)
        }
        found.append(min(costs, key=lambda v: (costs[v], v)))
    return found


@lru_cache(maxsize=512)
def _voicings(tones: tuple[int, ...], low: int, high: int, voices: int) -> tuple[tuple[int, ...], ...]:
    """Return the close position of every inversion, and its drop-2 form (second voice from the top an octave lower)."""
    if voices < len(tones):
        tones = (*tones[:2], tones[3])
    found = set()
    for bottom in range(low, high + 1):
        if bottom % 12 not in tones:
            continue
        stack = [bottom]
        while len(stack) < voices:
            stack.append(next(p for p in range(stack[-1] + 1, stack[-1] + 13) if p % 12 in tones))
        dropped = sorted((*stack[:-2], stack[-2] - 12, stack[-1]))
        found |= {
            tuple(v) for v in (stack, dropped) if v[0] >= low and v[-1] <= high and set(tones) <= {p % 12 for p in v}
        }
    return tuple(sorted(found))


def _distance(last: tuple[int, ...], voicing: tuple[int, ...], centre: float) -> float:
    moved = sum(abs(a - b) for a, b in zip(last, voicing, strict=False))
    return moved + 0.3 * abs(sum(voicing) / len(voicing) - centre)


def _parallels(before: Chord, chord: Chord, last: tuple[int, ...], voicing: tuple[int, ...]) -> float:
    intervals = ((last[-1] - before.root) % 12, (voicing[-1] - chord.root) % 12)
    moving = last[-1] != voicing[-1] and before.root != chord.root
    return 8.0 if moving and intervals[0] == intervals[1] and intervals[0] in (0, 7) else 0.0
