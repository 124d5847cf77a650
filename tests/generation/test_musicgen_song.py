"""A song by MusicGen through the pipeline: what events say of a mix, of stems, and of memory that runs out."""

from pathlib import Path

import pytest

from harmonia_lab.audio_engines.musicgen.decoder import Decoder
from harmonia_lab.audio_engines.musicgen.engine import MusicGenEngine
from harmonia_lab.audio_engines.musicgen.models import MODELS
from harmonia_lab.audio_engines.musicgen.settings import Settings
from harmonia_lab.errors import AudioError
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.protocol.events import AudioGenerationProgress, GenerationError
from tests.generation.test_generation import Run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", autouse=True)
def unloaded():
    yield
    MODELS.unload()


@pytest.fixture
def run(tmp_path, checkpoint):
    def make(**settings):
        return Run(tmp_path, audio=MusicGenEngine(str(checkpoint("tiny")), Settings.of(settings)))

    return make


def audio_progress(made):
    return [event for event in made.events if isinstance(event, AudioGenerationProgress)]


def test_a_mix_is_announced_with_its_instruments_and_counted_as_one(run):
    made = run()
    song = made.generation.run()
    started = next(e for e in made.lifecycle if e.name == "audio-generation-started")
    assert len(started.instruments) == len(song.metadata.instruments) > 1
    generating = [e for e in audio_progress(made) if e.current_instrument]
    assert {(e.current_instrument, e.total_instruments) for e in generating} == {("mix", 1)}
    assert audio_progress(made)[-1].instruments_completed == 1
    assert [(stem.name, stem.role) for stem in song.stems] == [("mix", "mix")]


def test_stems_are_counted_one_by_one_and_progress_never_goes_back(run):
    made = run(arrangement="stems")
    song = made.generation.run()
    assert [stem.name for stem in song.stems] == [i.name for i in song.metadata.instruments]
    progress = audio_progress(made)
    assert {e.total_instruments for e in progress} == {len(song.stems)}
    assert progress[-1].instruments_completed == len(song.stems)
    for field in ("progress", "overall_progress", "instruments_completed"):
        values = [getattr(event, field) for event in progress]
        assert values == sorted(values)
        assert max(values) <= 100
    (row,) = made.rows
    assert row["steps_per_second"] > 0
    assert row["instrument_s"].keys() == {", ".join(stem.name for stem in song.stems)}  # they were made together


def test_each_attempt_for_lack_of_memory_is_an_event_and_the_song_is_made(run, monkeypatch):
    generate = Decoder.generate

    def too_big(self, prompt, conditions, **options):
        if len(conditions) > 1:
            raise MemoryError
        return generate(self, prompt, conditions, **options)

    monkeypatch.setattr(Decoder, "generate", too_big)
    made = run(arrangement="stems")
    song = made.generation.run()
    errors = [e for e in made.lifecycle if isinstance(e, GenerationError)]
    assert len(errors) >= 2
    assert {(e.error.code, e.final, e.stage) for e in errors} == {("MUSICGEN_MEMORY", False, "audio")}
    assert made.names[-1] == "audio-generation-complete"
    (row,) = made.rows
    assert (row["status"], row["audio_recoveries"]) == ("completed", len(errors))
    assert len(read_record(Path(song.directory))["engines"]["audio"]["recovered"]) == len(errors)


def test_memory_that_never_suffices_ends_the_song_with_its_code(run, monkeypatch):
    def never(*_, **__):
        raise MemoryError

    monkeypatch.setattr(Decoder, "generate", never)
    made = run()
    with pytest.raises(AudioError):
        made.generation.run()
    errors = [e for e in made.lifecycle if isinstance(e, GenerationError)]
    assert [e.final for e in errors] == [False] * (len(errors) - 1) + [True]
    assert {e.error.code for e in errors} == {"MUSICGEN_MEMORY"}
    assert made.rows[-1]["error_code"] == "MUSICGEN_MEMORY"
