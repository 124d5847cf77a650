"""The plan: a song as notes, chords and sections, before any sound.

Owns the plan's types and their arithmetic (beats ↔ seconds). Composing one is `music/composing/`; rendering
one is an audio engine's work; writing it as MIDI is `engines/midi.py`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from harmonia_lab.protocol.models import Instrument, SongMetadata

__all__ = ["Chord", "Note", "Part", "Plan", "PlanSection", "SungLine"]


@dataclass(frozen=True, slots=True)
class Note:
    """start, duration: beats (quarter notes), swing and humanising included. pitch: MIDI 0…127. velocity: 1…127.

    lyric: the syllable sung on this note; "-" prolongs the word before.
    """

    start: float
    duration: float
    pitch: int
    velocity: int
    lyric: str = ""


@dataclass(frozen=True, slots=True)
class Chord:
    """start, duration: beats. symbol: as a lead sheet prints it ("Am7"). pitch_classes: 0…11, root first."""

    start: float
    duration: float
    symbol: str
    pitch_classes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PlanSection:
    """name: intro, verse, chorus, bridge, solo or outro. bar, bars: first bar (from 0) and length in bars.

    intensity: 0…1, drives dynamics and density. lyric_section: index into the metadata's sections, or None.
    """

    name: str
    bar: int
    bars: int
    intensity: float
    lyric_section: int | None = None


@dataclass(frozen=True, slots=True)
class SungLine:
    """start, end: seconds. section: the lyrics' own name for it ("Chorus")."""

    start: float
    end: float
    section: str
    text: str


@dataclass(frozen=True, slots=True)
class Part:
    """What one instrument plays. name: unique in the plan ("piano", "piano 2"). notes: by start, then pitch.

    program: General MIDI 0…127 (kit number for drums).
    """

    name: str
    instrument: Instrument
    program: int
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """bpm: quarter notes a minute. beats_per_bar: quarters. bars: in all; the end of the audio may cut the last one.

    seconds: length of the audio, exactly. tonic: pitch class 0…11. mode: major or minor. sections: without gaps over
    all bars. chords: without gaps over all beats; the last one is the tonic and rings until the end.
    valence, arousal: −1…1, what the moods came to (Russell's circumplex). metadata: what the plan was made from, for
    engines that render from words; it is not part of `to_json`, having a file of its own.
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

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; field names as here."""
        plain: dict[str, Any] = _plain(asdict(replace(self, metadata=None)))
        del plain["metadata"]
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return round(value, 6) if isinstance(value, float) else value
