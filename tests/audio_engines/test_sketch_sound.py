"""Rendered songs have the plan's tempo and key, louder choruses, no silent gaps and no clipped samples."""

import contextlib

import numpy as np
import pytest

from harmonia_lab.audio_engines.sketch.engine import SAMPLE_RATE, SketchEngine
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.music.composing import compose
from harmonia_lab.music.moods import suggest_features
from harmonia_lab.protocol.models import SongMetadata
from tests import audio_analysis

LYRICS = """[Verse]
The lighthouse keeper counts the waves tonight
And every boat is calling out to him

[Chorus]
Hold on to the light
The river runs wild and the wind is cold
"""
SONGS = [
    ("pop", "hopeful", 1), ("waltz", "romantic", 4), ("metal", "angry", 7), ("bossa nova", "playful", 8),
]  # fmt: skip
MORE = [
    ("jazz", "nostalgic", 2), ("folk", "tender", 3), ("house", "energetic", 5), ("ambient", "dreamy", 6),
    ("hip hop", "dark", 9),
]  # fmt: skip


@pytest.fixture(
    scope="module",
    params=[*SONGS, *(pytest.param(song, marks=pytest.mark.stress) for song in MORE)],
    ids=lambda song: song[0],
)
def song(request):
    """(plan, stems, the plain sum of the stems) of a 25 s song."""
    genre, mood, seed = request.param
    found = suggest_features(genre, [mood], seed)
    metadata = SongMetadata(
        title="x",
        lyrics=LYRICS,
        genre=genre,
        mood=[mood],
        bpm=found.bpm,
        key=found.key,
        instruments=list(found.instruments),
    )
    plan = compose(metadata, 25, seed)
    with contextlib.closing(SketchEngine()) as engine:
        stems = engine.render(plan.parts, plan, {}, lambda _: None, CancelToken(), {})
    return plan, stems, sum(stem.audio for stem in stems)


def test_tempo_and_key_of_the_audio_are_the_plans(song):
    plan, _, mix = song
    sound = audio_analysis.mono(mix)
    # Drums in half time leave the octave open; `make bench-songs` counts octaves too, over all genres.
    assert min(audio_analysis.tempo_error(sound, bpm) for bpm in (plan.bpm, plan.bpm / 2)) < 0.02
    assert audio_analysis.estimate_key(sound) in audio_analysis.relative_keys(plan.tonic, plan.mode)


def test_the_chorus_is_louder_than_the_verse_and_nothing_is_silent_or_clipped(song):
    plan, stems, mix = song
    loudness = {}
    for section in plan.sections:
        start = round(section.bar * plan.seconds_per_bar * SAMPLE_RATE)
        end = round((section.bar + section.bars) * plan.seconds_per_bar * SAMPLE_RATE)
        loudness.setdefault(section.name, 20 * np.log10(np.sqrt(np.mean(mix[:, start:end] ** 2))))
    assert loudness["chorus"] > loudness["verse"] + 2
    assert audio_analysis.silent_share(mix, SAMPLE_RATE) < 0.1
    for stem in stems:
        assert np.abs(stem.audio).max() < 0.95
        assert np.abs(stem.audio[:, -480:]).max() < 0.01
