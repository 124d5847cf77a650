"""Plans to render, and how: shared by MusicGen's tests."""

from dataclasses import replace

from harmonia_lab.audio_engines.musicgen.engine import MusicGenEngine
from harmonia_lab.audio_engines.musicgen.settings import Settings
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.music.plan import Chord, Note, Part, Plan, PlanSection
from harmonia_lab.protocol.models import SongMetadata
from harmonia_lab.protocol.vocabulary import INSTRUMENTS


def plan(seconds=1.0, instruments=("piano", "flute", "drums"), pitch=64):
    metadata = SongMetadata(
        title="Harbour Light",
        lyrics="",
        genre="folk",
        mood=["nostalgic"],
        bpm=96,
        key="A minor",
        instruments=[{"name": name, "role": INSTRUMENTS[name].role} for name in instruments],
    )
    parts = tuple(Part(i.name, i, 0, (Note(0.0, 8.0, pitch, 90),)) for i in metadata.instruments)
    return Plan(
        title="Harbour Light", genre="folk", tonic=9, mode="minor", bpm=96.0, beats_per_bar=4, bars=2, seconds=seconds,
        valence=0.0, arousal=0.0, sections=(), chords=(Chord(0, 8, "Am", (9, 0, 4)),), parts=parts, sung=(),
        metadata=metadata,
    )  # fmt: skip


def engine(folder, **settings):
    return MusicGenEngine(str(folder), Settings.of(settings))


def render(engine, song=None, seed=0, progress=None, cancel=None, finished=None):
    song = song or plan()
    seeds = {part.name: seed + len(part.name) for part in song.parts}
    return engine.render(song.parts, song, seeds, progress or (lambda _: None), cancel or CancelToken(), finished or {})


def sectioned(seconds=20.0, sections=(("intro", 2, 0.3), ("chorus", 3, 0.85), ("outro", 3, 0.4))):
    """A plan with sections of (name, bars, intensity), bars of 2.5 s; the flute rests in the first one."""
    song = plan(seconds)
    made, bar = [], 0
    for name, bars, intensity in sections:
        made.append(PlanSection(name, bar, bars, intensity))
        bar += bars
    from_beat = {"flute": made[0].bars * 4}
    parts = tuple(
        replace(
            part,
            notes=tuple(
                Note(beat, 1.0, 60 + beat * 7 % 12, 90) for beat in range(from_beat.get(part.name, 0), bar * 4)
            ),
        )
        for part in song.parts
    )
    chords = (Chord(0, bar * 4, "Am", (9, 0, 4)),)
    return replace(song, bars=bar, sections=tuple(made), parts=parts, chords=chords)
