"""A plan's chroma says what is played, when, and nothing of bass and drums."""

import numpy as np
import pytest

from harmonia_lab.audio_engines.musicgen.plan_chroma import plan_chroma
from harmonia_lab.music.plan import Chord, Note, Part, Plan
from harmonia_lab.protocol.models import Instrument

HOP, WINDOW = 4096 / 32000, 16384 / 32000


def part(name, role, *notes):
    return Part(name, Instrument(name=name, role=role), 0, tuple(Note(*n) for n in notes))


CHORDS = (Chord(0, 4, "Am", (9, 0, 4)), Chord(4, 4, "F", (5, 9, 0)))


def plan(*parts, chords=CHORDS, seconds=8.0):
    return Plan(
        title="x", genre="folk", tonic=9, mode="minor", bpm=60.0, beats_per_bar=4, bars=2, seconds=seconds, valence=0.0,
        arousal=0.0, sections=(), chords=chords, parts=parts, sung=(),
    )  # fmt: skip


def leading(plan, frames=63, **options):
    return plan_chroma(plan, frames, hop_s=HOP, window_s=WINDOW, **options)


def at(seconds):
    return round(seconds / HOP)


def test_the_melody_leads_and_the_chord_fills_its_rests():
    chroma = leading(plan(part("flute", "lead", (0, 2, 76, 90), (6, 2, 72, 90))))
    assert chroma.shape == (63, 12)
    assert set(np.unique(chroma)) == {0.0, 1.0}
    assert (chroma.sum(axis=1) == 1).all()
    assert chroma[at(1)].argmax() == 4
    assert chroma[at(3)].argmax() == 9  # the root of Am, while the flute rests
    assert chroma[at(5)].argmax() == 5
    assert chroma[at(7)].argmax() == 0


def test_bass_and_drums_are_not_heard():
    chroma = leading(plan(part("bass guitar", "bass", (0, 8, 40, 127)), part("drums", "drums", (0, 8, 38, 127))))
    assert chroma[at(2)].argmax() == 9


def test_a_note_is_where_it_sounds_to_within_a_frame():
    chroma = leading(plan(part("flute", "lead", (2, 1, 66, 127)), chords=()))
    sounding = np.flatnonzero(chroma[:, 6]) * HOP
    assert 2 - WINDOW <= sounding.min() <= 2
    assert 3 <= sounding.max() <= 3 + WINDOW


def test_the_last_chord_goes_on_behind_the_end():
    assert (leading(plan(), frames=235)[at(10) :].argmax(axis=1) == 5).all()


def test_a_parts_own_chroma_has_its_notes_alone_and_the_chord_where_it_rests():
    lead = part("flute", "lead", (0, 8, 76, 127))
    bass = part("bass guitar", "bass", (0, 2, 43, 60))
    pad = part("strings", "pad", (0, 4, 57, 80), (0, 4, 60, 80), (0, 4, 64, 80))
    song = plan(lead, bass, pad)
    assert leading(song, part=bass)[at(1)].argmax() == 7
    assert leading(song, part=bass)[at(3)].argmax() == 9
    assert leading(song, part=pad)[at(2)].argmax() == 9  # the chord's root, of notes of equal strength
    assert np.array_equal(leading(song, part=lead), leading(plan(lead)))
    assert np.array_equal(leading(song, part=bass), leading(plan(bass), part=bass))
    assert leading(song)[at(1)].argmax() == 4


def test_without_argmax_all_that_sounds_is_there():
    chroma = leading(plan(part("piano", "chords", (0, 4, 57, 90), (0, 4, 64, 90))), argmax=False)
    assert chroma[at(2)].max() == pytest.approx(1)
    assert chroma[at(2), 9] == pytest.approx(chroma[at(2), 4], rel=0.05)
    assert chroma[at(2), 1] == 0


def test_the_chroma_is_that_of_the_recording(tmp_path):
    """The conditioner's own extractor, on the plan's melody as sine tones, agrees wherever the tone is steady."""
    import torch

    from harmonia_lab.audio_engines.musicgen.audiocraft_standins import load_audiocraft

    load_audiocraft()
    from audiocraft.modules.chroma import ChromaExtractor

    pitches = [69, 72, 76, 71, 74, 65, 67, 60]
    melody = plan(part("flute", "lead", *[(beat, 1, pitch, 100) for beat, pitch in enumerate(pitches)]))
    time = np.arange(8 * 32000) / 32000
    frequency = 440 * 2 ** ((np.repeat(pitches, 32000) - 69) / 12)
    wav = torch.from_numpy(np.sin(2 * np.pi * np.cumsum(frequency) / 32000).astype(np.float32))[None]
    assert len(time) == wav.shape[-1]
    heard = ChromaExtractor(32000, radix2_exp=14, argmax=True)(wav)[0].numpy()
    computed = leading(melody, frames=len(heard))
    agree = (heard.argmax(axis=1) == computed.argmax(axis=1)).mean()
    assert agree >= 0.95
