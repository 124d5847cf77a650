"""Checkpoints found, checked, loaded, cached and given up; and everything that can be wrong with one."""

import os
import pickle
import shutil
import weakref

import pytest
import torch

from harmonia_lab.audio_engines.musicgen import loading
from harmonia_lab.audio_engines.musicgen.checkpoints import NAMES, find_checkpoint
from harmonia_lab.audio_engines.musicgen.models import MODELS, Choice, ModelCache, resolve_device
from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest
from tests.audio_engines.musicgen.songs import engine, render

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", autouse=True)
def unloaded():
    yield
    MODELS.unload()


@pytest.fixture
def tiny(checkpoint):
    return checkpoint("tiny")


@pytest.fixture
def folder(tiny, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(tiny, tmp_path / "model")


class Mischief:
    """A pickle that runs a command when it is opened."""

    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.system, (f"touch {self.witness}",)


def refused(folder):
    """The error with which the checkpoint is refused, at once or when it is loaded; the engine works afterwards."""
    with pytest.raises(HarmoniaError) as raised:
        render(engine(folder))
    assert raised.value.hint
    return raised.value


def test_short_names_mean_the_released_models():
    assert NAMES["small"] == "facebook/musicgen-small"
    assert {"small", "medium", "large", "melody", "stereo", "stereo-melody"} <= NAMES.keys()
    checkpoint = find_checkpoint("stereo")
    assert checkpoint.source == "facebook/musicgen-stereo-small"
    assert "CC-BY-NC" in checkpoint.licence
    assert find_checkpoint("somebody/finetuned").licence == "see the model card of somebody/finetuned"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("smal", "small"), ("", "medium"), ("../nowhere", "a folder"), ("a b/c", "large"), ("x" * 5000, "a folder"),
        ("a\0b", "a folder"), ("~nobody-here/x", "a folder"),
    ],
)  # fmt: skip
def test_an_unknown_name_is_refused_with_those_that_exist(name, hint):
    with pytest.raises(InvalidRequest, match="no MusicGen model") as raised:
        find_checkpoint(name)
    assert hint in raised.value.hint


def test_a_folder_without_the_two_files_is_named_with_what_it_lacks(folder):
    (folder / "compression_state_dict.bin").unlink()
    error = refused(folder)
    assert error.code == ErrorCode.MUSICGEN_UNAVAILABLE
    assert "no compression_state_dict.bin" in error.message
    assert " state_dict.bin" not in error.message
    assert "--random tiny" in error.hint


def test_a_file_instead_of_its_folder_is_told_apart(folder):
    error = refused(folder / "state_dict.bin")
    assert "is a file" in error.message
    assert "folder" in error.hint


@pytest.mark.parametrize("name", ["state_dict.bin", "compression_state_dict.bin"])
@pytest.mark.parametrize("kept", [0, 100, 20_000])
def test_a_truncated_file_is_refused(folder, name, kept):
    path = folder / name
    path.write_bytes(path.read_bytes()[:kept])
    error = refused(folder)
    assert error.code == ErrorCode.MUSICGEN_UNAVAILABLE
    assert str(path) in error.message


def test_a_pickle_that_runs_a_program_is_refused_and_runs_nothing(folder, tmp_path):
    witness = tmp_path / "ran"
    torch.save({"best_state": Mischief(witness), "xp.cfg": ""}, folder / "state_dict.bin")
    error = refused(folder)
    assert error.code == ErrorCode.MUSICGEN_UNAVAILABLE
    assert "more than weights" in error.message
    (folder / "state_dict.bin").write_bytes(pickle.dumps(Mischief(witness)))
    assert refused(folder).code == ErrorCode.MUSICGEN_UNAVAILABLE
    assert not witness.exists()


@pytest.mark.parametrize("content", [{"model": {}}, [1, 2], torch.zeros(3)])
def test_a_foreign_checkpoint_is_refused(folder, content):
    torch.save(content, folder / "state_dict.bin")
    error = refused(folder)
    assert error.code == ErrorCode.MUSICGEN_UNAVAILABLE
    assert "no audiocraft checkpoint" in error.message


def test_weights_that_do_not_fit_their_configuration_are_refused(folder):
    content = torch.load(folder / "state_dict.bin", weights_only=True)
    content["best_state"]["emb.0.weight"] = torch.zeros(3, 4)
    torch.save(content, folder / "state_dict.bin")
    error = refused(folder)
    assert error.code == ErrorCode.MUSICGEN_UNAVAILABLE
    assert "emb.0.weight" in error.message


@pytest.mark.parametrize("config", ["", "lm_model: other", "{"])
def test_a_configuration_that_says_nothing_is_refused(folder, config):
    content = torch.load(folder / "state_dict.bin", weights_only=True)
    torch.save(content | {"xp.cfg": config}, folder / "state_dict.bin")
    assert refused(folder).code == ErrorCode.MUSICGEN_UNAVAILABLE


def test_the_engine_works_after_a_refusal(folder, tiny):
    (folder / "state_dict.bin").write_bytes(b"")
    refused(folder)
    shutil.copy(tiny / "state_dict.bin", folder)
    assert render(engine(folder))


def test_devices_and_precisions_that_are_not_there_are_refused(tiny):
    with pytest.raises(HarmoniaError, match="cuda:99") as raised:
        resolve_device("cuda:99")
    assert raised.value.code == ErrorCode.MUSICGEN_UNAVAILABLE
    assert "device=cpu" in raised.value.hint
    with pytest.raises(HarmoniaError, match="no GPU of Apple"):
        resolve_device("mps")
    for device in ("tpu", "cuda:x", ""):
        with pytest.raises(InvalidRequest, match="no device"):
            resolve_device(device)
    with pytest.raises(InvalidRequest, match="float32"):
        render(engine(tiny, device="cpu", dtype="float16"))
    with pytest.raises(HarmoniaError):
        render(engine(tiny, device="cuda:99"))
    assert render(engine(tiny, device="cpu"))


def leased(cache, choice):
    with cache.lease(choice, CancelToken(), lambda _: None) as model:
        return weakref.ref(model.musicgen.lm), model


def test_a_model_that_is_not_in_use_makes_room_for_the_next(checkpoint):
    cache = ModelCache()
    first, second = (Choice(find_checkpoint(str(checkpoint(size)))) for size in ("tiny", "tiny-stereo"))
    model = leased(cache, first)[0]
    assert leased(cache, first)[0]() is model()
    other = leased(cache, second)[0]
    assert cache.loaded() == [second]
    cache.unload()
    assert cache.loaded() == []
    assert model() is other() is None


def test_a_model_in_use_stays(checkpoint):
    cache = ModelCache()
    mine, other = (Choice(find_checkpoint(str(checkpoint(size)))) for size in ("tiny", "tiny-stereo"))
    with cache.lease(mine, CancelToken(), lambda _: None) as model:
        leased(cache, other)
        cache.unload()
        assert cache.peek(mine) is model
    cache.unload(mine)
    assert cache.peek(mine) is None


def test_the_record_has_digests_and_the_decoder_that_runs(tiny):
    cache = ModelCache()
    model = leased(cache, Choice(find_checkpoint(str(tiny)), decoder="reference"))[1]
    assert model.record()["digest"].keys() == {"state_dict.bin", "compression_state_dict.bin"}
    assert all(len(digest) == 64 for digest in model.record()["digest"].values())
    assert model.record()["decoderRunning"] == "reference"


def test_what_the_loop_remembers_grows_with_prompts_and_frames(tiny):
    model = leased(ModelCache(), Choice(find_checkpoint(str(tiny))))[1]
    assert model.cache_bytes(2, 500) == 2 * model.cache_bytes(1, 500)
    assert model.cache_bytes(1, 1500) > 2.9 * model.cache_bytes(1, 500)


def test_a_model_that_does_not_fit_is_tried_once_more_after_freeing_memory_and_not_in_smaller_batches(
    tiny, monkeypatch
):
    MODELS.unload()
    seen, mine = [], engine(tiny, arrangement="stems")
    with monkeypatch.context() as patched:
        patched.setattr(loading, "_fill", out_of_memory)
        with pytest.raises(HarmoniaError, match="memory to load") as raised:
            render(mine, progress=seen.append)
    assert raised.value.code == ErrorCode.MUSICGEN_MEMORY
    assert [p.status for p in seen if p.failure] == ["Memory ran out: trying again with what could be freed..."]
    assert render(mine)


def out_of_memory(*_, **__):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
