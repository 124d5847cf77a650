"""What every player of the band knows: tempo, form, chords, style; and the notes that players write.

Owns the shared types of this package and the look-ups by beat. Positions are in beats (quarter notes) from the start.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from harmonia_lab.music.composing.form import Section
from harmonia_lab.music.genres import GenreStyle
from harmonia_lab.music.moods import Expression
from harmonia_lab.music.seeds import derive_seed

__all__ = ["Harmony", "ScoreNote", "Setting"]


class ScoreNote(NamedTuple):
    """A note as written, before performance: straight, on the grid. accent: added to the velocity, about −30…30."""

    start: float
    duration: float
    pitch: int
    accent: float = 0.0
    lyric: str = ""

    @property
    def end(self) -> float:
        return self.start + self.duration


class Harmony(NamedTuple):
    """A chord with its place. pitch_classes: root first, then third, fifth and perhaps a fourth tone."""

    start: float
    duration: float
    symbol: str
    pitch_classes: tuple[int, ...]

    @property
    def end(self) -> float:
        return self.start + self.duration

    @property
    def root(self) -> int:
        return self.pitch_classes[0]


@dataclass(frozen=True)
class Setting:
    """bpm: quarter notes a minute. beats: length of the song. final: where the last chord starts.

    tonic: pitch class 0…11. chords: without gaps from 0 to `beats`.
    """

    seed: int
    bpm: float
    beats_per_bar: int
    beats: float
    final: float
    tonic: int
    minor: bool
    style: GenreStyle
    cues: Expression
    sections: tuple[Section, ...]
    chords: tuple[Harmony, ...]

    @cached_property
    def _chord_starts(self) -> list[float]:
        return [chord.start for chord in self.chords]

    def chord_at(self, beat: float) -> Harmony:
        return self.chords[max(0, bisect_right(self._chord_starts, beat + 1e-6) - 1)]

    def next_chord(self, beat: float) -> Harmony:
        """The chord after the one that sounds at `beat`; the last one has itself."""
        return self.chords[min(len(self.chords) - 1, bisect_right(self._chord_starts, beat + 1e-6))]

    def dice(self, *names: str) -> random.Random:
        """The random numbers for one purpose, independent of every other purpose's."""
        return random.Random(derive_seed(self.seed, *names))  # noqa: S311 - music, not secrets

    def in_seconds(self, beats: float) -> float:
        return beats * 60.0 / self.bpm

    def in_beats(self, seconds: float) -> float:
        return seconds * self.bpm / 60.0

    def span(self, section: Section) -> tuple[float, float]:
        """First beat and end of a section; the last chord belongs to no section's players."""
        start = float(section.bar * self.beats_per_bar)
        return start, min(self.final, start + section.bars * self.beats_per_bar)

    @property
    def final_hold(self) -> float:
        """How long the last chord is held, in beats: it leaves the song's end room to ring."""
        ring = self.beats - self.final
        return ring - min(self.in_beats(0.4), 0.25 * ring)
