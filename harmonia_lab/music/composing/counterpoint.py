"""What the second and third lead play: a second voice in choruses, answers to the melody elsewhere.

Owns the counter-melodies, and the last note of every player of a melody. The melody itself is in `melody.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from harmonia_lab.music.composing.arranging import Player
from harmonia_lab.music.composing.context import ScoreNote, SongContext
from harmonia_lab.music.composing.form import Section
from harmonia_lab.music.composing.harmony import scale_over
from harmonia_lab.music.composing.melody import Tessitura
from harmonia_lab.music.composing.ranges import nearest_pitch

__all__ = ["counter_melody_section", "lead_ending", "second_voice"]


def counter_melody_section(
    context: SongContext,
    section: Section,
    player: Player,
    tessitura: Tessitura,
    tune: Sequence[Sequence[ScoreNote]],
) -> list[ScoreNote]:
    """Return a voice below the tune (for a third lead: above) in choruses; elsewhere answers while the tune rests.

    tune: the notes of each of the section's phrases, or nothing.
    """
    if section.kind == "chorus" and tune:
        notes = [note for phrase in tune for note in phrase]
        return second_voice(context, tessitura, notes, above=player.role_index % 2 == 0)
    return _answers(context, section, player, tessitura, tune)


def second_voice(
    context: SongContext, tessitura: Tessitura, tune: Sequence[ScoreNote], *, above: bool
) -> list[ScoreNote]:
    """Return thirds and sixths, mostly parallel: the nearest chord tone on that side, on short notes any scale tone."""
    octave = 12 * round((tessitura.centre + 4 - sum(note.pitch for note in tune) / len(tune)) / 12)
    intervals = (3, 4, 5, 8, 9) if above else (-3, -4, -5, -8, -9)
    notes = []
    for note in tune:
        chord = context.chord_at(note.start)
        stable = note.duration >= 0.75 or note.start % 1 == 0
        allowed = chord.pitch_classes if stable else scale_over(chord, context.key)
        interval = next((interval for interval in intervals if (note.pitch + interval) % 12 in allowed), -12)
        pitch = note.pitch + interval + octave
        while pitch > tessitura.high:
            pitch -= 12
        while pitch < tessitura.low:
            pitch += 12
        notes.append(ScoreNote(note.start, note.duration, pitch, note.accent - 6.0))
    return notes


def _answers(
    context: SongContext,
    section: Section,
    player: Player,
    tessitura: Tessitura,
    tune: Sequence[Sequence[ScoreNote]],
) -> list[ScoreNote]:
    """Return a short figure at the end of a phrase if the tune rests there, else held thirds through the phrase."""
    rng = context.rng("answers", player.name, section.kind)
    notes: list[ScoreNote] = []
    for index, phrase in enumerate(section.phrases):
        start, end = context.span(phrase)
        if start >= end or (index % 2 != player.role_index % 2 and len(section.phrases) > 1):
            continue  # the players alternate, and each leaves every other phrase to the tune
        sung = tune[index] if tune else ()
        # A held last note may be answered after half a beat.
        silent_from = max(end - context.beats_per_bar, sung[-1].start + 0.5) if sung else start + (end - start) / 2
        eighths = int((end - silent_from) / 0.5)
        if eighths >= 3:
            notes += _figure(context, tessitura, end, min(eighths, rng.randint(3, 4)), rng.choice((-1, 1)))
        else:
            notes += _held_thirds(context, tessitura, start, end)
    return notes


def _figure(context: SongContext, tessitura: Tessitura, end: float, count: int, direction: int) -> list[ScoreNote]:
    """Return `count` eighths that rise (direction 1) or fall (−1) to the end of a phrase."""
    pitch = round(tessitura.centre) + 4 - 3 * direction
    notes = []
    for i in range(count):
        at = end - 0.5 * (count - i)
        chord = context.chord_at(at)
        allowed = chord.pitch_classes if i % 2 == 0 else scale_over(chord, context.key)
        pitch = _nearest(pitch, direction if i else 0, allowed, tessitura)
        notes.append(ScoreNote(at, 0.5, pitch, -6.0))
    return notes


def _held_thirds(context: SongContext, tessitura: Tessitura, start: float, end: float) -> list[ScoreNote]:
    pitch = round(tessitura.centre)
    notes = []
    for chord in context.chords_between(start, end):
        pitch = _nearest(pitch, 0, chord.pitch_classes[1:2], tessitura)
        notes.append(ScoreNote(chord.start, min(chord.end, end) - chord.start, pitch, -12.0))
    return notes


def _nearest(pitch: int, direction: int, allowed: Collection[int], tessitura: Tessitura) -> int:
    """Return the nearest pitch of the allowed pitch classes, above (1), below (−1) or on either side (0)."""
    options = [p for p in tessitura.pitches if p % 12 in allowed]
    return nearest_pitch([p for p in options if (p - pitch) * direction >= bool(direction)] or options, pitch)


def lead_ending(context: SongContext, player: Player, tessitura: Tessitura, before: int | None) -> list[ScoreNote]:
    """Return the last note: the tonic for the first lead, the third for the second, the fifth for the third.

    before: the pitch that it should be near to.
    """
    tone = context.chords[-1].pitch_classes[player.role_index % 3]
    near = tessitura.centre + 2 if before is None else before
    pitch = nearest_pitch([p for p in tessitura.pitches if p % 12 == tone], near)
    return [ScoreNote(context.final, context.final_hold, pitch, 2.0)]
