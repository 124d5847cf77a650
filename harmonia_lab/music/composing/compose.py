"""`compose`: from a song's metadata to its plan.

Owns the order of decisions: form, chords, feel, arrangement, notes, performance. Each decision has its own module, and
each has its own random generators, so that a change to one leaves the others' results as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from harmonia_lab.music.composing.accompaniment import chord_voicings, comp_ending, comp_section, pad_section
from harmonia_lab.music.composing.arranging import Player, activity_levels, assign_roles
from harmonia_lab.music.composing.bass import bass_ending, bass_section
from harmonia_lab.music.composing.context import ScoreNote, SongContext
from harmonia_lab.music.composing.counterpoint import counter_melody_section, lead_ending
from harmonia_lab.music.composing.drums import drum_ending, drum_section
from harmonia_lab.music.composing.feel import choose_feel
from harmonia_lab.music.composing.form import choose_shape, lay_out
from harmonia_lab.music.composing.harmony import Key, harmonise
from harmonia_lab.music.composing.melody import Tessitura, melody_section, melody_tessitura
from harmonia_lab.music.composing.performance import perform, resolve_overlaps
from harmonia_lab.music.composing.ranges import bass_range, melody_range
from harmonia_lab.music.composing.themes import plan_melody
from harmonia_lab.music.composing.variations import double_hook, doubles_the_hook, last_chorus, with_pause
from harmonia_lab.music.genres import GENRE_STYLES, nearest_genre
from harmonia_lab.music.moods import mean_affect, musical_cues
from harmonia_lab.music.plan import Note, Part, Plan, PlanSection, SungLine
from harmonia_lab.music.seeds import derive_rng, derive_seed
from harmonia_lab.protocol.models import SongMetadata
from harmonia_lab.protocol.vocabulary import INSTRUMENTS, PITCH_CLASSES

__all__ = ["compose"]


def compose(metadata: SongMetadata, seconds: float, seed: int) -> Plan:
    """Return the whole song as notes. Equal arguments give equal plans; another seed or narrative gives another song.

    seconds: exact length of the audio, at least 1; the last chord decays inside it. Everything drawn at random depends
    on the seed and the narrative's digest alone, so that one who edits a line, the tempo or the key keeps the rest.
    """
    if metadata.narrative_digest:
        seed = derive_seed(seed, "narrative", metadata.narrative_digest)
    affect = mean_affect(metadata.mood)
    genre = nearest_genre(metadata.genre)
    style = GENRE_STYLES[genre]
    tonic_name, mode = metadata.key.split()
    key = Key(PITCH_CLASSES[tonic_name], mode == "minor")
    beats = seconds * metadata.bpm / 60.0
    bar_seconds = style.beats_per_bar * 60.0 / metadata.bpm
    form = lay_out(metadata.sections, bar_seconds, seconds, choose_shape(seed), metadata.sung_language)
    # A song of less than two bars ends on any beat, so that something comes before the last chord.
    final = float(form.final_bar * style.beats_per_bar or int(0.5 * beats))
    chords = harmonise(form, style, key, final=final, beats=beats, rng=derive_rng(seed, "harmony"))
    feel, cues = choose_feel(style, seed), musical_cues(affect)
    context = SongContext(seed, float(metadata.bpm), beats, final, key, style, feel, cues, form.sections, chords)
    band = _Band(context, assign_roles(metadata.instruments))
    tunes = [band.tune(section) for section in range(len(form.sections))]
    return Plan(
        title=metadata.title,
        genre=genre,
        tonic=key.tonic,
        mode=mode,
        bpm=context.bpm,
        beats_per_bar=context.beats_per_bar,
        bars=form.bars,
        seconds=seconds,
        valence=affect.valence,
        arousal=affect.arousal,
        sections=tuple(PlanSection(s.kind, s.bar, s.bars, s.intensity, s.lyric_section) for s in form.sections),
        chords=chords,
        parts=tuple(band.part(row, tunes) for row in range(len(band.players))),
        sung=_sung_lines(context, metadata, tunes),
    )


_Tune = Sequence[Sequence[ScoreNote]]
"""The melody of a section: the notes of each of its phrases; empty if nobody plays it."""


class _Band:
    """The players with their levels by section, melodic ranges and voicings. row: of a player. column: of a section."""

    def __init__(self, context: SongContext, players: Sequence[Player]) -> None:
        self.context = context
        self.players = players
        self._levels = activity_levels(context, players)
        self._tessituras = [_tessitura(context, player) for player in players]
        self._voicings = {p.name: chord_voicings(context, p) for p in players if p.role in ("chords", "pad")}
        self._plans = plan_melody(context)
        self._doubler = doubles_the_hook(players)

    def tune(self, column: int) -> list[list[ScoreNote]]:
        """Return the melody of each phrase of a section, or nothing if nobody plays one.

        It lies in the range of its player: a second lead in a solo, else the melody's player.
        """
        context, section = self.context, self.context.sections[column]
        for row, player in enumerate(self.players):
            soloist = section.kind == "solo" and player.role == "lead" and player.role_index == 1
            if soloist or (player.has_melody and (player.role != "lead" or self._levels[row][column])):
                tuneless = section.kind in ("intro", "outro") and player.role != "lead" and len(self.players) > 1
                wanted = section.has_words or not tuneless
                return melody_section(context, section, self._plans[column], self._tessituras[row]) if wanted else []
        return []

    def part(self, row: int, tunes: Sequence[_Tune]) -> Part:
        """Return one player's part: its notes of all sections and of the last chord, as played."""
        context, player = self.context, self.players[row]
        played: list[Note] = []
        for column, section in enumerate(context.sections):
            written = self._write(row, column, tunes[column]) if self._levels[row][column] else []
            if column == len(context.sections) - 1:
                written += self._ending(row, tunes)
            played += perform(context, player, section, written)
        notes = resolve_overlaps(played, context.final + context.final_hold, monophonic=player.role in ("lead", "bass"))
        return Part(player.name, player.instrument, INSTRUMENTS[player.instrument.name].program, notes)

    def _write(self, row: int, column: int, tune: _Tune) -> list[ScoreNote]:
        context, player, section = self.context, self.players[row], self.context.sections[column]
        notes = [note for phrase in tune for note in phrase]
        if player.has_melody and player.role in ("lead", "bass") and notes:
            return notes
        if section.kind == "solo" and player.role == "lead" and player.role_index == 1:
            return notes
        accompaniment = with_pause(context, player, self._accompany(row, column, tune))
        if player is self._doubler and section is last_chorus(context) and notes:
            return _without_doubles([*double_hook(context, self._tessituras[row], notes), *accompaniment])
        return _with_chords(notes, accompaniment) if player.has_melody else accompaniment

    def _accompany(self, row: int, column: int, tune: _Tune) -> list[ScoreNote]:
        context, player, level = self.context, self.players[row], self._levels[row][column]
        section = context.sections[column]
        if player.role == "chords":
            return comp_section(context, section, player, level, self._voicings[player.name][level - 1])
        if player.role == "pad":
            return pad_section(context, section, player, level, self._voicings[player.name][level - 1])
        if player.role == "drums":
            following = context.sections[column + 1].kind if column + 1 < len(context.sections) else "outro"
            return drum_section(context, section, player, level, into=following)
        if player.role == "bass":
            return bass_section(context, section, player, level)
        return (
            [] if player.has_melody else counter_melody_section(context, section, player, self._tessituras[row], tune)
        )

    def _ending(self, row: int, tunes: Sequence[_Tune]) -> list[ScoreNote]:
        context, player = self.context, self.players[row]
        if player.role == "drums":
            return drum_ending(context, player)
        if player.role == "bass":
            return bass_ending(context, player)
        last: list[ScoreNote] = []
        if player.role == "lead" or player.has_melody:
            before = next((tune[-1][-1].pitch for tune in reversed(tunes) if tune), None) if player.has_melody else None
            last = lead_ending(context, player, self._tessituras[row], before)
        if player.role == "lead":
            return last
        return _with_chords(last, comp_ending(context, player, self._voicings[player.name][1]))


def _tessitura(context: SongContext, player: Player) -> Tessitura:
    name = player.instrument.name
    # Drums have no range in `ranges.py`, and never use their tessitura.
    span = (0, 127) if player.role == "drums" else bass_range(name) if player.role == "bass" else melody_range(name)
    home = (context.key.tonic + context.rng("melody", "home").randrange(12)) % 12
    return melody_tessitura(*span, context.cues.register, home)


def _without_doubles(notes: Sequence[ScoreNote]) -> list[ScoreNote]:
    """Keep the first note for each start and pitch."""
    return list({(note.start, note.pitch): note for note in reversed(notes)}.values())


def _with_chords(tune: Sequence[ScoreNote], chords: Sequence[ScoreNote]) -> list[ScoreNote]:
    """Return melody and chords for one instrument, the chords moved by octaves below the melody's lowest note."""
    if not tune:
        return list(chords)
    ceiling = min(note.pitch for note in tune)
    lowered = {(n.start, n.pitch - 12 * max(0, -(-(n.pitch - ceiling + 1) // 12))): n for n in chords}
    return [*tune, *(note._replace(pitch=pitch, accent=note.accent - 8.0) for (_, pitch), note in lowered.items())]


def _sung_lines(context: SongContext, metadata: SongMetadata, tunes: Sequence[_Tune]) -> tuple[SungLine, ...]:
    """Return each sung line with its times as written: from the start of its first note to the end of its last one."""
    found = []
    lyric_sections = metadata.sections
    for section, tune in zip(context.sections, tunes, strict=True):
        for phrase, notes in zip(section.phrases, tune, strict=bool(tune)):
            if phrase.line and notes and section.lyric_section is not None:
                times = context.in_seconds(notes[0].start), context.in_seconds(notes[-1].end)
                found.append(SungLine(*times, lyric_sections[section.lyric_section].name, phrase.line.text))
    return tuple(found)
