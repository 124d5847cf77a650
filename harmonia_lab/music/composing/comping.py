"""Comping patterns: in which rhythm, and with which notes of the voicing, a chord instrument plays.

Owns the table (`GenreStyle.comping` names its rows), and which pattern goes with which; `accompaniment.py` plays them.
The figures are those that handbooks name: Alberti bass, Travis picking, boom-chick, skank, Charleston rhythm, Freddie
Green's four in the bar, tresillo, gallop, partido alto, oom-pah-pah.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

__all__ = ["COMPING", "SECOND_COMPING", "VoicingPart"]

VoicingPart = Literal["all", "low", "upper"] | int
ChordHit = tuple[float, float, VoicingPart, float]
"""Beat in the bar, length in beats, which notes of the voicing (a number is an index into it, and wraps round an octave
higher), accent."""

Bars = tuple[tuple[ChordHit, ...], ...]
"""Bars, played one after the other and then again from the first."""


def _run(indices: Sequence[int], step: float, length: float) -> tuple[ChordHit, ...]:
    """Return an arpeggio: the voicing's notes at `indices`, one every `step` beats, each lasting `length` beats."""
    return tuple((i * step, length, index, 4.0 if i * step % 2 == 0 else -4.0) for i, index in enumerate(indices))


def _chug(length: float, part: VoicingPart) -> tuple[ChordHit, ...]:
    """Return a bar of repeated eighths, each lasting `length` beats, accented on the beats."""
    return tuple((i / 2, length, part, 4.0 if i % 2 == 0 else -7.0) for i in range(8))


COMPING: dict[str, tuple[Bars, Bars]] = {
    "push": (
        (((0, 1.9, "all", 0), (2, 1.9, "all", -3)), ((0, 1.4, "all", 0), (1.5, 2.3, "all", -2))),
        (
            ((0, 0.9, "all", 4), (1, 0.45, "upper", -6), (1.5, 1.4, "all", 2), (3, 0.9, "upper", -3)),
            ((0, 0.9, "all", 4), (1, 0.9, "upper", -5), (2, 0.9, "all", 1), (3, 0.45, "upper", -5),
             (3.5, 0.45, "all", 2)),
        ),
    ),
    "eighths": ((_chug(0.3, "low"),), (_chug(0.45, "all"),)),
    "fingerpick": (
        (_run((0, 2, 1, 2, 0, 3, 1, 2), 0.5, 0.9), _run((0, 2, 1, 3, 0, 2, 1, 2), 0.5, 0.9)),
        (
            (*_run((0, 2, 1, 3, 0, 2, 1, 3), 0.5, 0.9), (0, 1.8, 3, 2), (2, 1.8, 3, 0)),
            (*_run((0, 3, 1, 2, 0, 3, 2, 1), 0.5, 0.9), (0, 1.8, 2, 2), (2, 1.8, 2, 0)),
        ),
    ),
    "boom chick": (
        (((0, 0.8, "low", 0), (1, 0.5, "upper", -2), (2, 0.8, "low", -3), (3, 0.5, "upper", -2)),),
        (
            ((0, 0.8, "low", 2), (1, 0.4, "upper", 0), (1.5, 0.3, "upper", -9), (2, 0.8, "low", 0),
             (3, 0.4, "upper", 0)),
            ((0, 0.8, "low", 2), (1, 0.4, "upper", 0), (2, 0.8, "low", 0), (3, 0.4, "upper", 0),
             (3.5, 0.3, "upper", -8)),
        ),
    ),
    "charleston": (
        (((0, 0.9, "all", 0), (1.5, 0.5, "all", -2)), ((1.5, 0.5, "all", -1), (3, 0.6, "all", -4)),
         ((0, 2.4, "all", -2),)),
        (
            ((0, 0.6, "all", 3), (1.5, 0.8, "all", 0), (3.5, 0.4, "all", 0)),
            ((0.5, 0.4, "all", 0), (2, 0.6, "all", 2), (3.5, 0.4, "all", -2)),
            ((0, 0.6, "all", 2), (1.5, 1.2, "all", 0), (3, 0.5, "all", -3)),
        ),
    ),
    "shuffle": (
        (((0, 0.9, "all", 0), (1, 0.4, "upper", -5), (2, 0.9, "all", -2), (3, 0.4, "upper", -5),
         (3.5, 0.4, "upper", -8)),),
        (_chug(0.42, "all"), ((0, 0.4, "all", 4), (1, 0.4, "all", 0), (1.5, 0.4, "all", -4),
         (2.5, 1.2, "all", 2))),
    ),
    "arpeggio": (
        (_run((0, 1, 2, 3, 2, 1, 2, 3), 0.5, 0.6),),
        (_run((0, 2, 1, 3, 2, 4, 3, 2), 0.5, 0.6), _run((0, 2, 1, 3, 4, 3, 2, 1), 0.5, 0.6)),
    ),
    "offbeat": (
        (tuple((beat + 0.5, 0.4, "all", 0) for beat in range(4)),),
        (
            ((0, 0.3, "all", 2), (0.75, 0.3, "all", -2), (1.5, 0.4, "all", 2), (2.5, 0.4, "all", 0),
             (3.5, 0.4, "all", 0)),
            ((0.5, 0.4, "all", 2), (1.5, 0.4, "all", 0), (2.25, 0.3, "all", -2), (2.75, 0.3, "all", 0),
             (3.5, 0.4, "all", 1)),
        ),
    ),
    "broken": (
        (((0, 4, 0, 4), (1, 3, 2, -2), (2, 2, 1, 2), (3, 1.5, 3, -2)),),
        (_run((0, 1, 2, 3, 4, 3, 2, 1), 0.5, 1.5), _run((0, 2, 1, 3, 2, 4, 3, 2), 0.5, 1.5)),
    ),
    "stabs": (
        (((0, 1.6, "all", 0), (2.5, 1.2, "all", -3)),),
        (((0, 1.2, "all", 3), (1.75, 0.5, "all", -3), (2.5, 1.2, "all", 1)),
         ((0, 1.5, "all", 3), (2.5, 0.4, "all", 0), (3.25, 0.5, "all", -2))),
    ),
    "alberti": (
        (_run((0, 2, 1, 2, 0, 2, 1, 2), 0.5, 0.5),),
        ((*_run((0, 2, 1, 2, 0, 2, 1, 2), 0.5, 0.5), (0, 0.9, 3, 3), (2, 0.9, 3, 0)),),
    ),
    "power": (
        (((0, 3.8, "all", 3),), ((0, 1.8, "all", 3), (2, 0.9, "all", 0), (3, 0.9, "all", 0))),
        (
            ((0, 0.9, "all", 6), *((1 + i * 0.5, 0.35, "low", -1) for i in range(6))),
            (*((i * 0.5, 0.35, "low", 0) for i in range(5)), (2.5, 0.9, "all", 5), (3.5, 0.4, "low", 0)),
        ),
    ),
    "bossa": (
        (
            ((0, 1.4, "all", 3), (2, 0.9, "low", 0), (2.5, 0.5, "upper", -3), (3.5, 0.5, "upper", -2)),
            ((0, 0.9, "low", 2), (1, 0.9, "upper", -2), (2, 0.9, "low", 0), (3.5, 0.5, "upper", -2)),
        ),
        (
            ((0, 0.6, "all", 4), (1, 0.4, "upper", -1), (2, 0.9, "low", 3), (2.5, 0.5, "upper", -2),
             (3.5, 0.5, "upper", -1)),
            ((0, 0.9, "low", 4), (1, 0.6, "upper", 0), (2, 0.9, "all", 3), (3, 0.4, "upper", -1),
             (3.5, 0.5, "upper", -2)),
        ),
    ),
    "skank": (
        (((1, 0.3, "all", 2), (3, 0.3, "all", 2)),),
        (((1, 0.3, "all", 3), (1.5, 0.2, "all", -8), (3, 0.3, "all", 3), (3.5, 0.2, "all", -8)),),
    ),
    "oom pah": (
        (((1, 0.6, "upper", 0), (2, 0.6, "upper", -2)),),
        (((0, 0.8, "low", 2), (1, 0.6, "upper", 1), (2, 0.6, "upper", -1)), (*_run((0, 1, 2, 3, 2, 1), 0.5, 0.5),)),
    ),
    "ostinato": (
        (_run((0, 1, 2, 1, 0, 1, 2, 1), 0.5, 0.5),),
        (_run((0, 3, 1, 3, 0, 3, 2, 3), 0.5, 0.45), _run((0, 3, 1, 3, 2, 3, 1, 3), 0.5, 0.45)),
    ),
    "pulse": (
        (((0, 1.9, "all", 0), (2, 1.9, "all", -3)),),
        (tuple((beat, 0.9, "all", 4 if beat == 0 else -2) for beat in range(4)),),
    ),
    "tresillo": (
        (((0, 1.4, "all", 2), (1.5, 1.4, "upper", -2), (3, 0.9, "upper", -2)),),
        (
            ((0, 1.3, "all", 4), (1.5, 1.3, "all", 0), (3, 0.8, "all", 1)),
            ((0, 1.3, "all", 4), (1.5, 1.3, "all", 0), (3, 0.4, "upper", -2), (3.5, 0.4, "all", 1)),
        ),
    ),
    "travis": (
        (((0, 0.9, 0, 2), (0.5, 0.9, 2, -5), (1, 0.9, 1, 0), (1.5, 0.9, 3, -5), (2, 0.9, 0, 1), (3, 0.9, 1, 0),
          (3.5, 0.9, 2, -5)),),
        (
            ((0, 0.9, 0, 4), (0, 0.9, 3, 2), (1, 0.9, 1, 0), (1.5, 0.9, 2, -3), (2, 0.9, 0, 2), (2.5, 0.9, 3, -3),
             (3, 0.9, 1, 0), (3.5, 0.9, 2, -3)),
        ),
    ),
    "four in the bar": (
        (tuple((beat, 0.5, "all", 0 if beat % 2 else -5) for beat in range(4)),),
        (tuple((beat, 0.45, "all", 3 if beat % 2 else -2) for beat in range(4)),),
    ),
    "gallop": (
        (((0, 1.8, "all", 3), *((2 + at, 0.22, "low", -2) for at in (0, 0.5, 0.75, 1, 1.5, 1.75))),),
        (tuple((beat + at, length, "low", 4 if at == 0 else -4)
               for beat in range(4) for at, length in ((0, 0.45), (0.5, 0.2), (0.75, 0.2))),),
    ),
    "chug": (
        (((0, 1.8, "all", 4), (2, 0.4, "low", 0), (2.5, 0.4, "low", -3), (3, 0.9, "all", 1)),),
        (
            ((0, 0.4, "all", 6), (0.5, 0.3, "low", -2), (1, 0.3, "low", 0), (1.5, 0.4, "all", 4), (2, 0.3, "low", 0),
             (2.5, 0.3, "low", -2), (3, 0.4, "all", 4), (3.5, 0.3, "low", -2)),
        ),
    ),
    "bossa partido": (
        (((0, 0.9, "low", 2), (0.5, 0.9, "upper", -2), (2, 0.9, "low", 0), (3, 0.9, "upper", -2)),),
        (
            ((0, 0.4, "all", 3), (0.5, 0.9, "upper", 0), (2, 0.4, "low", 2), (2.5, 0.4, "upper", -1),
             (3.5, 0.5, "upper", 0)),
            ((0, 0.4, "low", 3), (1, 0.4, "upper", 0), (1.5, 0.4, "upper", -2), (2, 0.4, "low", 2),
             (3, 0.9, "upper", 0)),
        ),
    ),
    "skank bubble": (
        (((0.5, 0.2, "upper", -6), (1, 0.3, "all", 2), (2.5, 0.2, "upper", -6), (3, 0.3, "all", 2)),),
        (tuple((beat / 2, 0.22, "all" if beat in (2, 6) else "upper", 3 if beat in (2, 6) else -8)
               for beat in range(1, 8)),),
    ),
    "skank double": (
        (((1, 0.3, "all", 1), (3, 0.3, "all", 1)), ((1, 0.3, "all", 1), (3, 0.2, "all", 1), (3.5, 0.2, "all", -6))),
        (((1, 0.2, "all", 3), (1.25, 0.2, "upper", -6), (3, 0.2, "all", 3), (3.25, 0.2, "upper", -6)),),
    ),
    "waltz arpeggio": (
        (_run((0, 1, 2), 1.0, 1.2),),
        (_run((0, 1, 2, 3, 2, 1), 0.5, 0.8), _run((0, 2, 3, 2, 3, 1), 0.5, 0.8)),
    ),
    "waltz lilt": (
        (((0, 1.9, "all", 1), (2, 0.8, "upper", -4)),),
        (((0, 1.4, "all", 3), (1.5, 0.4, "upper", -6), (2, 0.8, "upper", -1)),
         ((0, 0.9, "low", 2), (1, 1.8, "upper", 0))),
    ),
}  # fmt: skip
"""Name → (light, full)."""

SECOND_COMPING = {
    "push": "arpeggio", "eighths": "arpeggio", "arpeggio": "push", "fingerpick": "push", "boom chick": "fingerpick",
    "charleston": "stabs", "shuffle": "stabs", "offbeat": "arpeggio", "broken": "stabs", "stabs": "arpeggio",
    "alberti": "push", "power": "eighths", "bossa": "stabs", "skank": "push", "oom pah": "waltz arpeggio",
    "ostinato": "push", "pulse": "arpeggio", "tresillo": "arpeggio", "travis": "pulse", "four in the bar": "charleston",
    "gallop": "eighths", "chug": "eighths", "bossa partido": "stabs", "skank bubble": "push",
    "skank double": "arpeggio", "waltz arpeggio": "waltz lilt", "waltz lilt": "waltz arpeggio",
}  # fmt: skip
"""The pattern that a second chord instrument plays, by the first one's, so that it doesn't double the first."""
