"""The diffusers engine, on tiny random checkpoints of both pipelines' real classes."""

import gc
import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from harmonia_lab import Lab
from harmonia_lab.audio_engines.diffusers.engine import DiffusersEngine
from harmonia_lab.audio_engines.diffusers.random_checkpoint import SHAPES, make_checkpoint
from harmonia_lab.audio_engines.diffusers.settings import DiffusersSettings
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import AudioError, Cancelled, ErrorCode, InvalidRequest
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.music.composing import compose
from harmonia_lab.protocol.models import Instrument, SongMetadata
from tests.cli.conftest import CommandLine
from tests.generation.test_generation import Run
from tests.waiting import PATIENCE_S
from tests.widgets.test_panel import click, drawn

pytestmark = [
    pytest.mark.usefixtures("one_thread", "patience"),
    pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning"),  # torch's, on how diffusers builds its decoder
]

RATE = 8000
METADATA = SongMetadata(
    title="Tide",
    lyrics="[Estribillo]\nLa luna y el mar\n\n[Verso 1]\nOlas que vienen, olas que van",
    genre="ambient",
    mood=["calm"],
    bpm=90,
    key="A minor",
    instruments=[Instrument(name="piano", role="chords"), Instrument(name="flute", role="lead")],
    language="es",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("diffusers")
    made = {}

    def make(shape):
        if shape not in made:
            made[shape] = make_checkpoint(root / shape, shape, seed=1)
        return str(made[shape])

    return make


@pytest.fixture(scope="module")
def engine(folder):
    """engine(shape, **settings): one engine for each, loaded once."""
    kept = {}

    def make(shape, **settings):
        key = (shape, repr(settings))
        if key not in kept:
            kept[key] = DiffusersEngine(folder(shape), DiffusersSettings.of({"device": "cpu", "steps": 4, **settings}))
        return kept[key]

    return make


def plan(seconds=1.0, **changes):
    metadata = METADATA.model_copy(update=changes)
    return replace(compose(metadata, seconds, seed=0), metadata=metadata)


def render(engine, made=None, cancel=None, seed=7, report=lambda _: None):
    made = made or plan()
    seeds = {part.name: seed for part in made.parts}
    (stem,) = engine.render(made.parts, made, seeds, report, cancel or CancelToken(), {})
    return stem


@pytest.mark.parametrize("shape", ["acestep", "stable-audio-3"])
def test_a_song_is_one_mix_the_same_again_another_with_another_seed(engine, shape):
    first, again, other = (render(engine(shape), seed=seed) for seed in (7, 7, 8))
    assert (first.role, first.sample_rate, first.audio.shape, first.audio.dtype) == ("mix", RATE, (2, RATE), np.float32)
    assert np.array_equal(first.audio, again.audio)
    assert not np.array_equal(first.audio, other.audio)
    assert np.abs(first.audio).max() > 0


@pytest.mark.parametrize("shape", list(SHAPES))
def test_progress_goes_through_all_three_phases_and_never_back(engine, shape):
    reports = []
    render(engine(shape), report=reports.append)
    fractions = [each.fraction for each in reports]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    told = " ".join(each.status for each in reports)
    assert told.index("Encoding") < told.index("step 1 of 4") < told.index("step 4 of 4") < told.index("Decoding")
    assert len(set(fractions)) > 6
    assert reports[-1].figures["steps_per_second"] > 0


def test_ace_step_is_given_words_tempo_key_and_metre(engine):
    made = engine("acestep")
    waltz = replace(plan(), beats_per_bar=3)
    render(made, waltz)
    call = made.record()["call"]
    assert call["lyrics"] == "[chorus]\nLa luna y el mar\n\n[verse]\nOlas que vienen, olas que van"
    assert (call["bpm"], call["keyscale"], call["timesignature"]) == (90, "A minor", "3")
    assert call["vocal_language"] == "es"
    assert call["prompt"] == "A calm ambient song with piano and flute"
    assert call["guidance_scale"] == 1.0
    assert {"tempo", "key", "lyrics"} <= made.follows


def test_a_song_without_lyrics_is_asked_for_as_an_instrumental(engine):
    made = engine("acestep")
    render(made, plan(lyrics=""))
    assert made.record()["call"]["lyrics"] == "[instrumental]"


def test_stable_audio_has_words_alone_and_says_so(engine):
    made = engine("stable-audio-3")
    render(made)
    assert made.follows == {"prompt"}
    assert "90 BPM, A minor" in made.record()["call"]["prompt"]
    assert "lyrics" not in made.record()["call"]


@pytest.mark.parametrize("shape", ["acestep", "stable-audio-3"])
def test_a_sound_to_go_by_changes_the_song(engine, shape, tmp_path):
    source = tmp_path / "hum.wav"
    time = np.arange(RATE) / RATE
    soundfile.write(source, 0.3 * np.sin(2 * np.pi * 220 * time), RATE)
    plain, sketched = render(engine(shape)), render(engine(shape, follow="sketch"))
    hummed = render(engine(shape, source=str(source), strength=0.8))
    softly = render(engine(shape, source=str(source), strength=0.2))
    sounds = [each.audio for each in (plain, sketched, hummed)]
    assert all(not np.array_equal(a, b) for a, b in zip(sounds, sounds[1:] + sounds[:1], strict=True))
    assert not np.array_equal(hummed.audio, softly.audio)


@pytest.mark.parametrize("shape", ["acestep", "stable-audio-3"])
def test_a_cancel_is_heard_at_every_look_and_the_next_song_is_as_if_it_had_not_been(engine, shape):
    """25 moments of each pipeline, 50 in all; in encoding, denoising and decoding."""
    made = engine(shape)
    before = render(made)
    heard, phases, at = 0, set(), 0
    while heard < 25:
        cancel, reports = CancelToken(), []

        def stop(report, cancel=cancel, reports=reports, at=at):
            reports.append(report)
            if len(reports) == at % 9 + 1:
                cancel.cancel()

        with pytest.raises(Cancelled):
            render(made, cancel=cancel, report=stop)
        phases.add(reports[-1].status.split()[0])
        heard, at = heard + 1, at + 1
    assert phases >= {"Loading", "Encoding", "Denoising,", "Decoding"}
    assert np.array_equal(before.audio, render(made).audio)


@pytest.mark.stress
@pytest.mark.parametrize("shape", ["acestep", "stable-audio-3"])
def test_memory_stays_flat_over_cancels(engine, shape):
    import torch

    made = engine(shape)

    def tensors():
        gc.collect()
        return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())

    counts = []
    for number in range(12):
        cancel, left = CancelToken(), iter(range(number % 7 + 1))

        def stop(_, cancel=cancel, left=left):
            if next(left, None) is None:
                cancel.cancel()

        with pytest.raises(Cancelled):
            render(made, cancel=cancel, report=stop)
        counts.append(tensors())
    assert max(counts[3:]) <= counts[2]


@pytest.mark.parametrize(
    ("shape", "settings", "field"),
    [
        ("acestep", {"negative_prompt": "drums"}, "negative_prompt"),
        ("acestep", {"guidance_scale": 5.0}, "guidance_scale"),
        ("stable-audio-3", {"negative_prompt": "drums"}, "negative_prompt"),
        ("stable-audio-3", {"guidance_scale": 5.0, "follow": "sketch"}, "guidance_scale"),
    ],
)
def test_what_a_checkpoint_does_not_take_is_refused_and_not_ignored(engine, shape, settings, field):
    with pytest.raises(InvalidRequest) as caught:
        render(engine(shape, **settings))
    assert caught.value.details["fields"] == [field]


def test_a_recording_that_cannot_be_followed_is_refused(engine, tmp_path):
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.zeros(800), RATE)
    for path in (silent, tmp_path / "missing.wav"):
        with pytest.raises(InvalidRequest) as caught:
            render(engine("acestep", source=str(path)))
        assert caught.value.details["fields"] == ["source"]


def test_sound_that_is_no_numbers_is_no_song(folder):
    made = DiffusersEngine(folder("acestep"), DiffusersSettings(device="cpu", steps=2))
    render(made)
    import torch

    with torch.no_grad():
        next(made._model.pipeline.transformer.parameters()).fill_(float("nan"))
    with pytest.raises(AudioError, match="isn't numbers") as caught:
        render(made)
    assert caught.value.code == ErrorCode.AUDIO_ERROR
    assert "float32" in caught.value.hint


def test_a_closed_engine_frees_its_model_and_can_be_used_again(folder):
    made = DiffusersEngine(folder("acestep"), DiffusersSettings(device="cpu", steps=1))
    first = render(made)
    made.close()
    assert made._model.pipeline is None
    assert np.array_equal(first.audio, render(made).audio)


def test_through_the_pipeline_the_record_has_pipeline_licence_and_call(tmp_path, engine):
    made = Run(tmp_path, audio=engine("acestep"))
    song = made.generation.run()
    assert [(stem.name, stem.role) for stem in song.stems] == [("mix", "mix")]
    record = read_record(tmp_path / "songs" / song.directory.rsplit("/", 1)[-1])["engines"]["audio"]
    assert record["pipeline"] == "AceStepPipeline"
    assert record["licence"] == "none: the weights are random"
    assert record["versions"]["diffusers"]
    assert record["call"]["num_inference_steps"] == 4
    (row,) = made.rows
    assert row["audio_engine"] == "diffusers"
    assert row["steps_per_second"] > 0


def test_songs_of_other_options_share_the_loaded_pipeline(engine):
    lab = engine("stable-audio-3")
    plain = render(lab)
    song = lab.for_song({"prompt": "rain on a tin roof", "steps": 2})
    made = render(song)
    assert song._load() is lab._load()
    assert not np.array_equal(plain.audio, made.audio)
    assert np.array_equal(render(lab).audio, plain.audio)
    assert (song.record()["call"]["num_inference_steps"], lab.record()["call"]["num_inference_steps"]) == (2, 4)
    assert song.identity()["settings"]["prompt"] == "rain on a tin roof"


@pytest.mark.parametrize(
    ("shape", "options", "field"),
    [
        ("acestep", {"negative_prompt": "drums"}, "negative_prompt"),
        ("stable-audio-3", {"negative_prompt": "drums", "follow": "sketch"}, "negative_prompt"),
        ("stable-audio-3", {"steps": 0}, "steps"),
        ("stable-audio-3", {"follow": "me"}, "follow"),
        ("stable-audio-3", {"source": "gone.wav"}, "source"),
        ("stable-audio-3", {"dtype": "float32"}, "dtype"),
    ],
)
def test_what_a_pipeline_does_not_take_is_refused_before_anything_is_loaded(folder, shape, options, field):
    lab = DiffusersEngine(folder(shape), DiffusersSettings())
    with pytest.raises(InvalidRequest) as caught:
        lab.for_song(options)
    assert caught.value.details["fields"][0] == field
    assert lab._model.pipeline is None


def test_the_command_line_takes_the_folder_and_an_option_of_one_song(tmp_path, folder):
    harmonia = CommandLine(tmp_path)
    (tmp_path / "m.json").write_text(METADATA.model_dump_json(by_alias=True), encoding="utf-8")
    done = harmonia(
        *("song", "--from", "m.json", "--seconds", "1", "--seed", "3", "--json"),
        *("--audio", "diffusers", "--audio-model", folder("acestep"), "--device", "cpu", "--steps", "2"),
    )
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["title"] == METADATA.title
    (row,) = harmonia.rows
    assert (row["audio_engine"], row["audio_seconds"]) == ("diffusers", pytest.approx(1, abs=0.2))
    assert row["audio_settings"]["steps"] == 2


def test_a_panel_shows_its_progress_cancels_it_and_then_the_next_one(tmp_path, folder):
    settings = {"device": "cpu", "steps": 200}
    with Lab(
        songs=tmp_path / "songs",
        home=tmp_path / "home",
        audio="diffusers",
        audio_model=folder("acestep"),
        audio_settings=settings,
    ) as lab:
        panel = lab.submit(metadata=METADATA, seconds=1, seed=3).panel()
        shown = drawn(panel, status="processing", canCancel=True)
        while not 0 < shown["stages"][-1]["percent"] < 100:
            shown = drawn(panel, status="processing")
        click(panel, "cancel")
        drawn(panel, status="cancelled")
        panel = lab.submit(metadata=METADATA, seconds=1, seed=3, audio_options={"steps": 2}).panel()
        drawn(panel, status="completed")
        assert panel.settled.wait(PATIENCE_S)
        assert panel.widget.audio
        assert panel.widget.files[0] == "song.flac"
