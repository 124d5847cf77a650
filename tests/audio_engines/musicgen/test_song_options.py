"""One song's settings of MusicGen: on the lab's model, checked before it is loaded, and, with a negative prompt, the
same tokens from our loop and from audiocraft's."""

import numpy as np
import pytest
import soundfile
import torch

from harmonia_lab.audio_engines.musicgen.conditions import guided_by, null_conditions, steer_away
from harmonia_lab.audio_engines.musicgen.decoder import Decoder
from harmonia_lab.audio_engines.musicgen.models import MODELS
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import InvalidRequest
from tests.audio_engines.musicgen.songs import engine, plan, render

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = ["a calm piano melody over rain", "drums"]


@pytest.fixture(scope="module", autouse=True)
def unloaded():
    yield
    MODELS.unload()


@pytest.fixture
def tiny(checkpoint):
    return checkpoint("tiny")


@pytest.fixture
def tune(tmp_path):
    path = tmp_path / "tune.wav"
    soundfile.write(path, 0.2 * np.sin(np.arange(32000) / 20), 32000)
    return path


def attributes(model, negative):
    given = list(model._prepare_tokens_and_attributes(TEXTS, None)[0])
    if negative:
        steer_away(given, negative)
    return given


@pytest.mark.parametrize("two_step", [False, True], ids=["one pass", "two passes"])
@pytest.mark.parametrize("size", ["tiny", "tiny-melody"])
def test_our_loop_and_audiocrafts_make_the_same_tokens_with_a_negative_prompt(musicgen, size, two_step):
    model = musicgen(size)
    found = {}
    for loop in ("fast", "reference"):
        decoder = Decoder(model.lm, loop)
        for negative in ("loud brass and a choir of many voices", ""):
            rows = []
            for row, given in enumerate(attributes(model, negative)):
                generator = torch.Generator().manual_seed(row)
                with guided_by(model.lm, 6.0), torch.no_grad():
                    rows.append(
                        decoder.generate(
                            None, [given], max_gen_len=16, cfg_coef=6.0, two_step_cfg=two_step, generators=[generator]
                        )
                    )
            found[loop, bool(negative)] = torch.cat(rows)
    assert torch.equal(found["fast", True], found["reference", True])
    assert torch.equal(found["fast", False], found["reference", False])
    assert not torch.equal(found["fast", True], found["fast", False])


def test_the_null_condition_has_the_negative_prompts_words_and_no_melody(musicgen):
    given = attributes(musicgen("tiny-melody"), "drums")
    null = null_conditions(given)
    assert [each.text for each in null] == [{"description": "drums"}] * 2
    assert [each.text for each in given] == [{"description": text} for text in TEXTS]
    assert [each.text for each in null_conditions(attributes(musicgen("tiny"), ""))] == [{"description": None}] * 2


def test_a_negative_prompt_changes_the_song_and_so_does_each_option(tiny):
    lab = engine(tiny)
    options = [
        {}, {"negative_prompt": "loud brass"}, {"prompt": "rain"}, {"cfg_coef": 8.0}, {"temperature": 2.0},
        {"top_k": 5}, {"top_p": 0.5},
    ]  # fmt: skip
    sounds = [render(lab.for_song(each), plan(0.5))[0].audio.tobytes() for each in options]
    assert len(set(sounds)) == len(sounds)
    assert render(lab, plan(0.5))[0].audio.tobytes() == sounds[0]
    two_passes = lab.for_song({"cfg_coef": 8.0, "two_step_cfg": True})
    assert np.allclose(np.frombuffer(sounds[3], np.float32), render(two_passes, plan(0.5))[0].audio.ravel(), atol=1e-4)


def test_guidance_in_two_passes_has_the_songs_coefficient(tiny):
    lab = engine(tiny)
    one, other = (render(lab.for_song({"two_step_cfg": True, "cfg_coef": c}), plan(0.5))[0].audio for c in (2.0, 9.0))
    assert not np.array_equal(one, other)
    with MODELS.lease(lab._choice, CancelToken(), lambda _: None) as model:
        assert model.musicgen.lm.cfg_coef == 3.0


def test_songs_of_other_options_share_the_loaded_model_and_say_what_they_are(tiny):
    lab = engine(tiny, top_k=7)
    song = lab.for_song({"cfg_coef": 5, "negative_prompt": "drums"})
    render(song, plan(0.3))
    render(lab, plan(0.3))
    assert MODELS.loaded() == [lab._choice] == [song._choice]
    mine, labs = song.identity()["settings"], lab.identity()["settings"]
    assert (mine["top_k"], mine["cfg_coef"], mine["negative_prompt"]) == (7, 5.0, "drums")
    assert labs["cfg_coef"] == 3.0
    assert "negative_prompt" not in labs  # as in the records of before, by which batches know their songs
    assert song.record()["settings"] == mine
    assert engine(tiny, **mine).settings == song.settings


def test_a_recording_is_checked_and_its_digest_recorded(checkpoint, tune, tmp_path):
    lab = engine(checkpoint("tiny-melody"))
    song = lab.for_song({"melody": str(tune)})
    render(song, plan(0.3))
    assert song.record()["guidance"] == "the recording tune.wav"
    assert len(song.identity()["recordings"]["melody"]) == 64
    assert "recordings" not in lab.identity()
    (tmp_path / "text.wav").write_text("no sound")
    for file, says in (("text.wav", "no audio file"), ("gone.wav", "does not exist"), (".", "cannot be read")):
        with pytest.raises(InvalidRequest, match=says) as caught:
            lab.for_song({"continue_from": str(tmp_path / file)})
        assert caught.value.details["fields"] == ["continue_from"]


def test_a_melody_for_a_model_that_follows_none_is_refused_before_it_is_loaded(tiny, tune, monkeypatch):
    MODELS.unload()
    for lab in (engine(tiny), engine("small"), engine("facebook/musicgen-stereo-large")):
        with pytest.raises(InvalidRequest, match="follows no melody") as caught:
            lab.for_song({"melody": str(tune)})
        assert caught.value.details["fields"] == ["melody", "audio_model"]
    for name in ("melody", "stereo-melody-large", "somebody/else"):
        assert engine(name).for_song({"melody": str(tune)}).settings.melody == tune
    assert MODELS.loaded() == []


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({"cfg_coef": 31}, ["cfg_coef"]),
        ({"top_p": 2.0}, ["top_p"]),
        ({"top_k": -1}, ["top_k"]),
        ({"two_step_cfg": "yes"}, ["two_step_cfg"]),
        ({"negative_prompt": "x" * 1001}, ["negative_prompt"]),
        ({"negative_prompt": "drums", "cfg_coef": 1.0}, ["negative_prompt", "cfg_coef"]),
        ({"prompt": "\0"}, ["prompt"]),
        ({"device": "cpu"}, ["device"]),
    ],
    ids=str,
)
def test_a_bad_value_is_refused_by_name(tiny, options, fields):
    with pytest.raises(InvalidRequest) as caught:
        engine(tiny).for_song(options)
    assert caught.value.details["fields"] == fields


def test_a_song_cannot_ask_for_what_contradicts_the_lab(tiny, tune):
    with pytest.raises(InvalidRequest, match="instrument by instrument"):
        engine(tiny, arrangement="stems").for_song({"continue_from": str(tune)})
    with pytest.raises(InvalidRequest, match="its plan or a recording"):
        engine(tiny, guidance="plan").for_song({"melody": str(tune)})
