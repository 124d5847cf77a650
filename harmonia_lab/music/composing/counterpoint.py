"""What further leads play: answers in the tune's breaths, a second voice under it in choruses.

Owns the counter-melody. The tune itself is `melody.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from harmonia_lab.music.composing.arranging import Player
from harmonia_lab.music.composing.form import Section
from harmonia_lab.music.composing.harmony import scale_over
from harmonia_lab.music.composing.melody import Voice
from harmonia_lab.music.composing.setting import ScoreNote, Setting

__all__ = ["accompany_tune", "lead_ending"]


def accompany_tune(
    setting: Setting, section: Section, player: Player, voice: Voice, tune: Sequence[ScoreNote]
) -> list[ScoreNote]:
    """Choruses: a voice below (a third lead: above) the tune. Elsewhere: answers while the tune rests or holds."""
    if section.kind == "chorus" and tune:
        return _second_voice(setting, voice, tune, above=player.nth % 2 == 0)
    return _answers(setting, section, player, voice, tune)


def _second_voice(setting: Setting, voice: Voice, tune: Sequence[ScoreNote], *, above: bool) -> list[ScoreNote]:
    """Thirds and sixths, mostly parallel: the nearest chord tone of that side, or scale tone on short notes."""
    octave = 12 * round((voice.centre + 4 - sum(note.pitch for note in tune) / len(tune)) / 12)
    notes = []
    for note in tune:
        chord = setting.chord_at(note.start)
        scale = scale_over(chord, setting.tonic, minor=setting.minor)
        wanted = chord.pitch_classes if note.duration >= 0.75 or note.start % 1 == 0 else scale
        sides = (3, 4, 5, 8, 9) if above else (-3, -4, -5, -8, -9)
        pitch = (
            next((note.pitch + side for side in sides if (note.pitch + side) % 12 in wanted), note.pitch - 12) + octave
        )
        while pitch > voice.high:
            pitch -= 12
        while pitch < voice.low:
            pitch += 12
        notes.append(ScoreNote(note.start, note.duration, pitch, note.accent - 6.0))
    return notes


def _answers(
    setting: Setting, section: Section, player: Player, voice: Voice, tune: Sequence[ScoreNote]
) -> list[ScoreNote]:
    """Where the tune leaves room, a short figure; where it doesn't, a line of held thirds."""
    dice = setting.dice("answers", player.name, section.kind)
    notes: list[ScoreNote] = []
    for index, phrase in enumerate(section.phrases):
        start = float(phrase.bar * setting.beats_per_bar)
        end = min(setting.final, start + phrase.bars * setting.beats_per_bar)
        if start >= end or (index % 2 != player.nth % 2 and len(section.phrases) > 1):
            continue  # players take turns, and the tune has lines to itself
        sung = [note for note in tune if start <= note.start < end]
        silent_from = max(end - setting.beats_per_bar, sung[-1].start + 0.5) if sung else start + (end - start) / 2
        room = int((end - silent_from) / 0.5)
        if room >= 3:
            notes += _figure(setting, voice, end, min(room, dice.randint(3, 4)), dice.choice((-1, 1)))
        else:
            notes += _held_thirds(setting, voice, start, end)
    return notes


def _figure(setting: Setting, voice: Voice, end: float, count: int, direction: int) -> list[ScoreNote]:
    """Eighths that lead up or down to the end of a phrase."""
    pitch = round(voice.centre) + 4 - 3 * direction
    notes = []
    for i in range(count):
        at = end - 0.5 * (count - i)
        chord = setting.chord_at(at)
        allowed = chord.pitch_classes if i % 2 == 0 else scale_over(chord, setting.tonic, minor=setting.minor)
        pitch = _toward(pitch, direction if i else 0, frozenset(allowed), voice)
        notes.append(ScoreNote(at, 0.5, pitch, -6.0))
    return notes


def _held_thirds(setting: Setting, voice: Voice, start: float, end: float) -> list[ScoreNote]:
    pitch = round(voice.centre)
    notes = []
    for chord in setting.chords:
        if start - 1e-6 <= chord.start < end - 1e-6:
            pitch = _toward(pitch, 0, frozenset(chord.pitch_classes[1:2]), voice)
            notes.append(ScoreNote(chord.start, min(chord.end, end) - chord.start, pitch, -12.0))
    return notes


def _toward(pitch: int, direction: int, allowed: frozenset[int], voice: Voice) -> int:
    """The nearest allowed pitch in that direction; direction 0: the nearest at all."""
    reach = range(voice.low, voice.high + 1)
    options = [p for p in reach if p % 12 in allowed and (p - pitch) * direction >= bool(direction)]
    return min(options or [p for p in reach if p % 12 in allowed], key=lambda p: (abs(p - pitch), p))


def lead_ending(setting: Setting, player: Player, voice: Voice, before: int | None) -> list[ScoreNote]:
    """The last note: the first lead on the tonic nearest to where its tune ended, the second on the third."""
    chord = setting.chords[-1]
    tone = chord.pitch_classes[player.nth % 3]
    near = voice.centre + 2 if before is None else before
    options = [p for p in range(voice.low, voice.high + 1) if p % 12 == tone]
    pitch = min(options, key=lambda p: (abs(p - near), p))
    return [ScoreNote(setting.final, setting.final_hold, pitch, 2.0)]
