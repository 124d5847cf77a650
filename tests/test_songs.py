"""Stories become songs: is the title about the story, are the lyrics words, and does the audio have the tempo, key and
loudness of its metadata? Two stories by default, ten in `make stress`."""

import functools
import json
from pathlib import Path

import pytest
import soundfile

from harmonia_lab import Lab
from harmonia_lab.metadata_engines.prompting.story import read_story
from harmonia_lab.metadata_engines.prompting.words import content_stems
from harmonia_lab.protocol.vocabulary import PITCH_CLASSES
from harmonia_lab.syllables import in_dictionary, words_of
from tests import audio_analysis

STORIES = json.loads((Path(__file__).parent / "narratives.json").read_text())
SECONDS = 30
BY_DEFAULT = ("harvest", "whale")
"""A long story and a short one, of moods that lie far apart."""


@pytest.fixture(scope="module")
def song_of(tmp_path_factory):
    """song_of(story): made once."""
    folder = tmp_path_factory.mktemp("ten")
    with Lab(metadata="embedded", audio="sketch", songs=folder / "songs", home=folder) as lab:
        yield functools.cache(lambda narrative: lab.compose(narrative, seconds=SECONDS, seed=7, progress=False))


@pytest.fixture(
    params=[
        pytest.param(story, id=story["name"], marks=[] if story["name"] in BY_DEFAULT else pytest.mark.stress)
        for story in STORIES
    ]
)
def story(request):
    return request.param["narrative"]


@pytest.fixture
def song(story, song_of):
    return song_of(story)


@pytest.fixture
def audio(song):
    samples, rate = soundfile.read(song.audio_path, dtype="float32")
    assert rate == 48_000
    return samples.T


def test_the_song_is_as_long_loud_and_clean_as_it_should_be(song, audio):
    assert audio.shape == (2, SECONDS * 48_000)
    assert audio_analysis.loudness(audio, 48_000) == pytest.approx(-14, abs=1)
    assert audio_analysis.true_peak(audio) <= -1
    assert audio_analysis.silent_share(audio, 48_000) < 0.1


def test_tempo_and_key_of_the_audio_are_those_of_the_metadata(song, audio):
    sound = audio_analysis.mono(audio)
    assert audio_analysis.tempo_error(sound, song.metadata.bpm) < 0.02
    tonic, mode = song.metadata.key.split()
    assert audio_analysis.estimate_key(sound) in audio_analysis.relative_keys(PITCH_CLASSES[tonic], mode)


def test_the_lyrics_are_words_and_nothing_but_lyrics(song):
    lines = [line for section in song.metadata.sections for line in section.lines]
    words = [word for line in lines for word in words_of(line)]
    assert len(lines) >= 4
    assert sum(map(in_dictionary, words)) >= 0.95 * len(words)
    assert not any(character in line for line in lines for character in "[]{}<>*_#|\\`")
    leaks = {"verse", "chorus", "lyrics", "user", "assistant", "narrative", "prompt", "rhyme"}
    assert leaks.isdisjoint(word.lower() for word in words)


def test_the_title_is_about_the_story(song, story):
    assert set(content_stems(song.metadata.title)) & read_story(story).stems


def test_every_section_is_named_by_its_kind(song):
    assert {section.name.split()[0] for section in song.metadata.sections} <= {"Verse", "Chorus", "Bridge"}


def test_two_stories_are_not_twice_the_same_song(song_of):
    one, other = (song_of(s["narrative"]).metadata for s in STORIES if s["name"] in BY_DEFAULT)
    for field in ("title", "lyrics", "genre", "bpm"):
        assert getattr(one, field) != getattr(other, field), field
    assert not set(one.mood) & set(other.mood)


@pytest.mark.stress
def test_ten_stories_are_not_ten_times_the_same_song(song_of):
    metadata = [song_of(story["narrative"]).metadata for story in STORIES]
    assert len({m.title for m in metadata}) == len(metadata)
    assert len({m.genre for m in metadata}) >= 4
    assert len({mood for m in metadata for mood in m.mood}) >= 6
