"""What all players of one song share: tempo, form, chords, style; and the type of the notes that they write.

Owns `SongContext` with its look-ups by beat, and `ScoreNote`. Positions are in beats (quarter notes) from the start.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

from harmonia_lab.music.composing.feel import Feel
from harmonia_lab.music.composing.form import Phrase, Section
from harmonia_lab.music.composing.harmony import Key
from harmonia_lab.music.genres import GenreStyle
from harmonia_lab.music.moods import MusicalCues
from harmonia_lab.music.plan import Chord
from harmonia_lab.music.seeds import derive_rng

__all__ = ["ScoreNote", "SongContext"]


class ScoreNote(NamedTuple):
    """A note as written, on the grid, before `performance.py` plays it. accent: added to the velocity, about −30…30."""

    start: float
    duration: float
    pitch: int
    accent: float = 0.0
    lyric: str = ""

    @property
    def end(self) -> float:
        return self.start + self.duration


@dataclass(frozen=True)
class SongContext:
    """bpm: quarter notes a minute. beats: length of the song. final: beat on which the last chord starts.

    chords: without gaps from 0 to `beats`.
    """

    seed: int
    bpm: float
    beats: float
    final: float
    key: Key
    style: GenreStyle
    feel: Feel
    cues: MusicalCues
    sections: tuple[Section, ...]
    chords: tuple[Chord, ...]

    @property
    def beats_per_bar(self) -> int:
        return self.style.beats_per_bar

    def chord_at(self, beat: float) -> Chord:
        return self.chords[max(0, bisect_right(self.chords, beat + 1e-6, key=attrgetter("start")) - 1)]

    def next_chord(self, beat: float) -> Chord:
        """Return the chord after the one at `beat`; after the last chord, the last chord itself."""
        return self.chords[min(len(self.chords) - 1, bisect_right(self.chords, beat + 1e-6, key=attrgetter("start")))]

    def chords_between(self, start: float, end: float) -> list[Chord]:
        """Return the chords that begin from beat `start` on and before beat `end`."""
        return [chord for chord in self.chords if start - 1e-6 <= chord.start < end - 1e-6]

    def rng(self, *names: str) -> random.Random:
        """Return a random generator for one purpose, independent of the generators for all others."""
        return derive_rng(self.seed, *names)

    def in_seconds(self, beats: float) -> float:
        return beats * 60.0 / self.bpm

    def in_beats(self, seconds: float) -> float:
        return seconds * self.bpm / 60.0

    def span(self, part: Section | Phrase) -> tuple[float, float]:
        """Return the first beat and the end of a section or phrase, without the song's last chord."""
        start = float(part.bar * self.beats_per_bar)
        return start, min(self.final, start + part.bars * self.beats_per_bar)

    def room_before(self, phrase: Phrase) -> float:
        """Return the beats that a pickup may take from the phrase before, a fifth of it; 0 if there is none."""
        before = (p for section in self.sections for p in section.phrases if p.bar + p.bars == phrase.bar)
        return 0.2 * self.beats_per_bar * max((p.bars for p in before), default=0)

    @property
    def final_hold(self) -> float:
        """How long the last chord is held, in beats; it stops a little before the song does, so that it can decay.

        The ending "stop" cuts it after half a second, or, in slow songs, 2.4 s before the end, which is enough silence.
        """
        length = self.beats - self.final
        hold = length - min(self.in_beats(0.4), 0.25 * length)
        if self.feel.ending != "stop":
            return hold
        return min(hold, max(self.in_beats(0.5), length - self.in_beats(2.4)))
