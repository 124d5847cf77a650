"""Chords and pads: the genre's comping patterns over smoothly connected voicings.

Owns the comping patterns by name (`GenreStyle.comping`). `voicing.py` makes the voicings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from harmonia_lab.music.composing.arranging import Player
from harmonia_lab.music.composing.context import ScoreNote, SongContext
from harmonia_lab.music.composing.form import Section
from harmonia_lab.music.composing.ranges import SUSTAINED, chord_range
from harmonia_lab.music.composing.voicing import voice_lead
from harmonia_lab.music.plan import Chord

__all__ = ["Voicings", "chord_voicings", "comp_ending", "comp_section", "pad_section"]

VoicingPart = Literal["all", "low", "upper"] | int
ChordHit = tuple[float, float, VoicingPart, float]
"""Beat in the bar, length in beats, which notes of the voicing (a number is an index into it, and wraps round an octave
higher), accent."""

Bars = tuple[tuple[ChordHit, ...], ...]
"""Bars, played one after the other and then again from the first."""


def _run(indices: Sequence[int], step: float, length: float) -> tuple[ChordHit, ...]:
    """Return an arpeggio: the voicing's notes at `indices`, one every `step` beats, each lasting `length` beats."""
    return tuple((i * step, length, index, 4.0 if i * step % 2 == 0 else -4.0) for i, index in enumerate(indices))


def _chug(length: float, part: VoicingPart) -> tuple[ChordHit, ...]:
    """Return a bar of repeated eighths, each lasting `length` beats, accented on the beats."""
    return tuple((i / 2, length, part, 4.0 if i % 2 == 0 else -7.0) for i in range(8))


_COMPING: dict[str, tuple[Bars, Bars]] = {
    "push": (
        (((0, 1.9, "all", 0), (2, 1.9, "all", -3)), ((0, 1.4, "all", 0), (1.5, 2.3, "all", -2))),
        (
            ((0, 0.9, "all", 4), (1, 0.45, "upper", -6), (1.5, 1.4, "all", 2), (3, 0.9, "upper", -3)),
            ((0, 0.9, "all", 4), (1, 0.9, "upper", -5), (2, 0.9, "all", 1), (3, 0.45, "upper", -5),
             (3.5, 0.45, "all", 2)),
        ),
    ),
    "eighths": ((_chug(0.3, "low"),), (_chug(0.45, "all"),)),
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
        (_chug(0.42, "all"), ((0, 0.4, "all", 4), (1, 0.4, "all", 0), (1.5, 0.4, "all", -4),
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
"""Name → (light, full)."""

_SECOND = {
    "push": "arpeggio", "eighths": "arpeggio", "arpeggio": "push", "fingerpick": "push", "boom chick": "fingerpick",
    "charleston": "stabs", "shuffle": "stabs", "offbeat": "arpeggio", "broken": "stabs", "stabs": "arpeggio",
    "alberti": "push", "power": "eighths", "bossa": "stabs", "skank": "push", "oom pah": "oom pah", "ostinato": "push",
}  # fmt: skip
"""The pattern that a second chord instrument plays, by the first one's, so that it doesn't double the first."""


Voicings = Mapping[Chord, tuple[int, ...]]
"""A chord instrument's voicing of each chord: pitches from the lowest up."""


def chord_voicings(context: SongContext, player: Player) -> tuple[Voicings, Voicings]:
    """Return the player's voicings for light playing, of three voices, and for full playing, of four, which lie higher.

    Further players of a role play higher.
    """
    if context.style.comping == "power" and player.role == "chords" and player.role_index == 0:
        power = {chord: _power_chord(chord) for chord in context.chords}
        return power, power
    low, high = chord_range(player.instrument.name)
    low = min(low + 5 * player.role_index, high - 17)
    rise = min(5, high - 17 - low)
    light = voice_lead(context.chords, low, low + 17, 3)
    full = voice_lead(context.chords, low + rise, min(high, low + rise + 19), 4)
    return dict(zip(context.chords, light, strict=True)), dict(zip(context.chords, full, strict=True))


def _power_chord(chord: Chord) -> tuple[int, ...]:
    """Return root, fifth and octave from E2 upwards, and the third above the octave.

    A lower third would be muddy under distortion. Without any, one would hear the major third that distortion itself
    adds, and minor chords must stay minor.
    """
    low = 40 + (chord.root - 40) % 12
    return low, low + 7, low + 12, low + 12 + (chord.pitch_classes[1] - chord.root) % 12


def comp_section(
    context: SongContext, section: Section, player: Player, level: int, voicings: Voicings
) -> list[ScoreNote]:
    """Return a chord instrument's notes for one section. level: of `arranging.activity_levels`."""
    start, end = context.span(section)
    name = context.style.comping
    bars = _COMPING[_SECOND[name] if player.role_index % 2 else name][level - 1]
    # The song's first section starts with the pattern's first bar, which has the downbeat.
    first = context.rng("comping", player.name, section.kind).randrange(len(bars)) if section.bar else 0
    legato = 1.0 if context.cues.articulation > 0.9 else 0.6 + 0.4 * context.cues.articulation
    notes: list[ScoreNote] = []
    for number, bar in enumerate(range(round(start), round(end), context.beats_per_bar)):
        for beat, length, part, accent in bars[(number + first) % len(bars)]:
            at = bar + beat
            if at < end - 1e-6:
                chord = context.chord_at(at)
                longest = min(chord.end, end) - at
                pitches = _pitches(voicings[chord], part)
                notes += [ScoreNote(at, min(length * legato, longest), pitch, accent) for pitch in pitches]
        if player.without_bass and player.role_index == 0:
            notes += _left_hand(context, bar, end)
    return _without_doubles(notes)


def _pitches(voicing: tuple[int, ...], part: VoicingPart) -> tuple[int, ...]:
    if isinstance(part, int):
        octave, index = divmod(part, len(voicing))
        return (voicing[index] + 12 * octave,)
    return {"all": voicing, "low": voicing[:2], "upper": voicing[1:]}[part]


def _left_hand(context: SongContext, bar: int, end: float) -> list[ScoreNote]:
    """Return roots on the first beat and, in 4/4, the third beat of a bar, for bands without a bass."""
    beats, length = ([bar, bar + 2], 1.9) if context.beats_per_bar == 4 else ([bar], 2.8)
    return [
        ScoreNote(at, min(length, end - at, chord.end - at), 36 + chord.root, -2.0)
        for at in beats
        if at < end
        for chord in [context.chord_at(at)]
    ]


def _without_doubles(notes: list[ScoreNote]) -> list[ScoreNote]:
    """Keep one note for each start and pitch: an instrument can't play the same pitch twice at once."""
    return list({(note.start, note.pitch): note for note in notes}.values())


def comp_ending(context: SongContext, player: Player, voicings: Voicings) -> list[ScoreNote]:
    """Return the last chord, held."""
    chord = context.chords[-1]
    pitches = list(voicings[chord])
    if player.without_bass and player.role_index == 0 and player.role == "chords":
        pitches.append(36 + chord.root)
    return _without_doubles([ScoreNote(context.final, context.final_hold, pitch, 3.0) for pitch in pitches])


def pad_section(context: SongContext, section: Section, player: Player, voicings: Voicings) -> list[ScoreNote]:
    """Return a pad's notes for one section: held chords; notes that two chords share are tied, up to eight beats.

    Instruments that decay, such as a vibraphone, repeat them with each chord.
    """
    start, end = context.span(section)
    sounding: dict[int, ScoreNote] = {}
    finished: list[ScoreNote] = []
    for chord in context.chords_between(start, end):
        stop = min(chord.end, end)
        now: dict[int, ScoreNote] = {}
        for pitch in voicings[chord]:
            before = sounding.pop(pitch, None)
            if before and player.instrument.name in SUSTAINED and stop - before.start <= 8.0:
                now[pitch] = before._replace(duration=stop - before.start)
            else:
                now[pitch] = ScoreNote(chord.start, stop - chord.start, pitch)
                finished += [before] if before else []
        finished += sounding.values()
        sounding = now
    return finished + list(sounding.values())
