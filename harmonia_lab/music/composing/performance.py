"""From written notes to played ones: swing, timing, loudness; nothing outside the song, no key struck while it is down.

Owns everything that a player adds to the page.

Timing and loudness deviate at random, independently from note to note, by a few milliseconds and velocity steps of our
choice. The systematic part follows rules of the KTH performance system (A. Friberg, R. Bresin and J. Sundberg,
"Overview of the KTH rule system for musical performance", Advances in Cognitive Psychology 2/2-3, 2006): phrase arch,
"high loud", metric accents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import attrgetter

from harmonia_lab.music.composing.arranging import Player
from harmonia_lab.music.composing.form import Section
from harmonia_lab.music.composing.ranges import PLUCKED
from harmonia_lab.music.composing.rhythm import metric_weight
from harmonia_lab.music.composing.setting import ScoreNote, Setting
from harmonia_lab.music.plan import Note

__all__ = ["perform", "swung", "tidy"]

_SPREAD_MS = {"lead": 9.0, "chords": 6.0, "bass": 5.0, "drums": 3.5, "pad": 8.0}
_BALANCE = {"lead": 8.0, "chords": -4.0, "bass": 2.0, "drums": 2.0, "pad": -14.0}
_STRUM_MS = 11.0


def swung(beat: float, swing: float, grid: float) -> float:
    """Where a straight position is played: off-grid notes move late, at swing 1 to the last third of the pair."""
    pair, inside = divmod(beat, 2 * grid)
    late = swing * grid / 3
    if inside <= grid:
        return pair * 2 * grid + inside * (grid + late) / grid
    return pair * 2 * grid + grid + late + (inside - grid) * (grid - late) / grid


def perform(setting: Setting, player: Player, section: Section, notes: Sequence[ScoreNote]) -> list[Note]:
    """The notes of one section as played: in beats from the song's start, by start and pitch."""
    dice = setting.dice("performance", player.name, str(section.bar))
    style = setting.style
    spread = setting.in_beats(_SPREAD_MS[player.role] / 1000)
    base = setting.cues.loudness + 40.0 * (section.intensity - 0.62) + _BALANCE[player.role]
    start, end = setting.span(section)
    length = max(1.0, end - start)
    middle = sum(note.pitch for note in notes) / len(notes) if notes else 0.0
    strum = setting.in_beats(_STRUM_MS / 1000) if player.instrument.name in PLUCKED else 0.0
    played = []
    stacked, at_once = -1.0, 0
    for note in sorted(notes, key=attrgetter("start", "pitch")):
        at_once = at_once + 1 if note.start == stacked else 0
        stacked = note.start
        written = swung(note.start, style.swing, style.swing_grid)
        on = written + _bounded_gauss(dice.gauss(0.0, 1.0)) * spread + at_once * strum
        off = swung(note.end, style.swing, style.swing_grid)
        loud = base + note.accent + 5.0 * metric_weight(note.start, setting.beats_per_bar) + dice.gauss(0.0, 2.5)
        loud += 4.0 * math.sin(math.pi * (note.start - start) / length)
        if player.role == "lead":
            loud += 0.25 * (note.pitch - middle)
        on = max(0.0, on)
        played.append(Note(on, max(0.05, off - on), note.pitch, max(1, min(127, round(loud))), note.lyric))
    return played


def _bounded_gauss(value: float) -> float:
    return max(-2.0, min(2.0, value))


def tidy(notes: Sequence[Note], beats: float, *, monophonic: bool) -> tuple[Note, ...]:
    """Sorted by start and pitch, inside the song; a key is up before it is struck again, a tune is in one voice."""
    ordered = sorted(notes, key=attrgetter("start", "pitch"))
    following: dict[int, float] = {}
    kept: list[Note] = []
    for note in reversed(ordered):
        key = -1 if monophonic else note.pitch
        room = following.get(key, beats) - note.start
        following[key] = note.start
        duration = min(note.duration, room)
        if duration > 1e-3:
            kept.append(Note(note.start, duration, note.pitch, note.velocity, note.lyric))
    return tuple(reversed(kept))
