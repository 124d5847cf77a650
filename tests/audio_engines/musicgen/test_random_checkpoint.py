"""Checkpoints with random weights: recognised, repeatable, whole or not there."""

import importlib
import json
import sys

import pytest
import torch

from harmonia_lab.audio_engines.musicgen.random_checkpoint import MARKER, SIZES, make_checkpoint, random_weights
from harmonia_lab.errors import InvalidRequest


def test_the_folder_says_that_its_weights_are_random(checkpoint, tmp_path):
    assert random_weights(checkpoint("tiny")) == {"weights": "random", "size": "tiny", "seed": 1}
    assert random_weights(tmp_path) is None


def test_the_same_seed_makes_the_same_files_and_leaves_torchs_own_stream_alone(checkpoint, tmp_path):
    before = torch.get_rng_state()
    again = make_checkpoint(tmp_path / "again", "tiny", seed=1)
    other = make_checkpoint(tmp_path / "other", "tiny", seed=2)
    assert torch.equal(torch.get_rng_state(), before)

    def weights(folder):
        return torch.load(folder / "state_dict.bin", weights_only=True)["best_state"]["emb.0.weight"]

    files = [path.relative_to(again) for path in again.rglob("*") if path.is_file()]
    assert len(files) == 7
    assert all((again / file).read_bytes() == (checkpoint("tiny") / file).read_bytes() for file in files)
    assert not torch.equal(weights(again), weights(other))


def test_weights_are_stored_as_the_released_models_store_theirs(checkpoint):
    content = torch.load(checkpoint("tiny") / "state_dict.bin", weights_only=True)
    assert {tensor.dtype for tensor in content["best_state"].values()} == {torch.float16}
    assert isinstance(content["xp.cfg"], str)


@pytest.mark.parametrize(
    ("size", "codebooks", "channels"), [("tiny", 4, 1), ("tiny-stereo", 8, 2), ("tiny-melody", 4, 1)]
)
def test_audiocraft_loads_what_was_made(musicgen, size, codebooks, channels):
    model = musicgen(size)
    assert model.lm.n_q == codebooks
    assert model.audio_channels == channels
    assert (model.sample_rate, model.frame_rate, model.max_duration) == (32000, 50, 30)
    assert ("self_wav" in model.lm.condition_provider.conditioners) == (size == "tiny-melody")


def test_loading_gives_exactly_the_stored_weights(musicgen, checkpoint):
    stored = torch.load(checkpoint("tiny") / "state_dict.bin", weights_only=True)["best_state"]
    loaded = musicgen("tiny").lm.state_dict()
    assert stored.keys() == loaded.keys()
    assert all(torch.equal(stored[name].float(), loaded[name]) for name in stored)


def test_a_folder_with_something_in_it_is_not_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InvalidRequest, match="not an empty folder"):
        make_checkpoint(tmp_path, "tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_unknown_size_names_the_known_ones(tmp_path):
    with pytest.raises(InvalidRequest) as raised:
        make_checkpoint(tmp_path / "x", "huge")
    assert all(size in raised.value.hint for size in SIZES)
    assert not (tmp_path / "x").exists()


def test_what_fails_half_way_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(self, *args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(Exception, match=r"full|space"):
        make_checkpoint(tmp_path / "x", "tiny")
    assert list(tmp_path.iterdir()) == []


def test_the_marker_is_json_beside_the_two_files(checkpoint):
    names = {path.name for path in checkpoint("tiny").iterdir()}
    assert names == {"state_dict.bin", "compression_state_dict.bin", "t5", MARKER}
    json.loads((checkpoint("tiny") / MARKER).read_text())


def test_the_former_place_still_works_and_names_the_new_one(monkeypatch):
    monkeypatch.delitem(sys.modules, "harmonia_lab.engines.musicgen.random_checkpoint", raising=False)
    with pytest.warns(DeprecationWarning, match=r"from harmonia_lab\.audio_engines\.musicgen\.random_checkpoint"):
        former = importlib.import_module("harmonia_lab.engines.musicgen.random_checkpoint")
    assert former.make_checkpoint is make_checkpoint
