"""Chords and pads: the genre's comping patterns over smoothly connected voicings.

Owns how they are played. `comping.py` has the patterns, `voicing.py` makes the voicings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harmonia_lab.music.composing.arranging import Player
from harmonia_lab.music.composing.comping import COMPING, SECOND_COMPING, VoicingPart
from harmonia_lab.music.composing.context import ScoreNote, SongContext
from harmonia_lab.music.composing.form import Section
from harmonia_lab.music.composing.ranges import SUSTAINED, chord_range, nearest_pitch
from harmonia_lab.music.composing.voicing import voice_lead
from harmonia_lab.music.plan import Chord

__all__ = ["Voicings", "chord_voicings", "comp_ending", "comp_section", "pad_section"]

Voicings = Mapping[Chord, tuple[int, ...]]
"""A chord instrument's voicing of each chord: pitches from the lowest up."""


def chord_voicings(context: SongContext, player: Player) -> tuple[Voicings, Voicings]:
    """Return the player's voicings for light playing, of three voices, and for full playing, of four, which lie higher.

    Further players of a role play higher.
    """
    if context.style.power_chords and player.role == "chords" and player.role_index == 0:
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
    contrast = section.kind in ("bridge", "solo") or (section.kind == "verse" and section.occurrence)
    name = context.feel.contrast if contrast else context.feel.comping
    bars = COMPING[SECOND_COMPING[name] if player.role_index % 2 else name][level - 1]
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


def pad_section(
    context: SongContext, section: Section, player: Player, level: int, voicings: Voicings
) -> list[ScoreNote]:
    """Return a pad's notes for one section: held chords; notes that two chords share are tied, up to eight beats.

    In light later verses a counter-line takes their place. Instruments that decay, such as a vibraphone, repeat notes
    with each chord.
    """
    start, end = context.span(section)
    chords = context.chords_between(start, end)
    if section.kind == "verse" and section.occurrence and level == 1 and chords:
        return _counter_line(context, chords, end, voicings)
    sounding: dict[int, ScoreNote] = {}
    finished: list[ScoreNote] = []
    for chord in chords:
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


def _counter_line(context: SongContext, chords: Sequence[Chord], end: float, voicings: Voicings) -> list[ScoreNote]:
    """Return one note for each chord, a third or seventh if it has one near, and a passing note into the next chord."""
    pitch = voicings[chords[0]][-1]
    notes: list[ScoreNote] = []
    for chord in chords:
        guides = {chord.pitch_classes[i] for i in (1, -1)}
        target = nearest_pitch([p for p in range(pitch - 6, pitch + 7) if p % 12 in guides], pitch)
        if notes and abs(target - pitch) in (3, 4) and notes[-1].duration >= 1.5:
            between = [p for p in range(min(pitch, target) + 1, max(pitch, target)) if p % 12 in context.key.scale]
            notes[-1] = notes[-1]._replace(duration=notes[-1].duration - 0.5)
            notes += [ScoreNote(chord.start - 0.5, 0.5, nearest_pitch(between, pitch), 6.0)] if between else []
        low, high = min(voicings[chord]), max(voicings[chord])
        pitch = target if low <= target <= high else nearest_pitch(voicings[chord], target)
        notes.append(ScoreNote(chord.start, min(chord.end, end) - chord.start, pitch, 8.0))
    return notes
