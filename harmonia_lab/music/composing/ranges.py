"""Pitch ranges: the notes that an orchestrator would write for each instrument, not all that a sound bank can play.

Owns the table of ranges, and the parts of a range for melody, chords and bass. Ranges follow S. Adler, "The Study of
Orchestration" (2002), narrowed to comfortable notes; we chose those of the instruments that it does not treat.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["PITCH_RANGES", "PLUCKED", "SUSTAINED", "bass_range", "chord_range", "melody_range", "nearest_pitch"]

PITCH_RANGES = {
    "piano": (36, 90), "electric piano": (40, 88), "harpsichord": (41, 84), "music box": (60, 96),
    "vibraphone": (53, 89), "marimba": (45, 86), "organ": (40, 86), "accordion": (48, 86), "harmonica": (60, 88),
    "acoustic guitar": (40, 79), "nylon guitar": (40, 79), "electric guitar": (40, 84), "distorted guitar": (40, 82),
    "double bass": (28, 60), "bass guitar": (28, 58), "synth bass": (28, 60), "violin": (55, 93), "cello": (36, 74),
    "harp": (36, 91), "strings": (40, 88), "choir": (45, 81), "trumpet": (54, 81), "trombone": (40, 70),
    "french horn": (43, 74), "brass": (43, 79), "saxophone": (49, 80), "oboe": (58, 86), "clarinet": (50, 86),
    "flute": (60, 92), "pan flute": (60, 88), "synth lead": (48, 88), "synth pad": (40, 84), "banjo": (50, 79),
    "sitar": (48, 77), "kalimba": (57, 86),
}  # fmt: skip
"""Name → lowest and highest MIDI pitch, for each pitched instrument of `protocol.vocabulary.INSTRUMENTS`."""

PLUCKED = frozenset(
    {"acoustic guitar", "nylon guitar", "electric guitar", "distorted guitar", "banjo", "harp", "sitar"}
)
"""Instruments whose chords are strummed or rolled, from the lowest note up."""

SUSTAINED = frozenset(
    {"organ", "accordion", "strings", "choir", "french horn", "brass", "synth pad", "violin", "cello"}
)
"""Instruments whose notes sound until they are released."""


def melody_range(name: str) -> tuple[int, int]:
    """Return lowest and highest pitch for a melody: the upper part of the range, above the instrument's own chords."""
    low, high = PITCH_RANGES[name]
    return max(low, min(56, high - 24)), high


def chord_range(name: str) -> tuple[int, int]:
    """Return lowest and highest pitch for close chords: about two octaves from D3, inside the instrument's range."""
    low, high = PITCH_RANGES[name]
    bottom = min(max(low, 50), high - 17)
    return bottom, min(high, bottom + 26)


def bass_range(name: str) -> tuple[int, int]:
    """Return lowest and highest pitch for a bass: an octave and a fifth from the lowest note at or above E1."""
    low, high = PITCH_RANGES[name]
    return max(28, low), min(high, max(28, low) + 19)


def nearest_pitch(pitches: Iterable[int], target: float) -> int:
    """Return the pitch nearest to `target`; of two equally near ones the lower."""
    return min(pitches, key=lambda pitch: (abs(pitch - target), pitch))
