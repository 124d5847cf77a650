"""What further leads play: answers in the tune's breaths, a second voice under it in choruses.

Owns the counter-melody. The tune itself is `melody.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from harmonia_lab.engines.composing.arranging import Player
from harmonia_lab.engines.composing.form import Section
from harmonia_lab.engines.composing.harmony import scale_over
from harmonia_lab.engines.composing.melody import Voice
from harmonia_lab.engines.composing.setting import ScoreNote, Setting

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
    dice = setting.dice("answers", player.name, section.kind)
    notes: list[ScoreNote] = []
    for index, phrase in enumerate(section.phrases):
        start = float(phrase.bar * setting.beats_per_bar)
        end = min(setting.final, start + phrase.bars * setting.beats_per_bar)
        sung = [note for note in tune if start <= note.start < end]
        silent_from = max(end - setting.beats_per_bar, sung[-1].start + 1.0) if sung else start + (end - start) / 2
        count = int((end - silent_from) / 0.5)
        if count < 2 or (index % 2 == 0 and player.nth > 1):
            continue
        direction = dice.choice((-1, 1))
        pitch = round(voice.centre) + dice.randint(2, 7)
        for i in range(dice.randint(2, min(4, count))):
            at = end - 0.5 * count + 0.5 * i
            chord = setting.chord_at(at)
            allowed = chord.pitch_classes if i % 2 == 0 else scale_over(chord, setting.tonic, minor=setting.minor)
            pitch = _toward(pitch, direction if i else 0, frozenset(allowed), voice)
            notes.append(ScoreNote(at, 0.5, pitch, -6.0))
        last = notes[-1]
        notes[-1] = last._replace(duration=max(0.5, min(1.5, end - last.start)))
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
