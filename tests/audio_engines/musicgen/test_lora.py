"""LoRA adapters, merged as PEFT merges them."""

import json
import shutil

import pytest
import torch

from benchmarks.checkpoints.folders import adapter, hub_snapshot
from harmonia_lab.audio_engines.musicgen import hub
from harmonia_lab.audio_engines.musicgen.loading import open_model
from harmonia_lab.audio_engines.musicgen.lora import merged
from harmonia_lab.errors import ErrorCode, HarmoniaError

A, B, W = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0], [0.0], [3.0]]), torch.zeros(3, 2)
ADAPTER = {"base_model.model.fc.lora_A.weight": A, "base_model.model.fc.lora_B.weight": B}


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"lora_alpha": 4}, 4.0),
        ({"lora_alpha": 4, "use_rslora": True}, 4.0),  # √1
        ({"lora_alpha": 4, "alpha_pattern": {"fc": 6}}, 6.0),
        ({}, 1.0),
    ],
)
def test_the_change_is_the_product_of_the_two_matrices_times_alpha_over_rank(config, scale):
    assert torch.equal(merged({"fc.weight": W}, ADAPTER, config)["fc.weight"], scale * B @ A)


def test_matrices_that_are_stored_turned_are_changed_turned():
    result = merged({"fc.weight": W.T}, ADAPTER, {"fan_in_fan_out": True, "lora_alpha": 1})
    assert torch.equal(result["fc.weight"], (B @ A).T)


def test_what_was_trained_as_a_whole_replaces_what_was_there():
    whole = {"base_model.model.head.weight": torch.ones(2, 2)}
    base = {"fc.weight": W, "head.weight": torch.zeros(2, 2)}
    assert torch.equal(merged(base, ADAPTER | whole, {})["head.weight"], torch.ones(2, 2))
    assert not base["head.weight"].any()


@pytest.mark.parametrize(
    ("base", "config", "said"),
    [
        ({"other.weight": W}, {}, "fc.weight, which its base model doesn't have"),
        ({"fc.weight": torch.zeros(4, 2)}, {}, r"don't fit \(4, 2\)"),
        ({"fc.weight": W}, {"peft_type": "LOHA"}, "LOHA"),
        ({"fc.weight": W}, {"use_dora": True}, "use_dora"),
    ],
)
def test_an_adapter_of_another_kind_or_model_is_refused_with_the_way_on(base, config, said):
    with pytest.raises(HarmoniaError, match=said) as raised:
        merged(base, ADAPTER, config)
    assert "merge_and_unload" in raised.value.hint


def test_an_adapters_folder_is_its_base_model_with_the_change(folders, tmp_path):
    base = open_model(str(folders.transformers()), lambda _: None)
    changed = open_model(str(adapter(tmp_path / "adapter", str(folders.transformers()))), lambda _: None)
    differ = {name for name in base.weights if not torch.equal(base.weights[name], changed.weights[name])}
    assert differ == {f"transformer.layers.{layer}.self_attn.in_proj_weight" for layer in range(2)}
    queries, keys, values = (
        (changed.weights[name] - base.weights[name]).chunk(3) for name in sorted(differ)[:1]
    ).__next__()
    assert queries.any()
    assert values.any()
    assert not keys.any()  # only q_proj and v_proj were trained
    assert "adapter" in changed.notes[0]


def test_an_adapter_of_a_released_model_takes_its_weights_in_transformers_layout(folders, tmp_path, monkeypatch):
    """The cache has audiocraft's files too, whose names the adapter doesn't know."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    both = shutil.copytree(folders.transformers(), tmp_path / "both")
    for name in ("state_dict.bin", "compression_state_dict.bin"):
        shutil.copy(folders.audiocraft() / name, both)
    hub_snapshot(tmp_path / "hub", "facebook/musicgen-small", both)
    opened = open_model(str(adapter(tmp_path / "adapter", "facebook/musicgen-small")), lambda _: None, hub.require)
    assert "merged into facebook/musicgen-small" in opened.notes[0]
    assert opened.config["transformer_lm"]["card"] == 256


def test_an_adapter_of_an_adapter_ends_with_an_error(folders, tmp_path):
    folder = adapter(tmp_path / "adapter", str(tmp_path / "adapter"))
    with pytest.raises(HarmoniaError, match="an adapter too") as raised:
        open_model(str(folder), lambda _: None)
    assert raised.value.code == ErrorCode.MUSICGEN_UNAVAILABLE
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(HarmoniaError, match="without base_model_name_or_path"):
        open_model(str(folder), lambda _: None)
    shutil.rmtree(folder)
