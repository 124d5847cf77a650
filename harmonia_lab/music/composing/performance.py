"""Performance: from notes as written to notes as played, with swing, timing deviations and loudness.

Owns all differences between the two, and the removal of overlaps.

Timing and loudness deviate at random, independently from note to note, by a few milliseconds and velocity steps of our
choice. The systematic part follows rules of the KTH performance system (A. Friberg, R. Bresin and J. Sundberg,
"Overview of the KTH rule system for musical performance", Advances in Cognitive Psychology 2/2-3, 2006): phrase arch,
"high loud", metric accents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter

from harmonia_lab.music.composing.arranging import Player
from harmonia_lab.music.composing.context import ScoreNote, SongContext
from harmonia_lab.music.composing.form import Section
from harmonia_lab.music.composing.ranges import PLUCKED
from harmonia_lab.music.composing.rhythm import metric_weight
from harmonia_lab.music.plan import Note

__all__ = ["apply_swing", "perform", "resolve_overlaps"]

_SPREAD_MS = {"lead": 9.0, "chords": 6.0, "bass": 5.0, "drums": 3.5, "pad": 8.0}
_BALANCE = {"lead": 8.0, "chords": -4.0, "bass": 2.0, "drums": 2.0, "pad": -14.0}
_STRUM_MS = 11.0
"""Standard deviation of the timing; velocity added for a role; delay between the notes of a plucked chord."""

_TAG_FADE = 18.0
"""Steps of velocity that a tag loses until the last chord."""


def apply_swing(beat: float, swing: float, grid: float) -> float:
    """Return when a straight beat is played: every second position of the grid is late, at swing 1 by a third of it."""
    pair, inside = divmod(beat, 2 * grid)
    late = swing * grid / 3
    if inside <= grid:
        return pair * 2 * grid + inside * (grid + late) / grid
    return pair * 2 * grid + grid + late + (inside - grid) * (grid - late) / grid


def perform(context: SongContext, player: Player, section: Section, notes: Sequence[ScoreNote]) -> list[Note]:
    """Return the notes of one section as played, in the order of their written starts and pitches."""
    rng = context.rng("performance", player.name, str(section.bar))
    style = context.style
    spread = context.in_beats(_SPREAD_MS[player.role] / 1000)
    base = context.cues.loudness + 40.0 * (section.intensity - 0.62) + _BALANCE[player.role]
    start, end = context.span(section)
    length = max(1.0, end - start)
    middle = sum(note.pitch for note in notes) / len(notes) if notes else 0.0
    strum = context.in_beats(_STRUM_MS / 1000) if player.instrument.name in PLUCKED else 0.0
    played = []
    previous_start, chord_index = -1.0, 0
    for note in sorted(notes, key=attrgetter("start", "pitch")):
        chord_index = chord_index + 1 if note.start == previous_start else 0
        previous_start = note.start
        written = apply_swing(note.start, style.swing, style.swing_grid)
        on = written + max(-2.0, min(2.0, rng.gauss(0.0, 1.0))) * spread + chord_index * strum
        off = apply_swing(note.end, style.swing, style.swing_grid)
        loud = base + note.accent + 5.0 * metric_weight(note.start, context.beats_per_bar) + rng.gauss(0.0, 2.5)
        loud += 4.0 * math.sin(math.pi * (note.start - start) / length)
        if section.kind == "outro" and context.feel.ending == "tag":
            loud -= _TAG_FADE * min(1.0, max(0.0, (note.start - start) / length))
        if player.role == "lead":
            loud += 0.25 * (note.pitch - middle)
        on = max(0.0, on)
        played.append(Note(on, max(0.05, off - on), note.pitch, max(1, min(127, round(loud))), note.lyric))
    return played


def resolve_overlaps(notes: Sequence[Note], beats: float, *, monophonic: bool) -> tuple[Note, ...]:
    """Return the notes by start and pitch, each cut at the next of its pitch (monophonic: the next) and at `beats`."""
    ordered = sorted(notes, key=attrgetter("start", "pitch"))
    following: dict[int, float] = {}
    kept: list[Note] = []
    for note in reversed(ordered):
        voice = -1 if monophonic else note.pitch
        duration = min(note.duration, following.get(voice, beats) - note.start)
        following[voice] = note.start
        if duration > 1e-3:
            kept.append(replace(note, duration=duration))
    return tuple(reversed(kept))
