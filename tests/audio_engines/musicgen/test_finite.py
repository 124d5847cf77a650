"""What is no number never becomes music: weights are refused at load, logits before their sound, both with a way on."""

import copy
from dataclasses import replace

import pytest
import torch

from harmonia_lab.audio_engines.musicgen import decoder as decoders
from harmonia_lab.audio_engines.musicgen import models
from harmonia_lab.audio_engines.musicgen.decoder import Decoder
from harmonia_lab.audio_engines.musicgen.finite import require_finite_weights
from harmonia_lab.audio_engines.musicgen.models import MODELS, set_precision
from harmonia_lab.errors import AudioError, ErrorCode
from tests.audio_engines.musicgen.songs import engine, plan, render

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", autouse=True)
def unloaded():
    yield
    MODELS.unload()


@pytest.fixture
def spoilt(musicgen):
    """A copy of the tiny model, to be spoilt."""
    model = musicgen("tiny")
    mine = copy.copy(model)
    mine.lm = copy.deepcopy(model.lm)
    return mine


def attributes(model, rows=1):
    return model._prepare_tokens_and_attributes(["a calm piano"] * rows, None)[0]


def set_first(weight, value):
    with torch.no_grad():
        weight.view(-1)[0] = value


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(
    "matrix",
    [
        "transformer.layers.1.self_attn.in_proj_weight",  # a query: attention hides it at first
        "transformer.layers.0.cross_attention.in_proj_weight",
        "transformer.layers.1.linear2.weight",
        "out_norm.weight",
        "emb.2.weight",
        "linears.3.weight",
        "condition_provider.conditioners.description.output_proj.weight",
        "condition_provider.conditioners.description.t5.encoder.final_layer_norm.weight",
    ],
)
def test_weights_that_are_no_numbers_are_refused_with_the_matrix_named(spoilt, matrix, value):
    weights = spoilt.lm
    for part in matrix.split("."):
        weights = (
            weights[int(part)] if part.isdigit() else weights[part] if part == "description" else getattr(weights, part)
        )
    whole = weights.detach().clone()
    set_first(weights, value)
    try:
        for mode in ("fast", "reference"):
            with pytest.raises(AudioError, match=matrix.replace(".", r"\.")) as raised:
                Decoder(spoilt.lm, mode)
    finally:
        with torch.no_grad():
            weights.copy_(whole)  # the text encoder is not copied with the model
    assert raised.value.code == ErrorCode.MUSICGEN_UNAVAILABLE
    assert raised.value.details["matrix"].endswith(matrix)
    assert "get it again" in raised.value.hint
    Decoder(spoilt.lm)


def test_a_checkpoint_with_a_nan_is_refused_before_a_song(checkpoint, tmp_path):
    import shutil

    folder = shutil.copytree(checkpoint("tiny"), tmp_path / "spoilt")
    for name, key in (
        ("state_dict.bin", "linears.0.weight"),
        ("compression_state_dict.bin", "decoder.model.0.conv.conv.bias"),
    ):
        content = torch.load(folder / name, weights_only=True)
        whole = content["best_state"][key].clone()
        set_first(content["best_state"][key], torch.nan)
        torch.save(content, folder / name)
        with pytest.raises(AudioError, match=key.replace(".", r"\.")):
            render(engine(folder))
        content["best_state"][key] = whole
        torch.save(content, folder / name)
    assert render(engine(folder))


def test_finite_weights_with_an_infinite_sum_are_weights():
    module = torch.nn.Linear(4, 4, bias=False)
    with torch.no_grad():
        module.weight.fill_(3e38)
    require_finite_weights(module, "the", "float32")


def test_weights_beyond_the_end_of_float16_ask_for_a_wider_precision(spoilt):
    set_first(spoilt.lm.transformer.layers[0].linear1.weight, 7e4)
    Decoder(spoilt.lm)
    set_precision(spoilt, "float16")
    with pytest.raises(AudioError, match="1 are infinite") as raised:
        Decoder(spoilt.lm)
    assert raised.value.code == ErrorCode.MUSICGEN_ERROR
    assert raised.value.details["precision"] == "float16"
    assert "dtype=bfloat16 or dtype=float32" in raised.value.hint


def overflow_from(decoder, position):
    """Make what float16 can't hold, and float32 can, of every position from there on."""
    table = decoder._positions

    def positions(number):
        wild = table(number)
        wild[position:, 0] = 1e6  # a row of one large value is 8 times its deviation; usual ones reach 4
        return wild

    decoder._positions = positions


@pytest.mark.parametrize("greedy", [True, False])
def test_an_overflow_of_float16_in_the_middle_of_a_piece_ends_it_before_the_next_half_second_is_read(spoilt, greedy):
    with torch.no_grad():
        spoilt.lm.transformer.layers[1].norm1.weight.fill_(1.2e4)
    read = 0

    def read_on(view):
        nonlocal read
        if view.frames - read >= 25:
            read += view.codes(read, read + 25).shape[-1]

    def generate(precision, frames):
        nonlocal read
        read = 0
        set_precision(spoilt, precision)
        decoder = Decoder(spoilt.lm)
        overflow_from(decoder, 60)
        how = {"max_gen_len": frames, "use_sampling": not greedy, "on_step": read_on}
        return decoder.generate(None, attributes(spoilt), **how)

    with pytest.raises(AudioError, match="float16") as raised:
        generate("float16", 300)
    assert raised.value.code == ErrorCode.MUSICGEN_ERROR
    assert raised.value.details["precision"] == "float16"
    assert 60 < raised.value.details["step"] <= 60 + 25 + 4
    assert read == 50
    assert generate("float32", 90).shape[-1] == 90


@pytest.mark.parametrize("mode", ["fast", "int8", "reference"])
@pytest.mark.parametrize("greedy", [True, False])
def test_logits_that_are_no_numbers_end_a_piece_that_nobody_reads_within_a_second_of_it(spoilt, mode, greedy):
    decoder = Decoder(spoilt.lm, mode)
    steps = []
    if mode == "reference":
        set_first(spoilt.lm.linears[2].weight, torch.nan)
    else:
        set_first(decoder._weights.norm.bias, torch.nan)
    with pytest.raises(AudioError) as raised:
        decoder.generate(
            None,
            attributes(spoilt),
            max_gen_len=120,
            use_sampling=not greedy,
            on_step=lambda view: steps.append(view.done),
        )
    assert raised.value.code == ErrorCode.MUSICGEN_ERROR
    assert len(steps) <= decoders.CHECK_STEPS
    assert raised.value.details["precision"] == ("int8" if mode == "int8" else "float32")
    assert raised.value.hint
    assert not spoilt.lm._forward_hooks


def test_the_engine_passes_on_which_precision_overflowed_and_goes_on(checkpoint, monkeypatch):
    """A GPU's float16, played by the tiny model on the CPU: its halved transformer overflows."""
    load = models._load

    def load_half(choice, report):
        model = load(choice, report)
        with torch.no_grad():
            model.musicgen.lm.transformer.layers[0].norm2.weight.fill_(6e4)
        set_precision(model.musicgen, "float16")
        return replace(model, decoder=Decoder(model.musicgen.lm), dtype="float16")

    MODELS.unload()
    mine, seen = engine(checkpoint("tiny")), []
    with monkeypatch.context() as patched:
        patched.setattr(models, "_load", load_half)
        with pytest.raises(AudioError, match="float16") as raised:
            render(mine, plan(1.0), progress=seen.append)
    assert raised.value.code == ErrorCode.MUSICGEN_ERROR
    assert raised.value.details["precision"] == "float16"
    assert all(progress.preview is None and progress.finished is None for progress in seen)
    MODELS.unload()
    assert render(mine, plan(0.3))
