"""Drums: the genre's groove, light or full, with ghost notes, fills before a new section and a crash on its first beat.

Owns the fills, and how grooves are played; `grooves.py` has the patterns. Pitches are General MIDI percussion keys,
under our own names.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

from harmonia_lab.music.composing.arranging import Player
from harmonia_lab.music.composing.context import ScoreNote, SongContext
from harmonia_lab.music.composing.form import Section
from harmonia_lab.music.composing.grooves import GROOVES

__all__ = ["drum_ending", "drum_section"]

_KEYS = {
    "kick": 36, "stick": 37, "snare": 38, "clap": 39, "hat": 42, "pedal": 44, "open": 46, "crash": 49, "ride": 51,
    "bell": 53, "tambourine": 54, "low tom": 41, "floor tom": 43, "mid tom": 45, "tom": 47, "high tom": 48,
    "high conga": 63, "low conga": 64, "shaker": 70,
}  # fmt: skip
"""Drum → key."""

_ACCENTS = {"X": 12.0, "x": 2.0, "o": -16.0, "g": -26.0}
"""Mark of a pattern → `ScoreNote.accent`, in steps of velocity."""

_SOFTER = {
    "hat": -12.0, "ride": -10.0, "open": -12.0, "pedal": -14.0, "shaker": -14.0, "tambourine": -10.0, "bell": -8.0,
}  # fmt: skip
"""Added to the accent of drums that would otherwise be too loud beside kick and snare."""

_FILL_RHYTHMS = ("xxxx", "x.xx", "xx.x", "x.x.", "xxx.", "..xx")
_FILL_DRUMS = {
    "down the toms": ("snare", "high tom", "tom", "floor tom"), "snare": ("snare", "snare", "snare", "snare"),
    "snare and toms": ("snare", "snare", "tom", "floor tom"), "up": ("floor tom", "tom", "high tom", "snare"),
}  # fmt: skip


def drum_section(context: SongContext, section: Section, player: Player, level: int, *, into: str) -> list[ScoreNote]:
    """Return a kit's notes for one section. level: 1 light, 2 full. into: the next section's kind, for the fill."""
    start, end = context.span(section)
    if start >= end:
        return []
    rng = context.rng("drums", player.name, str(section.bar))
    groove = GROOVES["second kit"] if player.role_index else context.feel.groove
    pattern = groove.full if level == 2 else groove.light
    if section.occurrence and section.kind in ("verse", "chorus") and groove.fills and not player.role_index:
        pattern = {**context.feel.lift, **pattern}
    steps = context.beats_per_bar * 4
    keys = _keys(player)
    notes: list[ScoreNote] = []
    for number, bar in enumerate(range(round(start), round(end), context.beats_per_bar)):
        for name, marks in pattern.items():
            first = number % (len(marks) // steps) * steps
            notes += _hits(name, keys[name], marks[first : first + steps], bar, end, rng)
    if player.role_index or not groove.fills:
        return notes
    if end - start > context.beats_per_bar:
        beats = 2 if into in ("chorus", "solo") and context.in_seconds(2) < 1.6 else 1
        notes = _with_fill(notes, _fill(end, beats, context, rng), keys)
    if section.occurrence and end - start >= 4 * context.beats_per_bar:
        middle = start + context.beats_per_bar * ((end - start) // context.beats_per_bar // 2)
        notes = _with_fill(notes, _fill(middle, 1, context, rng), keys)
    if level == 2 or section.kind in ("chorus", "solo"):
        # The crash takes the place of hat and ride.
        notes = [note for note in notes if note.start > start or note.pitch not in (_KEYS["hat"], _KEYS["ride"])]
        notes.append(ScoreNote(start, 2.0, _KEYS["crash"], -14.0 if groove.quiet else 4.0))
    return notes


def _with_fill(notes: list[ScoreNote], fill: list[ScoreNote], keys: Mapping[str, int]) -> list[ScoreNote]:
    """Return the notes with the fill in place of those under it, but for the feet, which play on."""
    if not fill:
        return notes
    first, last = min(note.start for note in fill) - 1e-6, math.ceil(max(note.start for note in fill) + 1e-6)
    feet = (keys["kick"], keys["pedal"])
    return [note for note in notes if not first < note.start < last or note.pitch in feet] + fill


def _keys(player: Player) -> dict[str, int]:
    """Return the kit's keys by drum.

    A drum machine gets kick 35 in place of 36: the 808's kick on 36 has an audible pitch, wrong in most keys.
    """
    return _KEYS | {"kick": 35} if player.instrument.name == "drum machine" else _KEYS


def _hits(name: str, key: int, pattern: str, bar: int, end: float, rng: random.Random) -> list[ScoreNote]:
    """Return one drum's notes in the bar that starts at beat `bar`. pattern: sixteenths, see `grooves.Pattern`."""
    length = 0.5 if name == "open" else 0.2
    found = []
    for step, mark in enumerate(pattern):
        at = bar + step / 4
        if mark == "." or at >= end - 1e-6 or (mark == "g" and rng.random() < 0.55):
            continue
        found.append(ScoreNote(at, length, key, _ACCENTS[mark] + _SOFTER.get(name, 0.0)))
    return found


def _fill(end: float, beats: int, context: SongContext, rng: random.Random) -> list[ScoreNote]:
    """Return a fill of one or two beats that ends at beat `end`."""
    drums = _FILL_DRUMS[rng.choice(sorted(_FILL_DRUMS))]
    quiet = -12.0 if context.feel.groove.quiet else 0.0
    step = 0.25 if context.in_seconds(0.25) > 0.11 else 0.5  # more than 9 hits a second blur
    rhythm = "".join(rng.choice(_FILL_RHYTHMS) for _ in range(beats))
    count = round(beats / step)
    return [
        ScoreNote(end - beats + i * step, 0.2, _KEYS[drums[i * len(drums) // count]], -4.0 + 10.0 * i / count + quiet)
        for i in range(count)
        if rhythm[i] == "x"
    ]


def drum_ending(context: SongContext, player: Player) -> list[ScoreNote]:
    """Return kick and cymbal (for a second kit a conga) on the last chord."""
    quiet = -14.0 if context.feel.groove.quiet else 0.0
    names = ("low conga",) if player.role_index else ("kick", "crash")
    keys = _keys(player)
    return [ScoreNote(context.final, context.final_hold, keys[name], quiet) for name in names]
