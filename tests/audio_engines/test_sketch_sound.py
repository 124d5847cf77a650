"""What a listener's tools hear in rendered songs: tempo, key, loudness over the form, no holes, no clipped samples."""

import contextlib

import librosa
import numpy as np
import pytest
from scipy.signal import resample_poly

from harmonia_lab.audio_engines.sketch.engine import SAMPLE_RATE, SketchEngine
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.music.composing import compose
from harmonia_lab.music.moods import suggest_features
from harmonia_lab.protocol.models import SongMetadata

LYRICS = """[Verse]
The lighthouse keeper counts the waves tonight
And every boat is calling out to him

[Chorus]
Hold on to the light
The river runs wild and the wind is cold
"""
SONGS = [
    ("pop", "hopeful", 1), ("jazz", "nostalgic", 2), ("folk", "tender", 3), ("waltz", "romantic", 4),
    ("house", "energetic", 5), ("ambient", "dreamy", 6), ("metal", "angry", 7), ("bossa nova", "playful", 8),
    ("hip hop", "dark", 9),
]  # fmt: skip

# Krumhansl's probe-tone ratings (1990, p. 30).
MAJOR = [6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88]
MINOR = [6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17]
RATE = 22_050


def heard_key(audio):
    chroma = librosa.feature.chroma_cqt(y=audio, sr=RATE).mean(axis=1)
    fits = {
        (tonic, mode): np.corrcoef(chroma, np.roll(profile, tonic))[0, 1]
        for tonic in range(12)
        for mode, profile in (("major", MAJOR), ("minor", MINOR))
    }
    return max(fits, key=fits.get)


@pytest.fixture(scope="module", params=SONGS, ids=lambda song: song[0])
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


def test_the_tempo_and_key_that_are_heard_are_the_plans(song):
    plan, _, mix = song
    audio = resample_poly(mix.mean(axis=0), 147, 320)
    tempo = float(np.atleast_1d(librosa.beat.beat_track(y=audio, sr=RATE)[0])[0])
    assert min(abs(tempo * factor / plan.bpm - 1) for factor in (0.5, 1, 2)) < 0.04
    relative = ((plan.tonic + 9) % 12, "minor") if plan.mode == "major" else ((plan.tonic + 3) % 12, "major")
    assert heard_key(audio) in ((plan.tonic, plan.mode), relative)


def test_the_chorus_is_louder_than_the_verse_and_nothing_is_silent_or_clipped(song):
    plan, stems, mix = song
    loudness = {}
    for section in plan.sections:
        start = round(section.bar * plan.seconds_per_bar * SAMPLE_RATE)
        end = round((section.bar + section.bars) * plan.seconds_per_bar * SAMPLE_RATE)
        loudness.setdefault(section.name, 20 * np.log10(np.sqrt(np.mean(mix[:, start:end] ** 2))))
    assert loudness["chorus"] > loudness["verse"] + 2
    windows = np.sqrt((mix[:, : mix.shape[1] // 4800 * 4800].reshape(2, -1, 4800) ** 2).mean(axis=(0, 2)))
    assert np.mean(windows < 10 ** (-60 / 20)) < 0.1
    for stem in stems:
        assert np.abs(stem.audio).max() < 0.95
        assert np.abs(stem.audio[:, -480:]).max() < 0.01
