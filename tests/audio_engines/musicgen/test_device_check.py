"""A device that computes garbage is found, and the song made elsewhere. There is no GPU: the device is the CPU, and
what is wrong with it is planted where a model's parts are copied to it."""

import dataclasses
import math
import types

import pytest
import torch

from harmonia_lab.audio_engines.devices import check_device, may_use_gpu
from harmonia_lab.audio_engines.musicgen import device_check, models
from harmonia_lab.audio_engines.musicgen.checkpoints import find_checkpoint
from harmonia_lab.audio_engines.musicgen.decoder import Decoder
from harmonia_lab.audio_engines.musicgen.device_check import LIMITS, check_model
from harmonia_lab.audio_engines.musicgen.kv_cache import KVCache
from harmonia_lab.audio_engines.musicgen.loading import codec_device
from harmonia_lab.audio_engines.musicgen.models import Choice, resolve_device, set_precision
from harmonia_lab.errors import AudioError, InvalidRequest

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def lm(musicgen):
    return musicgen("tiny").lm


def swapped(tensor, size):
    tensor[: 2 * size] = torch.cat([tensor[size : 2 * size], tensor[:size]])


def heads_swapped(parts):
    attention = parts.transformer.layers[0].self_attn
    swapped(attention.in_proj_weight.data, attention.embed_dim // attention.num_heads)


def codebooks_swapped(parts):
    parts.linears[1], parts.linears[2] = parts.linears[2], parts.linears[1]


def layer_lost(parts):
    parts.transformer.layers.pop()


def layers_reversed(parts):
    parts.transformer.layers.reverse()


def text_lost(parts):
    for layer in parts.transformer.layers:
        layer.cross_attention.out_proj.weight.data.zero_()


def transposed(parts):
    weight = parts.transformer.layers[-1].self_attn.out_proj.weight.data
    weight.copy_(weight.T.clone())


def wide_epsilon(parts):
    parts.out_norm.eps = 1e-1


def not_a_number(parts):
    parts.linears[3].weight.data[5, 5] = math.nan


FAULTS = [
    heads_swapped,
    codebooks_swapped,
    layer_lost,
    layers_reversed,
    text_lost,
    transposed,
    wide_epsilon,
    not_a_number,
]


@pytest.fixture
def plant(monkeypatch):
    def put(fault):
        real = device_check._moved

        def moved(parts, device):
            there = real(parts, device)
            fault(there)
            return there

        monkeypatch.setattr(device_check, "_moved", moved)

    return put


def test_a_healthy_device_is_within_rounding(lm):
    check = check_model(lm, Decoder(lm).weights)
    assert check.fault == ""
    assert check.distances["float32"] < LIMITS["float32"]
    assert check.layers[0] == check.layers[1] == len(lm.transformer.layers)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found_and_the_model_left_as_it_was(lm, plant, fault):
    before = {name: tensor.clone() for name, tensor in lm.state_dict().items()}
    plant(fault)
    check = check_model(lm, None)
    assert check.distances["float32"] > LIMITS["float32"]
    assert "computes other numbers than the CPU in float32" in check.fault
    assert all(torch.equal(tensor, before[name]) for name, tensor in lm.state_dict().items())


def test_keys_that_are_written_a_step_early_are_found(lm, plant, monkeypatch):
    """As a stale recording of a step would."""
    real = KVCache.write

    def early(_parts):
        monkeypatch.setattr(KVCache, "write", lambda cache, at, kv, *rows: real(cache, max(at - 1, 0), kv, *rows))

    plant(early)
    assert check_model(lm, None).fault


def test_a_device_that_lacks_an_operation_is_at_fault(lm, plant):
    def unsupported(_parts):
        raise NotImplementedError("The operator 'aten::x' is not implemented for the MPS device")

    plant(unsupported)
    assert "can't run the model: NotImplementedError" in check_model(lm, None).fault


def test_one_that_is_out_of_memory_is_not(lm, plant):
    def full(_parts):
        raise torch.OutOfMemoryError("out of memory")

    plant(full)
    with pytest.raises(torch.OutOfMemoryError):
        check_model(lm, None)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_has_limits_of_its_own(checkpoint, dtype):
    from audiocraft.models import MusicGen

    own = MusicGen.get_pretrained(str(checkpoint("tiny")), device="cpu")  # cast below: not the shared one
    set_precision(own, dtype)
    check = check_model(own.lm, Decoder(own.lm).weights)
    assert check.fault == ""
    assert LIMITS["float32"] < check.distances[dtype] < LIMITS[dtype]


def test_a_layout_that_our_steps_do_not_know_is_run_by_its_own_modules(lm, plant, monkeypatch):
    monkeypatch.setattr(device_check, "unknown_layout", lambda _: "it is another")
    assert check_model(lm, None).fault == ""
    plant(transposed)
    assert check_model(lm, None).fault


def test_of_a_large_model_some_layers_are_compared(monkeypatch):
    layers = [torch.nn.Linear(100, 100) for _ in range(48)]
    monkeypatch.setattr(device_check, "MOST_VALUES", 5 * 10_100)
    assert device_check._evenly(layers) == [0, 12, 24, 35, 47]
    monkeypatch.setattr(device_check, "MOST_VALUES", 10)
    assert device_check._evenly(layers) == [0]


class StandInDevice:
    """The CPU under another name, so that a model on it is compared."""

    type = "mps"

    def __str__(self):
        return "cpu"


@pytest.fixture
def load(checkpoint, monkeypatch):
    monkeypatch.setattr(models, "resolve_device", lambda _: StandInDevice())
    said = []

    def loaded():
        return models._load(Choice(find_checkpoint(str(checkpoint("tiny")))), said.append), said

    return loaded


def test_beyond_the_limit_the_model_is_loaded_on_the_cpu_and_that_is_said_and_recorded(load, plant, caplog):
    plant(codebooks_swapped)
    model, said = load()
    assert model.device == torch.device("cpu")
    assert "computes other numbers" in model.record()["deviceCheck"]["fault"]
    assert model.record()["device"] == "cpu"
    assert any("Loading it on the CPU" in status for status in said)
    assert "MusicGen runs on the CPU" in caplog.text


def test_within_it_the_device_is_kept_and_the_distance_recorded(load):
    model, said = load()
    assert isinstance(model.device, StandInDevice)
    record = model.record()["deviceCheck"]
    assert record["distances"]["float32"] < LIMITS["float32"]
    assert "fault" not in record
    assert "comparing cpu with the CPU" in said


def test_a_person_can_switch_the_comparison_off(load, plant, monkeypatch):
    monkeypatch.setenv("HARMONIA_DEVICE_CHECK", "off")
    plant(codebooks_swapped)
    assert load()[0].device_check is None


def test_metal_is_taken_by_auto_with_the_codec_on_the_cpu_and_no_autocast(lm, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto").type == resolve_device("mps").type == "mps"
    assert (codec_device("mps"), codec_device("cuda:1"), codec_device("cpu")) == ("cpu", "cuda:1", "cpu")
    part = types.SimpleNamespace(float=lambda: None)
    conditioner = types.SimpleNamespace(autocast=None)
    stand_in = types.SimpleNamespace(
        device=types.SimpleNamespace(type="mps"),
        lm=types.SimpleNamespace(
            emb=part, linears=part, out_norm=part, parameters=list,
            condition_provider=types.SimpleNamespace(float=lambda: None, conditioners={"description": conditioner}),
            transformer=types.SimpleNamespace(to=lambda _: None),
        ),
        compression_model=types.SimpleNamespace(parameters=list),
    )  # fmt: skip
    set_precision(stand_in, "float16")
    assert stand_in.autocast.autocast is None
    assert conditioner.autocast.autocast is None


def test_metal_is_refused_where_there_is_none_and_by_engines_that_do_not_run_on_it():
    with pytest.raises(AudioError, match="no GPU of Apple's"):
        resolve_device("mps")
    with pytest.raises(InvalidRequest, match="no device 'mps'"):
        check_device("mps")
    check_device("mps", metal=True)
    assert may_use_gpu("mps")


def test_the_doctor_compares_the_model_that_is_asked_for(checkpoint, plant, monkeypatch):
    from harmonia_lab.audio_engines.musicgen import spec

    folder = str(checkpoint("tiny"))
    assert spec._check_asked(folder, {}) == f"MusicGen with the weights in {folder}"  # on the CPU
    monkeypatch.setattr(models, "resolve_device", lambda _: StandInDevice())
    assert "whose numbers are the CPU's up to" in spec._check_asked(folder, {})
    plant(codebooks_swapped)
    assert "on the CPU, since cpu computes other numbers" in spec._check_asked(folder, {})


def test_what_was_found_is_plain_json(lm):
    check = dataclasses.replace(check_model(lm, None), distances={"float32": math.inf})
    assert check.to_json()["distances"] == {"float32": None}
    assert check.to_json()["fault"]
