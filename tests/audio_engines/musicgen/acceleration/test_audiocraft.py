"""audiocraft's own ways of generating give the same tokens, sound and random state on our loop."""

import copy
import io
import threading
import warnings

import pytest
import torch

from harmonia_lab import accelerate
from tests.audio_engines.musicgen.acceleration.peers import (
    PROMPTS,
    assert_equal_on_our_loop,
    assert_equal_on_theirs,
    audiocraft_model,
    outcome,
    same,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model():
    return audiocraft_model()


def set_to(model, **parameters):
    model.set_generation_params(**({"duration": 0.12} | parameters))
    return model


def generate(prompts=PROMPTS, **parameters):
    """A call of `MusicGen.generate`; prompts of one length, or padded ones."""
    return lambda model: set_to(model, **parameters).generate(prompts, return_tokens=True)


def wave(rows=2, channels=1, seconds=0.08, rate=32000):
    return torch.randn(rows, channels, int(seconds * rate), generator=torch.Generator().manual_seed(3)) * 0.1


def beyond_the_window(model, **parameters):
    """3 windows of 0.12 s; the window is the model's, so it is put back."""
    window, model.max_duration = model.max_duration, 0.12
    try:
        set_to(model, duration=0.24, extend_stride=0.06)
        return model.generate(PROMPTS, return_tokens=True, **parameters)
    finally:
        model.max_duration = window


def with_callback(model):
    seen = []
    model.set_custom_progress_callback(lambda done, total: seen.append((done, total, torch.is_grad_enabled())))
    try:
        return [*set_to(model).generate(PROMPTS, progress=True, return_tokens=True), seen]
    finally:
        model.set_custom_progress_callback(None)


def lm_generate(**arguments):
    def call(model):
        conditions, _ = model._prepare_tokens_and_attributes(PROMPTS, None)
        return model.lm.generate(**({"conditions": conditions, "max_gen_len": 9} | arguments))

    return call


def codes(frames=5, **kind):
    return torch.randint(0, 512, (2, 4, frames), generator=torch.Generator().manual_seed(1), **kind)


def positional(model):
    conditions, _ = model._prepare_tokens_and_attributes(PROMPTS, None)
    return model.lm.generate(None, conditions, None, 8, True, 0.9, 20, 0.0, 2.0)


WAYS = {
    "greedy": generate(use_sampling=False),
    "top-k": generate(top_k=30),
    "every token": generate(top_k=0),
    "top-p": generate(top_p=0.9),
    "temperature": generate(temperature=0.7),
    "temperature 0": generate(temperature=0.0),
    "no guidance": generate(cfg_coef=1.0),
    "two-step guidance": generate(two_step_cfg=True),
    "one prompt": generate(["a slow waltz"]),
    "a batch of 4": generate([*PROMPTS, "a", "epic strings and brass at dawn, slow and wide, in d minor"]),
    "unconditional": lambda model: set_to(model).generate_unconditional(2, return_tokens=True),
    "continuation": lambda model: set_to(model).generate_continuation(wave(), 32000, return_tokens=True),
    "continuation with text": lambda model: set_to(model).generate_continuation(wave(), 32000, PROMPTS, False, True),
    "beyond the window": beyond_the_window,
    "a progress callback": with_callback,
    "inference mode": torch.inference_mode()(generate()),
    "lm.generate": lm_generate(),
    "lm.generate, positional arguments": positional,
    "lm.generate, the prompt removed": lm_generate(prompt=codes(), remove_prompts=True),
    "lm.generate, an int32 prompt": lm_generate(prompt=codes(dtype=torch.int32)),
    "lm.generate, checked": lm_generate(check=True, num_samples=2, prompt=codes()),
}


@pytest.mark.parametrize("call", WAYS.values(), ids=WAYS)
def test_every_way_of_calling_gives_audiocrafts_outcome(model, call, capsys):
    assert_equal_on_our_loop(call, model)


def with_chroma(model):
    return set_to(model).generate_with_chroma(PROMPTS, [wave()[0], None], 32000, return_tokens=True)


def continued_melody(model):
    return set_to(model).generate_continuation(wave(), 32000, PROMPTS, return_tokens=True)


def chroma_beyond_the_window(model):
    window, model.max_duration = model.max_duration, 0.12
    try:
        set_to(model, duration=0.24, extend_stride=0.06)
        return model.generate_with_chroma(PROMPTS, wave(), 32000, return_tokens=True)
    finally:
        model.max_duration = window


@pytest.mark.parametrize(
    "call", [with_chroma, generate(), continued_melody, chroma_beyond_the_window],
    ids=["chroma", "text alone", "continuation", "chroma beyond the window"],
)  # fmt: skip
def test_melody_models_give_audiocrafts_outcome(melody, call):
    assert_equal_on_our_loop(call, melody)


@pytest.fixture(scope="module")
def melody():
    return audiocraft_model("tiny-melody")


def test_stereo_models_give_audiocrafts_outcome():
    stereo = audiocraft_model("tiny-stereo")
    assert_equal_on_our_loop(generate(), stereo)
    assert_equal_on_our_loop(
        lambda m: set_to(m).generate_continuation(wave(channels=2), 32000, None, False, True), stereo
    )


def test_audiogen_gives_audiocrafts_outcome(model):
    from audiocraft.models import AudioGen

    sounds = AudioGen("tiny", model.compression_model, model.lm, max_duration=10)
    assert_equal_on_our_loop(generate(["a dog barks", "rain"]), sounds)
    assert_equal_on_our_loop(beyond_the_window, sounds)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lm_generate(conditions=[]), "no conditions"),
        (lm_generate(top_k=600), "out of range"),
        (lm_generate(top_p=1.5), "out of range"),
        (lm_generate(max_gen_len=5, prompt=codes()), "nothing to generate"),
        (lm_generate(prompt=codes()[:1]), "another shape"),
        (lm_generate(prompt=codes() + 500), "not in the vocabulary"),
        (lm_generate(num_samples=3), "3 samples of 2 conditions"),
        (lambda model: model.lm.generate(None, [], bad=1, max_gen_len=0, prompt=None), "multiple values"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_audiocraft_refuses_or_does_alone_stays_audiocrafts(model, call, reason):
    assert_equal_on_theirs(call, model, reason)


def test_a_callback_that_raises_ends_the_call_and_the_next_one_is_right(model):
    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    expected = outcome(lm_generate(), model)
    with accelerate(model):
        with pytest.raises(KeyboardInterrupt):
            lm_generate(callback=stop)(model)
        assert same(outcome(lm_generate(), model), expected)


# What somebody does to a model after it was accelerated.


def own(model):
    """A model whose weights a test may change."""
    copied = copy.deepcopy(model)
    return set_to(copied)


def scale_by_state(model):
    model.lm.load_state_dict({name: tensor * 0.9 for name, tensor in model.lm.state_dict().items()})


def scale_data(model):
    model.lm.transformer.layers[1].linear2.weight.data.mul_(-1.5)


def swap_through_numpy(model):
    weight = model.lm.transformer.layers[0].linear1.weight.detach().numpy()
    weight[[0, 1]] = weight[[1, 0]]


def replace_a_head(model):
    model.lm.linears[0].weight = torch.nn.Parameter(model.lm.linears[1].weight.detach().clone())


def new_layer(model):
    model.lm.transformer.layers[0] = copy.deepcopy(model.lm.transformer.layers[1])


@pytest.mark.parametrize("change", [scale_by_state, scale_data, swap_through_numpy, replace_a_head, new_layer])
def test_changed_weights_are_packed_again(model, change):
    mine = own(model)
    with accelerate(mine) as running:
        before = outcome(lm_generate(), mine)
        change(mine)
        ours = outcome(lm_generate(), mine)
        assert running.running == "fast"
    assert same(outcome(lm_generate(), mine), ours)
    assert not same(before[0], ours[0])


def hook_a_layer(model):
    model.lm.transformer.layers[0].linear1.register_forward_hook(lambda module, args, out: out * 0.5)


def lora(model):
    class LoraLinear(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) * 0.5

    model.lm.transformer.layers[1].linear1.__class__ = LoraLinear


def replace_the_sampler(model):
    original = model.lm._sample_next_token
    model.lm._sample_next_token = lambda *args, **kwargs: original(*args, **kwargs) * 0


def parametrised(model):
    torch.nn.utils.parametrizations.weight_norm(model.lm.transformer.layers[0].linear2)


def compiled(model):
    layer = model.lm.transformer.layers[0]
    layer._compiled_call_impl = layer._call_impl  # as `layer.compile()` sets it, without compiling for seconds


@pytest.mark.filterwarnings("default:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (hook_a_layer, "layers.0.linear1 has hooks"),
        (lora, "LoraLinear"),
        (replace_the_sampler, "_sample_next_token has been replaced"),
        (parametrised, "ParametrizedLinear"),
        (compiled, "layers.0 is compiled"),
        (lambda model: model.lm.train(), "training mode"),
        (lambda model: model.lm.transformer.layers[0].train(), "layers.0 is in training mode"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_our_loop_would_not_see_stays_audiocrafts(model, change, reason):
    mine = own(model)
    with accelerate(mine) as running:
        change(mine)
        with pytest.warns(UserWarning, match=reason):
            ours = outcome(lm_generate(max_gen_len=4), mine)
        assert reason in running.reason
    assert same(outcome(lm_generate(max_gen_len=4), mine), ours)


def test_half_precision_on_a_cpu_stays_audiocrafts_unless_asked_for(model):
    mine = own(model)
    running = accelerate(mine)
    mine.lm.half()
    with pytest.warns(UserWarning, match='float16 are rounded elsewhere.*"fast"'):
        ours = outcome(lm_generate(max_gen_len=4), mine)
    running.undo()
    assert same(outcome(lm_generate(max_gen_len=4), mine), ours)
    with pytest.warns(UserWarning, match="autocast computes in bfloat16"), accelerate(model):
        torch.autocast("cpu", torch.bfloat16)(lm_generate(max_gen_len=4))(model)


def test_a_quantised_model_stays_audiocrafts(model):
    mine = own(model)
    with warnings.catch_warnings(action="ignore"):
        torch.ao.quantization.quantize_dynamic(mine.lm.transformer, {torch.nn.Linear}, inplace=True)
    with pytest.warns(UserWarning, match=r"out_proj is a torch\.ao\.nn\.quantized"):
        accelerate(mine)


def test_a_warning_comes_once_for_each_reason(model, recwarn):
    with accelerate(model):
        for _ in range(3):
            outcome(lm_generate(top_k=600), model)
            outcome(lm_generate(conditions=[]), model)
    assert len(recwarn) == 2


# Undoing, doing it twice, copying.


def test_undo_puts_back_exactly_what_was_there(model):
    before, function = dict(model.lm.__dict__), type(model.lm).generate
    running = accelerate(model)
    assert model.lm.__dict__.keys() - before.keys() == {"generate"}
    running.undo()
    running.undo()
    assert model.lm.__dict__ == before
    assert type(model.lm).generate is function
    assert running.running == "reference"


def test_undo_leaves_what_somebody_put_in_its_place(model):
    running = accelerate(model)
    model.lm.generate = mine = lambda *args, **kwargs: "mine"
    running.undo()
    assert model.lm.generate is mine
    with pytest.warns(UserWarning, match="generate has been replaced"):
        accelerate(model)
    del model.lm.generate


def test_twice_is_once_and_a_block_puts_back_the_mode_before_it(model):
    outer = accelerate(model)
    hook = model.lm.generate
    assert accelerate(model.lm).running == "fast"
    with accelerate(model, "int8") as inner:
        assert model.lm.generate is hook
        lm_generate()(model)
        assert (inner.running, outer.running) == ("int8", "int8")
    assert outer.running == "fast"
    assert same(outcome(lm_generate(), model)[0], lm_outcome(model))
    accelerate(model, "reference")
    assert "generate" not in model.lm.__dict__


def lm_outcome(model):
    """The tokens of audiocraft's own loop."""
    return outcome(lambda m: type(m.lm).generate(m.lm, None, m._prepare_tokens_and_attributes(PROMPTS, None)[0], max_gen_len=9), model)[0]  # fmt: skip  # noqa: E501


def test_copies_and_pickles_are_audiocrafts_own_and_can_be_accelerated(model):
    with accelerate(model):
        copied = copy.deepcopy(model.lm)
        buffer = io.BytesIO()
        torch.save(model.lm.transformer, buffer)
        reduced = model.lm.generate.__reduce__()
    assert reduced == (getattr, (model.lm, "generate"))  # as a bound method: no class of ours in the pickle
    assert copied.generate.__func__ is type(copied).generate
    assert copied.generate.__self__ is copied
    copied.linears[0].weight.data.mul_(-1)
    model_of_copy = set_to(copy.copy(model))
    model_of_copy.lm = copied
    assert_equal_on_our_loop(lm_generate(), model_of_copy)
    assert not same(outcome(lm_generate(), model_of_copy)[0], outcome(lm_generate(), model)[0])


def test_calls_at_once_dont_disturb_each_other(model):
    greedy = [lm_generate(use_sampling=False, max_gen_len=length) for length in (6, 8, 10, 12)]
    expected = [call(model) for call in greedy]
    found = [None] * 4

    def work(at):
        found[at] = greedy[at](model)

    with accelerate(model):
        threads = [threading.Thread(target=work, args=(at,)) for at in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert same(found, expected)
