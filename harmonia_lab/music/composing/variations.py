"""What keeps a song from repeating itself: the pause before the last chorus, and the hook's second voice in it.

Owns which notes a pause leaves out, and who doubles the hook. Other differences between a section and its return stand
where their notes are written: patterns in `drums.py`, `bass.py` and `accompaniment.py`, the levels in `arranging.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from harmonia_lab.music.composing.arranging import Player
from harmonia_lab.music.composing.context import ScoreNote, SongContext
from harmonia_lab.music.composing.counterpoint import second_voice
from harmonia_lab.music.composing.form import Section
from harmonia_lab.music.composing.melody import Tessitura

__all__ = ["double_hook", "doubles_the_hook", "last_chorus", "with_pause"]

_LONGEST_PAUSE = 2.4
"""Seconds that the band may be silent."""


def last_chorus(context: SongContext) -> Section | None:
    """Return the song's last chorus, if there is one before it."""
    return next((s for s in reversed(context.sections) if s.kind == "chorus" and s.occurrence), None)


def with_pause(context: SongContext, player: Player, notes: Sequence[ScoreNote]) -> list[ScoreNote]:
    """Return an accompaniment's notes without those that fall into the song's pause (`feel.Feel.pause`).

    A stop is the last bar before the last chorus: the band hits its first beat and rests, but for the drums' fill. A
    breakdown is the last chorus's first line, without drums and bass.
    """
    section = last_chorus(context)
    if section is None or context.feel.pause == "none":
        return list(notes)
    start, end = context.span(section)
    if context.feel.pause == "breakdown":
        end = context.span(section.phrases[0])[1]
        silent = player.role in ("drums", "bass") and not player.has_melody
        return [note for note in notes if not (silent and start - 1e-6 <= note.start < end - 1e-6)]
    beats = context.beats_per_bar
    if context.in_seconds(beats) > _LONGEST_PAUSE:
        beats = max(1, beats // 2)
    first, kept_from = start - beats, start - 1 if player.role == "drums" else start
    kept = []
    for note in notes:
        if note.start >= kept_from - 1e-6 or note.start < first - 1e-6:
            longest = first - note.start if note.start < first - 1e-6 else note.duration
            kept.append(note._replace(duration=min(note.duration, longest)))
        elif note.start <= first + 1e-6:
            kept.append(note._replace(duration=min(note.duration, 0.5)))
    return kept


def doubles_the_hook(players: Sequence[Player]) -> Player | None:
    """Return who plays along with the hook in the last chorus: a pad, else chords; nobody if a second lead does."""
    if any(player.role == "lead" and player.role_index for player in players):
        return None
    others = [player for player in players if player.role in ("pad", "chords") and not player.has_melody]
    return min(others, key=lambda player: ("pad", "chords").index(player.role), default=None)


def double_hook(context: SongContext, tessitura: Tessitura, tune: Sequence[ScoreNote]) -> list[ScoreNote]:
    """Return the tune in octaves, or in thirds and sixths (`feel.Feel.last_chorus`), in a range, without its words."""
    if context.feel.last_chorus == "harmony":
        voice = second_voice(context, tessitura, tune, above=False)
        return [note._replace(accent=note.accent + 8.0) for note in voice]
    mean = sum(note.pitch for note in tune) / len(tune)
    shift = min((0, -12, 12), key=lambda octave: abs(mean + octave - tessitura.centre))
    return [
        note._replace(pitch=note.pitch + shift, lyric="", accent=note.accent + 2.0)
        for note in tune
        if note.pitch + shift in tessitura.pitches
    ]
