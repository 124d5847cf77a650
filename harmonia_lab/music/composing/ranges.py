"""Where instruments sound well: sounding ranges that an orchestrator would write for, not what a sound bank can play.

Owns one table. After S. Adler, "The Study of Orchestration" (2002), narrowed to comfortable notes; synthesisers and
plucked instruments that it does not treat are ours.
"""

from __future__ import annotations

from harmonia_lab.protocol.vocabulary import INSTRUMENTS

__all__ = ["PLUCKED", "SUSTAINED", "bass_range", "chord_range", "is_kit", "melody_range"]

_RANGES = {
    "piano": (36, 90), "electric piano": (40, 88), "harpsichord": (41, 84), "music box": (60, 96),
    "vibraphone": (53, 89),
    "marimba": (45, 86), "organ": (40, 86), "accordion": (48, 86), "harmonica": (60, 88), "acoustic guitar": (40, 79),
    "nylon guitar": (40, 79), "electric guitar": (40, 84), "distorted guitar": (40, 82), "double bass": (28, 60),
    "bass guitar": (28, 58), "synth bass": (28, 60), "violin": (55, 93), "cello": (36, 74), "harp": (36, 91),
    "strings": (40, 88), "choir": (45, 81), "trumpet": (54, 81), "trombone": (40, 70), "french horn": (43, 74),
    "brass": (43, 79), "saxophone": (49, 80), "oboe": (58, 86), "clarinet": (50, 86), "flute": (60, 92),
    "pan flute": (60, 88), "synth lead": (48, 88), "synth pad": (40, 84), "banjo": (50, 79), "sitar": (48, 77),
    "kalimba": (57, 86),
}  # fmt: skip
"""Name → lowest and highest MIDI pitch. One row for each pitched instrument of the vocabulary."""

PLUCKED = frozenset(
    {"acoustic guitar", "nylon guitar", "electric guitar", "distorted guitar", "banjo", "harp", "sitar"}
)
"""Chords are strummed or rolled: lowest string first."""

SUSTAINED = frozenset(
    {"organ", "accordion", "strings", "choir", "french horn", "brass", "synth pad", "violin", "cello"}
)
"""Sounds that hold as long as the key is down."""


def is_kit(name: str) -> bool:
    """Whether the instrument is a drum kit, whatever role it was given."""
    return INSTRUMENTS[name].role == "drums"


def melody_range(name: str) -> tuple[int, int]:
    """The upper part of the instrument's range, so that a piano or a harp sings above its own chords."""
    low, high = _RANGES[name]
    return max(low, min(56, high - 24)), high


def chord_range(name: str) -> tuple[int, int]:
    """Where close chords neither growl nor shriek: two octaves from D3, inside the instrument's own range."""
    low, high = _RANGES[name]
    bottom = min(max(low, 50), high - 17)
    return bottom, min(high, bottom + 26)


def bass_range(name: str) -> tuple[int, int]:
    """An octave and a fifth from the lowest comfortable note at or above E1."""
    low, high = _RANGES[name]
    return max(28, low), min(high, max(28, low) + 19)
