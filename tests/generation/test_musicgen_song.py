"""A song by MusicGen through the pipeline: what events say of a mix, of stems, and of memory that runs out."""

from pathlib import Path

import pytest

from harmonia_lab.audio_engines.musicgen import engine as engine_module
from harmonia_lab.audio_engines.musicgen.checkpoints import find_checkpoint, smaller_checkpoint
from harmonia_lab.audio_engines.musicgen.decoder import Decoder
from harmonia_lab.audio_engines.musicgen.engine import MusicGenEngine
from harmonia_lab.audio_engines.musicgen.models import MODELS
from harmonia_lab.audio_engines.musicgen.settings import Settings
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import AudioError, ErrorCode
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
    assert song.follows == ["key", "prompt", "tempo"]
    assert not (Path(song.directory) / "song.mid").exists()


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


def test_where_memory_never_suffices_a_smaller_model_makes_that_song_if_a_setting_allows_it(
    run, monkeypatch, checkpoint
):
    smaller = find_checkpoint(str(checkpoint("tiny-stereo")))
    monkeypatch.setattr(engine_module, "smaller_checkpoint", lambda _: smaller)
    generate = Decoder.generate

    def too_big(self, *given, **options):
        if [choice.checkpoint for choice in MODELS.loaded()] != [smaller]:
            raise MemoryError
        return generate(self, *given, **options)

    monkeypatch.setattr(Decoder, "generate", too_big)
    made = run(smaller_model=True)
    song = made.generation.run()
    plans = [e.error.details["plan"] for e in made.lifecycle if isinstance(e, GenerationError)]
    assert plans[-1] == "smaller-model"
    assert set(plans[:-1]) == {"less-memory"}
    failed, done = made.rows
    assert (done["recoveries"], done["audio_model"]) == ("smaller-model", smaller.name)
    assert failed["recoveries"] == ",".join(plans[:-1])
    assert read_record(Path(song.directory))["engines"]["audio"]["model"] == smaller.name
    assert made.audio_engine.identity()["model"] == failed["audio_model"] != smaller.name  # the next song has its own


def test_what_is_smaller_and_wider_than_what():
    names = {"large": "medium", "medium": "small", "melody-large": "melody", "stereo-large": "stereo-medium",
             "stereo-melody-large": "stereo-melody"}  # fmt: skip
    for name, expected in names.items():
        assert smaller_checkpoint(find_checkpoint(name)).name == expected
    assert [smaller_checkpoint(find_checkpoint(name)) for name in ("small", "melody", "stereo-small")] == [None] * 3

    def dtype_after(precision):
        engine = MusicGenEngine("small", Settings(device="cpu"))
        error = AudioError("NaN.", code=ErrorCode.MUSICGEN_ERROR, details={"precision": precision})
        remedy = engine.recover(error, 1, CancelToken())
        return remedy and (remedy.plan, engine.identity()["settings"]["dtype"])

    assert dtype_after("float16") == ("precision", "bfloat16")
    assert dtype_after("bfloat16") == ("precision", "float32")
    assert dtype_after("float32") is None
