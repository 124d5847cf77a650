"""Voicings: which octave each note of a chord lies in, so that chords lead into each other smoothly.

Owns voice-leading. Which instrument plays a voicing, and in which rhythm, is `accompaniment.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from harmonia_lab.music.composing.setting import Harmony

__all__ = ["voice_lead"]


def voice_lead(chords: Sequence[Harmony], low: int, high: int, voices: int) -> list[tuple[int, ...]]:
    """A voicing for each chord, lowest note first, in [low, high]: the nearest to the one before.

    Parallel fifths and octaves between the top voice and the root below it are avoided where another inversion lies
    near. Fewer voices than tones leave the fifth out; more of them double the root.
    """
    found: list[tuple[int, ...]] = []
    centre = (low + high) / 2
    previous: Harmony | None = None
    for chord in chords:
        tones = chord.pitch_classes
        options = _voicings(tones, low, high, voices)
        if previous is None:
            best = min(options, key=lambda v: (abs(sum(v) / len(v) - centre), v))
        else:
            last, before = found[-1], previous
            best = min(options, key=lambda v: (_distance(last, v, centre) + _parallels(before, chord, last, v), v))
        found.append(best)
        previous = chord
    return found


@lru_cache(maxsize=512)
def _voicings(tones: tuple[int, ...], low: int, high: int, voices: int) -> tuple[tuple[int, ...], ...]:
    """Close positions of every inversion, and the same with the second voice from the top dropped an octave."""
    if voices < len(tones):
        tones = (tones[0], tones[1], *tones[3:])[:voices] if len(tones) > 3 or voices < 3 else tones[:voices]
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
    assert found, (tones, low, high)
    return tuple(sorted(found))


def _distance(last: tuple[int, ...], voicing: tuple[int, ...], centre: float) -> float:
    moved = sum(abs(a - b) for a, b in zip(last, voicing, strict=False))
    return moved + 0.3 * abs(sum(voicing) / len(voicing) - centre)


def _parallels(before: Harmony, chord: Harmony, last: tuple[int, ...], voicing: tuple[int, ...]) -> float:
    intervals = ((last[-1] - before.root) % 12, (voicing[-1] - chord.root) % 12)
    moving = last[-1] != voicing[-1] and before.root != chord.root
    return 8.0 if moving and intervals[0] == intervals[1] and intervals[0] in (0, 7) else 0.0
