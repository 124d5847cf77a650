"""The plan: a song as notes, chords and sections, before it is rendered.

Owns the plan's types, and the plan's own beats in seconds (composers use `SongContext`). `music/composing/` makes a
plan, `music/midi.py` writes it as MIDI, and the engines in `audio_engines/` render it.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Any

from harmonia_lab.protocol.models import Instrument, SongMetadata

__all__ = ["Chord", "Note", "Part", "Plan", "PlanSection", "SungLine"]


@dataclass(frozen=True, slots=True)
class Note:
    """start, duration: beats (quarter notes) as played, with swing and timing deviations. pitch: MIDI 0…127. velocity:
    1…127.

    lyric: the word that starts on this note, or "-" for a further syllable of the word before.
    """

    start: float
    duration: float
    pitch: int
    velocity: int
    lyric: str = ""


@dataclass(frozen=True, slots=True)
class Chord:
    """start, duration: beats. symbol: as on a lead sheet ("Am7"). pitch_classes: 0…11; root, third, fifth and, in
    chords of four notes, the seventh or sixth."""

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


@dataclass(frozen=True, slots=True)
class PlanSection:
    """name: intro, verse, chorus, bridge, solo or outro. bar, bars: first bar (from 0) and length in bars.

    intensity: 0…1, sets loudness. lyric_section: index into the metadata's sections, or None.
    """

    name: str
    bar: int
    bars: int
    intensity: float
    lyric_section: int | None = None


@dataclass(frozen=True, slots=True)
class SungLine:
    """start, end: seconds. section: the section's name in the lyrics ("Chorus"). text: the line of lyrics."""

    start: float
    end: float
    section: str
    text: str


@dataclass(frozen=True, slots=True)
class Part:
    """The notes of one instrument, sorted by start, then pitch. name: unique in the plan ("piano", "piano 2").

    program: General MIDI program 0…127; for drums the number of the kit.
    """

    name: str
    instrument: Instrument
    program: int
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """bpm: quarter notes a minute. beats_per_bar: quarter notes. bars: total; the audio may end inside the last bar.

    seconds: exact length of the audio. tonic: pitch class 0…11. mode: major or minor. sections cover all bars, and
    chords all beats, without gaps; the last chord is the tonic and lasts until the end of the audio. valence, arousal:
    −1…1, the mean of the moods on Russell's circumplex. metadata: what the plan was composed from, for engines
    that render from text; `to_json` leaves it out, since a song's folder has it in `metadata.json`.
    """

    title: str
    genre: str
    tonic: int
    mode: str
    bpm: float
    beats_per_bar: int
    bars: int
    seconds: float
    valence: float
    arousal: float
    sections: tuple[PlanSection, ...]
    chords: tuple[Chord, ...]
    parts: tuple[Part, ...]
    sung: tuple[SungLine, ...]
    metadata: SongMetadata | None = None

    @property
    def seconds_per_beat(self) -> float:
        return 60.0 / self.bpm

    @property
    def seconds_per_bar(self) -> float:
        return self.beats_per_bar * self.seconds_per_beat

    def in_sound(self, follows: Collection[str]) -> Plan:
        """Return the plan without what isn't in the sound of an engine that follows only so much (`Followed`)."""
        if "notes" in follows:
            return self
        chords = self.chords if "chroma" in follows else ()
        return replace(self, sections=(), chords=chords, parts=(), sung=())

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values under the names of its fields; floats are rounded to six decimals."""
        # Through JSON text: parse_float is the shortest way to round every float of the tree.
        text = json.dumps(asdict(replace(self, metadata=None)), default=Instrument.model_dump)
        plain: dict[str, Any] = json.loads(text, parse_float=lambda number: round(float(number), 6))
        del plain["metadata"]
        return plain
