"""`compose`: from a song's metadata to its plan.

Owns the order of decisions: form, chords, who plays where, the notes, their performance. Each decision has its own
module; each draws its own random numbers, so that one can change without disturbing the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harmonia_lab.music.composing.accompaniment import comp, comp_ending, hold, voice_for
from harmonia_lab.music.composing.arranging import Player, enlist, levels
from harmonia_lab.music.composing.bass import bass_ending, walk
from harmonia_lab.music.composing.counterpoint import accompany_tune, lead_ending
from harmonia_lab.music.composing.drums import drum, drum_ending
from harmonia_lab.music.composing.form import Form, lay_out
from harmonia_lab.music.composing.harmony import Key, harmonise
from harmonia_lab.music.composing.melody import Voice, sing, tessitura
from harmonia_lab.music.composing.performance import perform, tidy
from harmonia_lab.music.composing.ranges import bass_range, is_kit, melody_range
from harmonia_lab.music.composing.setting import ScoreNote, Setting
from harmonia_lab.music.genres import GENRE_STYLES, nearest_genre
from harmonia_lab.music.moods import affect, expression
from harmonia_lab.music.plan import Chord, Note, Part, Plan, PlanSection, SungLine
from harmonia_lab.protocol.models import SongMetadata
from harmonia_lab.protocol.vocabulary import INSTRUMENTS, PITCH_CLASSES

__all__ = ["compose"]


def compose(metadata: SongMetadata, seconds: float, seed: int) -> Plan:
    """The whole song as notes. The same arguments give the same plan; another seed another song.

    seconds: length of the audio, at least 1; the plan has exactly that, and its last chord rings out inside it.
    """
    feeling = affect(metadata.mood)
    genre = nearest_genre(metadata.genre)
    style = GENRE_STYLES[genre]
    tonic_name, mode = metadata.key.split()
    tonic, minor = PITCH_CLASSES[tonic_name], mode == "minor"
    bar_seconds = style.beats_per_bar * 60.0 / metadata.bpm
    form = lay_out(metadata.sections, bar_seconds, seconds)
    beats = seconds * metadata.bpm / 60.0
    final = _final_beat(form, style.beats_per_bar, beats)
    draft = Setting(
        seed=seed,
        bpm=float(metadata.bpm),
        beats_per_bar=style.beats_per_bar,
        beats=beats,
        final=final,
        tonic=tonic,
        minor=minor,
        style=style,
        cues=expression(feeling),
        sections=form.sections,
        chords=(),
    )
    chords = harmonise(form, style, Key(tonic, minor), final=final, beats=beats, dice=draft.dice("harmony"))
    setting = replace(draft, chords=chords)
    band = _Band(setting, enlist(metadata.instruments))
    tunes = [band.tune(section) for section in range(len(form.sections))]
    return Plan(
        title=metadata.title,
        genre=genre,
        tonic=tonic,
        mode=mode,
        bpm=setting.bpm,
        beats_per_bar=setting.beats_per_bar,
        bars=form.bars,
        seconds=seconds,
        valence=feeling.valence,
        arousal=feeling.arousal,
        sections=tuple(PlanSection(s.kind, s.bar, s.bars, s.intensity, s.lyric_section) for s in form.sections),
        chords=tuple(Chord(c.start, c.duration, c.symbol, c.pitch_classes) for c in chords),
        parts=tuple(band.part(row, tunes) for row in range(len(band.players))),
        sung=_sung(setting, metadata, tunes),
    )


def _final_beat(form: Form, beats_per_bar: int, beats: float) -> float:
    """On a bar line; in songs shorter than two bars on any beat, so that something comes before the last chord."""
    return float(form.final_bar * beats_per_bar) if form.final_bar else float(int(0.5 * beats))


class _Band:
    """The players with what they prepared: levels by section, melodic ranges, voicings."""

    def __init__(self, setting: Setting, players: Sequence[Player]) -> None:
        self.setting = setting
        self.players = players
        self._levels = levels(setting, players)
        self._voices = [_voice(setting, player) for player in players]
        self._voicings = [voice_for(setting, p) if p.role in ("chords", "pad") else None for p in players]

    def tune(self, column: int) -> list[ScoreNote]:
        """A section's melody, in the range of whoever has it: the singer, or a second lead that plays the solo."""
        setting, section = self.setting, self.setting.sections[column]
        for row, player in enumerate(self.players):
            soloist = section.kind == "solo" and player.role == "lead" and player.nth == 1
            if soloist or (player.sings and (player.role != "lead" or self._levels[row][column])):
                tuneless = section.kind in ("intro", "outro") and player.role != "lead" and len(self.players) > 1
                return sing(setting, section, self._voices[row]) if section.has_words or not tuneless else []
        return []

    def part(self, row: int, tunes: Sequence[Sequence[ScoreNote]]) -> Part:
        setting, player = self.setting, self.players[row]
        played: list[Note] = []
        for column, section in enumerate(setting.sections):
            written = self._write(row, column, tunes[column]) if self._levels[row][column] else []
            if column == len(setting.sections) - 1:
                written += self._ending(row, tunes)
            played += perform(setting, player, section, written)
        notes = tidy(played, setting.final + setting.final_hold, monophonic=player.role in ("lead", "bass"))
        return Part(player.name, player.instrument, INSTRUMENTS[player.instrument.name].program, notes)

    def _write(self, row: int, column: int, tune: Sequence[ScoreNote]) -> list[ScoreNote]:
        setting, player, level = self.setting, self.players[row], self._levels[row][column]
        section = setting.sections[column]
        own = list(tune) if player.sings else []
        voicings = self._voicings[row]
        if voicings is not None:
            accompany = comp if player.role == "chords" else hold
            return _under(own, accompany(setting, section, player, level, voicings))
        if player.role == "drums":
            following = setting.sections[column + 1].kind if column + 1 < len(setting.sections) else "outro"
            return drum(setting, section, player, level, into=following)
        if player.role == "bass":
            return own or walk(setting, section, player, level)
        if player.sings or (section.kind == "solo" and player.nth == 1):
            return list(tune)
        return accompany_tune(setting, section, player, self._voices[row], tune)

    def _ending(self, row: int, tunes: Sequence[Sequence[ScoreNote]]) -> list[ScoreNote]:
        setting, player, voicings = self.setting, self.players[row], self._voicings[row]
        if player.role == "drums":
            return drum_ending(setting, player)
        if player.role == "bass":
            return bass_ending(setting, player)
        last: list[ScoreNote] = []
        if player.role == "lead" or player.sings:
            before = next((tune[-1].pitch for tune in reversed(tunes) if tune), None) if player.sings else None
            last = lead_ending(setting, player, self._voices[row], before)
        return _under(last, comp_ending(setting, player, voicings)) if voicings else last


def _voice(setting: Setting, player: Player) -> Voice:
    name = player.instrument.name
    span = (0, 127) if is_kit(name) else bass_range(name) if player.role == "bass" else melody_range(name)
    return tessitura(*span, setting.cues.register)


def _under(tune: Sequence[ScoreNote], chords: Sequence[ScoreNote]) -> list[ScoreNote]:
    """Tune and chords on one instrument: chords keep below the tune's lowest note."""
    if not tune:
        return list(chords)
    ceiling = min(note.pitch for note in tune)
    lowered = {(n.start, n.pitch - 12 * max(0, -(-(n.pitch - ceiling + 1) // 12))): n for n in chords}
    return [*tune, *(note._replace(pitch=pitch, accent=note.accent - 8.0) for (_, pitch), note in lowered.items())]


def _sung(setting: Setting, metadata: SongMetadata, tunes: Sequence[Sequence[ScoreNote]]) -> tuple[SungLine, ...]:
    """When each line is sung: from its first note's start to its last one's end, as written."""
    found = []
    lyric_sections = metadata.sections
    for section, tune in zip(setting.sections, tunes, strict=True):
        if section.lyric_section is None:
            continue
        name = lyric_sections[section.lyric_section].name
        for phrase in section.phrases:
            start = phrase.bar * setting.beats_per_bar
            end = start + phrase.bars * setting.beats_per_bar
            notes = [note for note in tune if start <= note.start < end]
            if phrase.line and notes:
                found.append(
                    SungLine(
                        setting.in_seconds(notes[0].start), setting.in_seconds(notes[-1].end), name, phrase.line.text
                    )
                )
    return tuple(found)
