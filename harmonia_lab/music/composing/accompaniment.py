"""Chords and pads: the genre's comping patterns over voicings that lead smoothly.

Owns the patterns by name (`GenreStyle.comping`). Voicings are made in `voicing.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from harmonia_lab.music.composing.arranging import Player
from harmonia_lab.music.composing.form import Section
from harmonia_lab.music.composing.ranges import SUSTAINED, chord_range
from harmonia_lab.music.composing.setting import Harmony, ScoreNote, Setting
from harmonia_lab.music.composing.voicing import voice_lead

__all__ = ["Voicings", "comp", "comp_ending", "hold", "voice_for"]

What = Literal["all", "low", "upper"] | int
Hit = tuple[float, float, What, float]
"""Beat in the bar, length in beats, which notes of the voicing (a number climbs through it), accent."""

Bars = tuple[tuple[Hit, ...], ...]
"""Bars to be played in turn."""


def _run(indices: Sequence[int], step: float, ring: float) -> tuple[Hit, ...]:
    """An arpeggio: one note each `step` beats, sounding for `ring` beats."""
    return tuple((i * step, ring, index, 4.0 if i * step % 2 == 0 else -4.0) for i, index in enumerate(indices))


def _chug(beats: float, step: float, length: float, what: What) -> tuple[Hit, ...]:
    count = round(beats / step)
    return tuple((i * step, length, what, 4.0 if i * step % 1 == 0 else -7.0) for i in range(count))


_COMPING: dict[str, tuple[Bars, Bars]] = {
    "push": (
        (((0, 1.9, "all", 0), (2, 1.9, "all", -3)), ((0, 1.4, "all", 0), (1.5, 2.3, "all", -2))),
        (
            ((0, 0.9, "all", 4), (1, 0.45, "upper", -6), (1.5, 1.4, "all", 2), (3, 0.9, "upper", -3)),
            ((0, 0.9, "all", 4), (1, 0.9, "upper", -5), (2, 0.9, "all", 1), (3, 0.45, "upper", -5),
             (3.5, 0.45, "all", 2)),
        ),
    ),
    "eighths": ((_chug(4, 0.5, 0.3, "low"),), (_chug(4, 0.5, 0.45, "all"),)),
    "fingerpick": (
        (_run((0, 2, 1, 2, 0, 3, 1, 2), 0.5, 0.9), _run((0, 2, 1, 3, 0, 2, 1, 2), 0.5, 0.9)),
        (
            (*_run((0, 2, 1, 3, 0, 2, 1, 3), 0.5, 0.9), (0, 1.8, 3, 2), (2, 1.8, 3, 0)),
            (*_run((0, 3, 1, 2, 0, 3, 2, 1), 0.5, 0.9), (0, 1.8, 2, 2), (2, 1.8, 2, 0)),
        ),
    ),
    "boom chick": (
        (((0, 0.8, "low", 0), (1, 0.5, "upper", -2), (2, 0.8, "low", -3), (3, 0.5, "upper", -2)),),
        (
            ((0, 0.8, "low", 2), (1, 0.4, "upper", 0), (1.5, 0.3, "upper", -9), (2, 0.8, "low", 0),
             (3, 0.4, "upper", 0)),
            ((0, 0.8, "low", 2), (1, 0.4, "upper", 0), (2, 0.8, "low", 0), (3, 0.4, "upper", 0),
             (3.5, 0.3, "upper", -8)),
        ),
    ),
    "charleston": (
        (((0, 0.9, "all", 0), (1.5, 0.5, "all", -2)), ((1.5, 0.5, "all", -1), (3, 0.6, "all", -4)),
         ((0, 2.4, "all", -2),)),
        (
            ((0, 0.6, "all", 3), (1.5, 0.8, "all", 0), (3.5, 0.4, "all", 0)),
            ((0.5, 0.4, "all", 0), (2, 0.6, "all", 2), (3.5, 0.4, "all", -2)),
            ((0, 0.6, "all", 2), (1.5, 1.2, "all", 0), (3, 0.5, "all", -3)),
        ),
    ),
    "shuffle": (
        (((0, 0.9, "all", 0), (1, 0.4, "upper", -5), (2, 0.9, "all", -2), (3, 0.4, "upper", -5),
         (3.5, 0.4, "upper", -8)),),
        (_chug(4, 0.5, 0.42, "all"), ((0, 0.4, "all", 4), (1, 0.4, "all", 0), (1.5, 0.4, "all", -4),
         (2.5, 1.2, "all", 2))),
    ),
    "arpeggio": (
        (_run((0, 1, 2, 3, 2, 1, 2, 3), 0.5, 0.6),),
        (_run((0, 2, 1, 3, 2, 4, 3, 2), 0.5, 0.6), _run((0, 2, 1, 3, 4, 3, 2, 1), 0.5, 0.6)),
    ),
    "offbeat": (
        (tuple((beat + 0.5, 0.4, "all", 0) for beat in range(4)),),
        (
            ((0, 0.3, "all", 2), (0.75, 0.3, "all", -2), (1.5, 0.4, "all", 2), (2.5, 0.4, "all", 0),
             (3.5, 0.4, "all", 0)),
            ((0.5, 0.4, "all", 2), (1.5, 0.4, "all", 0), (2.25, 0.3, "all", -2), (2.75, 0.3, "all", 0),
             (3.5, 0.4, "all", 1)),
        ),
    ),
    "broken": (
        (((0, 4, 0, 4), (1, 3, 2, -2), (2, 2, 1, 2), (3, 1.5, 3, -2)),),
        (_run((0, 1, 2, 3, 4, 3, 2, 1), 0.5, 1.5), _run((0, 2, 1, 3, 2, 4, 3, 2), 0.5, 1.5)),
    ),
    "stabs": (
        (((0, 1.6, "all", 0), (2.5, 1.2, "all", -3)),),
        (((0, 1.2, "all", 3), (1.75, 0.5, "all", -3), (2.5, 1.2, "all", 1)),
         ((0, 1.5, "all", 3), (2.5, 0.4, "all", 0), (3.25, 0.5, "all", -2))),
    ),
    "alberti": (
        (_run((0, 2, 1, 2, 0, 2, 1, 2), 0.5, 0.5),),
        ((*_run((0, 2, 1, 2, 0, 2, 1, 2), 0.5, 0.5), (0, 0.9, 3, 3), (2, 0.9, 3, 0)),),
    ),
    "power": (
        (((0, 3.8, "all", 3),), ((0, 1.8, "all", 3), (2, 0.9, "all", 0), (3, 0.9, "all", 0))),
        (
            ((0, 0.9, "all", 6), *((1 + i * 0.5, 0.35, "low", -1) for i in range(6))),
            (*((i * 0.5, 0.35, "low", 0) for i in range(5)), (2.5, 0.9, "all", 5), (3.5, 0.4, "low", 0)),
        ),
    ),
    "bossa": (
        (
            ((0, 1.4, "all", 3), (2, 0.9, "low", 0), (2.5, 0.5, "upper", -3), (3.5, 0.5, "upper", -2)),
            ((0, 0.9, "low", 2), (1, 0.9, "upper", -2), (2, 0.9, "low", 0), (3.5, 0.5, "upper", -2)),
        ),
        (
            ((0, 0.6, "all", 4), (1, 0.4, "upper", -1), (2, 0.9, "low", 3), (2.5, 0.5, "upper", -2),
             (3.5, 0.5, "upper", -1)),
            ((0, 0.9, "low", 4), (1, 0.6, "upper", 0), (2, 0.9, "all", 3), (3, 0.4, "upper", -1),
             (3.5, 0.5, "upper", -2)),
        ),
    ),
    "skank": (
        (((1, 0.3, "all", 2), (3, 0.3, "all", 2)),),
        (((1, 0.3, "all", 3), (1.5, 0.2, "all", -8), (3, 0.3, "all", 3), (3.5, 0.2, "all", -8)),),
    ),
    "oom pah": (
        (((1, 0.6, "upper", 0), (2, 0.6, "upper", -2)),),
        (((0, 0.8, "low", 2), (1, 0.6, "upper", 1), (2, 0.6, "upper", -1)), (*_run((0, 1, 2, 3, 2, 1), 0.5, 0.5),)),
    ),
    "ostinato": (
        (_run((0, 1, 2, 1, 0, 1, 2, 1), 0.5, 0.5),),
        (_run((0, 3, 1, 3, 0, 3, 2, 3), 0.5, 0.45), _run((0, 3, 1, 3, 2, 3, 1, 3), 0.5, 0.45)),
    ),
}  # fmt: skip

_SECOND = {
    "push": "arpeggio", "eighths": "arpeggio", "arpeggio": "push", "fingerpick": "push", "boom chick": "fingerpick",
    "charleston": "stabs", "shuffle": "stabs", "offbeat": "arpeggio", "broken": "stabs", "stabs": "arpeggio",
    "alberti": "push", "power": "eighths", "bossa": "stabs", "skank": "push", "oom pah": "oom pah", "ostinato": "push",
}  # fmt: skip
"""What a second chord instrument plays, so that it doesn't double the first."""


class Voicings(NamedTuple):
    """A chord instrument's voicings by the chord's start: three voices for light playing, four and higher for full."""

    light: dict[float, tuple[int, ...]]
    full: dict[float, tuple[int, ...]]

    def at(self, chord: Harmony, level: int) -> tuple[int, ...]:
        return (self.full if level == 2 else self.light)[chord.start]


def voice_for(setting: Setting, player: Player) -> Voicings:
    starts = [chord.start for chord in setting.chords]
    if setting.style.comping == "power" and player.role == "chords" and player.nth == 0:
        power = {chord.start: _power(chord) for chord in setting.chords}
        return Voicings(power, power)
    low, high = chord_range(player.instrument.name)
    low = min(low + 5 * player.nth, high - 17)
    rise = min(5, high - 17 - low)
    light = voice_lead(setting.chords, low, low + 17, 3)
    full = voice_lead(setting.chords, low + rise, min(high, low + rise + 19), 4)
    return Voicings(dict(zip(starts, light, strict=True)), dict(zip(starts, full, strict=True)))


def _power(chord: Harmony) -> tuple[int, ...]:
    """Root, fifth and octave from E2 upwards, and the tenth.

    A lower third would growl under distortion. None at all would leave the one that distortion itself adds, which is
    major, and minor must stay minor.
    """
    low = 40 + (chord.root - 40) % 12
    return low, low + 7, low + 12, low + 12 + (chord.pitch_classes[1] - chord.root) % 12


def comp(setting: Setting, section: Section, player: Player, level: int, voicings: Voicings) -> list[ScoreNote]:
    """A chord instrument's notes for one section."""
    start, end = setting.span(section)
    name = setting.style.comping
    for _ in range(player.nth % 2):
        name = _SECOND[name]
    bars = _COMPING[name][level - 1]
    # The first bar of a pattern has its downbeat, which an opening needs.
    turn = setting.dice("comping", player.name, section.kind).randrange(len(bars)) if section.bar else 0
    legato = 1.0 if setting.cues.articulation > 0.9 else 0.6 + 0.4 * setting.cues.articulation
    notes: list[ScoreNote] = []
    for number, bar in enumerate(range(round(start), round(end), setting.beats_per_bar)):
        for beat, length, what, accent in bars[(number + turn) % len(bars)]:
            at = bar + beat
            if at < end - 1e-6:
                chord = setting.chord_at(at)
                limit = min(chord.end, end) - at
                chosen = _chosen(voicings.at(chord, level), what)
                notes += [ScoreNote(at, min(length * legato, limit), pitch, accent) for pitch in chosen]
        if player.alone and player.nth == 0:
            notes += _left_hand(setting, bar, end)
    return _without_doubles(notes)


def _chosen(voicing: tuple[int, ...], what: What) -> tuple[int, ...]:
    if isinstance(what, int):
        octave, index = divmod(what, len(voicing))
        return (voicing[index] + 12 * octave,)
    return {"all": voicing, "low": voicing[:2], "upper": voicing[1:]}[what]


def _left_hand(setting: Setting, bar: int, end: float) -> list[ScoreNote]:
    """Roots on the first and (in four) third beat, for bands without a bass."""
    beats = [bar, bar + 2] if setting.beats_per_bar == 4 else [bar]
    length = 1.9 if setting.beats_per_bar == 4 else 2.8
    return [
        ScoreNote(at, min(length, end - at, chord.end - at), 36 + chord.root, -2.0)
        for at in beats
        if at < end
        for chord in [setting.chord_at(at)]
    ]


def _without_doubles(notes: list[ScoreNote]) -> list[ScoreNote]:
    """The same key can't be struck twice at once."""
    return list({(note.start, note.pitch): note for note in notes}.values())


def comp_ending(setting: Setting, player: Player, voicings: Voicings) -> list[ScoreNote]:
    """The last chord, held."""
    chord = setting.chords[-1]
    notes = [ScoreNote(setting.final, setting.final_hold, pitch, 3.0) for pitch in voicings.at(chord, 2)]
    if player.alone and player.nth == 0 and player.role == "chords":
        notes.append(ScoreNote(setting.final, setting.final_hold, 36 + chord.root, 3.0))
    return _without_doubles(notes)


def hold(setting: Setting, section: Section, player: Player, level: int, voicings: Voicings) -> list[ScoreNote]:
    """A pad's notes for one section: chords held, notes that two chords share tied over up to eight beats.

    Sounds that die away, such as a vibraphone's, are struck again with each chord.
    """
    start, end = setting.span(section)
    sounding: dict[int, ScoreNote] = {}
    done: list[ScoreNote] = []
    for chord in setting.chords:
        if not start - 1e-6 <= chord.start < end - 1e-6:
            continue
        stop = min(chord.end, end)
        held: dict[int, ScoreNote] = {}
        for pitch in voicings.at(chord, level):
            before = sounding.get(pitch)
            if before and player.instrument.name in SUSTAINED and stop - before.start <= 8.0:
                held[pitch] = before._replace(duration=stop - before.start)
            else:
                held[pitch] = ScoreNote(chord.start, stop - chord.start, pitch)
        done += [note for pitch, note in sounding.items() if pitch not in held or held[pitch].start != note.start]
        sounding = held
    return done + list(sounding.values())
