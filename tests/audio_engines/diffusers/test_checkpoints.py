"""Checkpoints in diffusers' layout: what is found, and what is refused before anything is loaded."""

import json

import pytest

from harmonia_lab.audio_engines.diffusers.checkpoints import INDEX, find_checkpoint, is_checkpoint
from harmonia_lab.audio_engines.diffusers.settings import DiffusersSettings
from harmonia_lab.engine_registry import audio_specs
from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest


def folder(path, **index):
    path.mkdir()
    (path / INDEX).write_text(json.dumps(index))
    return path


def test_a_folder_says_its_pipeline_and_auto_takes_it_for_this_engine(tmp_path):
    made = folder(tmp_path / "ace", _class_name="AceStepPipeline")
    found = find_checkpoint(str(made))
    assert (found.pipeline, found.folder) == ("AceStepPipeline", made)
    assert "not known" in found.licence
    assert is_checkpoint(str(made))
    claims = [name for name, spec in audio_specs().items() if spec.claims_auto(str(made), {})]
    assert claims[0] == "diffusers"
    assert audio_specs()["musicgen"].claims_auto("small", {})
    assert not audio_specs()["diffusers"].claims_auto("small", {"device": "cpu"})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no model_index.json"),
        ("{", "cannot be read"),
        ("[]", "no pipeline"),
        ('{"_class_name": "StableDiffusionPipeline"}', "StableDiffusionPipeline"),
        ('{"_class_name": ["my.code", "AceStepPipeline"]}', "doesn't know"),
    ],
)
def test_a_folder_that_is_something_else_is_named_for_what_it_is(tmp_path, content, said):
    if content is not None:
        (tmp_path / INDEX).write_text(content)
    with pytest.raises(HarmoniaError, match=said) as caught:
        find_checkpoint(str(tmp_path))
    assert caught.value.code == ErrorCode.AUDIO_UNAVAILABLE
    assert caught.value.hint


def test_what_is_not_in_the_cache_is_not_fetched_but_the_command_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    found = find_checkpoint("acestep-base")
    assert found.folder is None
    with pytest.raises(HarmoniaError) as caught:
        found.here()
    assert "hf download ACE-Step/acestep-v15-xl-base-diffusers" in caught.value.hint


@pytest.mark.parametrize("name", ["no such", "../x/y", "", "a/b/c"])
def test_no_name_at_all_lists_the_known_ones(name):
    with pytest.raises(InvalidRequest, match="no model") as caught:
        find_checkpoint(name)
    assert "acestep" in caught.value.hint


@pytest.mark.parametrize(
    "settings",
    [
        {"strength": 1.5},
        {"strength": float("nan")},
        {"steps": 0},
        {"steps": 2.5},
        {"steps": True},
        {"guidance_scale": "much"},
        {"follow": "wolf"},
        {"device": "tpu"},
        {"dtype": "int4"},
        {"prompt": "  "},
        {"negative_prompt": "x" * 1001},
        {"source": "a.wav", "follow": "sketch"},
        {"top_k": 3},
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings):
    with pytest.raises(InvalidRequest) as caught:
        DiffusersSettings.of(settings)
    assert set(settings) & set(caught.value.details["fields"])


def test_settings_go_to_json_and_back():
    settings = DiffusersSettings.of({"prompt": "a harp", "source": "a.wav", "steps": 4})
    assert DiffusersSettings.of(settings.to_json()).to_json() == settings.to_json()
