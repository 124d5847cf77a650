"""Drums: the genre's groove, light or full, with ghost notes, fills before a new section and a crash on its first beat.

Owns the grooves by name (`GenreStyle.groove`) and the fills. Pitches are General MIDI percussion keys, under our own
names.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from harmonia_lab.music.composing.arranging import Player
from harmonia_lab.music.composing.context import ScoreNote, SongContext
from harmonia_lab.music.composing.form import Section

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

Groove = Mapping[str, str]
"""Drum → sixteenths of one bar, or of several bars that follow each other.

X accent, x normal, o soft, g ghost note (each is played with probability 0.45), . rest. A pattern has as many
sixteenths as its bar, or a multiple.
"""

_GROOVES: dict[str, tuple[Groove, Groove]] = {
    "pop": (
        {"kick": "x.......x.x.....", "stick": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},
        {"kick": "X.....x.x.x.....", "snare": "....X..g.g..X..g", "hat": "x.o.x.o.x.o.x...",
         "open": "..............x."},
    ),
    "rock": (
        {"kick": "X.......x.x.....", "snare": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},
        {"kick": "X.....x.X.x.....", "snare": "....X..g....X..g", "ride": "X.x.X.x.X.x.X.x."},
    ),
    "train": (
        {"kick": "x.......x.......", "snare": "o.o.x.o.o.o.x.o."},
        {"kick": "X.......X.......", "snare": "ogoox.oogogox.oo", "hat": "....x.......x...",
         "tambourine": "....o.......o..."},
    ),
    "swing": (
        {"kick": "o.......o.......", "ride": "x...x.o.x...x.o.", "pedal": "....x.......x..."},
        {"kick": "o...o...o...o...", "ride": "X...X.x.X...X.x.", "pedal": "....x.......x...",
         "snare": "......g...g...g."},
    ),
    "shuffle": (
        {"kick": "x.......x.......", "stick": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},
        {"kick": "X.......X.x.....", "snare": "..g.X.g...g.X.g.", "ride": "X.x.X.x.X.x.X.x."},
    ),
    "soul": (
        {"kick": "x.......x.x.....", "stick": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},
        {"kick": "X.....g.x.x..g..", "snare": "....X..g.g..X..g", "hat": "x.oox.oox.oox.oo",
         "tambourine": "....x.......x..."},
    ),
    "electro": (
        {"kick": "X.......X.......", "clap": "....x.......x...", "hat": "..x...x...x...x."},
        {"kick": "X...X...X...X...", "clap": "....X.......X...", "hat": "x.oox.oox.oox.oo", "open": "..x...x...x...x."},
    ),
    "house": (
        {"kick": "X...X...X...X...", "hat": "..x...x...x...x.", "shaker": "o.o.o.o.o.o.o.o."},
        {"kick": "X...X...X...X...", "clap": "....X.......X...", "open": "..x...x...x...x.",
         "shaker": "ooxoooxoooxoooxo"},
    ),
    "none": (
        {"kick": "o...............", "ride": "o...o...o...o..."},
        {"kick": "x.......o.......", "ride": "x...x...x...x...", "stick": "....o.......o..."},
    ),
    "boom bap": (
        {"kick": "X.........x.....", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."},
        {"kick": "X......x..x.....", "snare": "....X..g.g..X...", "hat": "x.x.x.xox.x.x.x.",
         "open": "..............g."},
    ),
    "indie": (
        {"kick": "X.......x.......", "snare": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},
        {"kick": "X.....x.X.....g.", "snare": "....X.......X..g", "ride": "X.x.X.x.X.x.X.x.",
         "floor tom": "..........g....."},
    ),
    "metal": (
        {"kick": "X.x.....X.x.....", "snare": "....X.......X...", "hat": "X...X...X...X..."},
        {"kick": "X.xxX.xxX.xxX.xx", "snare": "....X.......X...", "ride": "X...X...X...X..."},
    ),
    "bossa": (
        {"kick": "x...o...x...o...", "hat": "X.o.X.o.X.o.X.o.", "pedal": "....x.......x..."},
        {"kick": "x...o.o.x...o.o.", "stick": "x.....o.....x.......x.....o.....", "hat": "X.o.X.o.X.o.X.o.",
         "pedal": "....x.......x..."},
    ),
    "one drop": (
        {"kick": "........X.......", "stick": "........x.......", "hat": "x.o.x.o.x.o.x.o."},
        {"kick": "X...X...X...X...", "snare": "....o...X...o..g", "hat": "x.oox.oox.oox.oo"},
    ),
    "waltz": (
        {"kick": "x...........", "ride": "x...o...o...", "pedal": "....o...o..."},
        {"kick": "X...........", "snare": "....o...o.g.", "ride": "X...x...x.o."},
    ),
    "epic": (
        {"low tom": "X.......x.......", "kick": "x..............."},
        {"low tom": "X.....x.x...x.x.", "floor tom": "....x..x....x..x", "kick": "X.......X.......",
         "snare": "o.ooo.ooo.ooo.oo"},
    ),
    "second kit": (
        {"shaker": "x.o.x.o.x.o.x.o.", "low conga": "......x.......x."},
        {"shaker": "x.oox.oox.oox.oo", "tambourine": "....X.......X...", "high conga": "...x..x....x..x.",
         "low conga": "..............x."},
    ),
}  # fmt: skip
"""Name → (light, full)."""

_QUIET_GROOVES = frozenset({"swing", "train", "none", "bossa", "waltz"})
"""Grooves whose crash and fills are quieter."""

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
    groove = _GROOVES["second kit" if player.role_index else context.style.groove][level - 1]
    steps = context.beats_per_bar * 4
    keys = _keys(player)
    notes: list[ScoreNote] = []
    for number, bar in enumerate(range(round(start), round(end), context.beats_per_bar)):
        for name, pattern in groove.items():
            first = number % (len(pattern) // steps) * steps
            notes += _hits(name, keys[name], pattern[first : first + steps], bar, end, rng)
    if player.role_index:
        return notes
    fill = _fill(end, into, context, rng)
    if fill and end - start > context.beats_per_bar:
        filled_from = min(note.start for note in fill) - 1e-6  # beats are floats
        feet = (keys["kick"], keys["pedal"])  # they play on during a fill
        notes = [note for note in notes if note.start < filled_from or note.pitch in feet] + fill
    if level == 2 or section.kind in ("chorus", "solo"):
        soft = context.style.groove in _QUIET_GROOVES
        # The crash takes the place of hat and ride.
        notes.append(ScoreNote(start, 2.0, _KEYS["crash"], -14.0 if soft else 4.0))
        notes = [note for note in notes if note.start > start or note.pitch not in (_KEYS["hat"], _KEYS["ride"])]
    return notes


def _keys(player: Player) -> dict[str, int]:
    """Return the kit's keys by drum.

    A drum machine gets kick 35 in place of 36: the 808's kick on 36 has an audible pitch, wrong in most keys.
    """
    return _KEYS | {"kick": 35} if player.instrument.name == "drum machine" else _KEYS


def _hits(name: str, key: int, pattern: str, bar: int, end: float, rng: random.Random) -> list[ScoreNote]:
    """Return one drum's notes in the bar that starts at beat `bar`. pattern: sixteenths, see `Groove`."""
    length = 0.5 if name == "open" else 0.2
    found = []
    for step, mark in enumerate(pattern):
        at = bar + step / 4
        if mark == "." or at >= end - 1e-6 or (mark == "g" and rng.random() < 0.55):
            continue
        found.append(ScoreNote(at, length, key, _ACCENTS[mark] + _SOFTER.get(name, 0.0)))
    return found


def _fill(end: float, into: str, context: SongContext, rng: random.Random) -> list[ScoreNote]:
    """Return a fill of two beats before a chorus or solo (unless the tempo is slow), else of one beat."""
    if context.style.groove == "none":
        return []
    beats = 2 if into in ("chorus", "solo") and context.in_seconds(2) < 1.6 else 1
    drums = _FILL_DRUMS[rng.choice(sorted(_FILL_DRUMS))]
    quiet = -12.0 if context.style.groove in _QUIET_GROOVES else 0.0
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
    quiet = -14.0 if context.style.groove in _QUIET_GROOVES else 0.0
    names = ("low conga",) if player.role_index else ("kick", "crash")
    keys = _keys(player)
    return [ScoreNote(context.final, context.final_hold, keys[name], quiet) for name in names]
