"""transformers' own ways of generating give the same sound, errors and random states on our loop."""

import copy
import functools
import pickle
import threading

import pytest
import torch

from harmonia_lab import accelerate
from tests.audio_engines.musicgen.acceleration.peers import (
    CARD,
    assert_equal_on_our_loop,
    assert_equal_on_theirs,
    melody_model,
    outcome,
    same,
    transformers_model,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model():
    return transformers_model()


@pytest.fixture(scope="module")
def melody():
    return melody_model()


def drawn(*shape, high=None, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, high, shape, generator=generator) if high else torch.randn(shape, generator=generator) * 0.1


IDS = drawn(2, 9, high=190)
PADDED = {"input_ids": IDS, "attention_mask": (torch.arange(9) < torch.tensor([[5], [9]])).long()}
TEXT = drawn(2, 9, 16)


def generate(**arguments):
    """A call with two padded prompts, and what `arguments` change; an argument None is left out."""
    arguments = PADDED | {"max_new_tokens": 8} | arguments
    given = {name: value for name, value in arguments.items() if value is not None}
    # Lists and configurations are made for each call: transformers writes to them.
    return lambda model: model.generate(**copy.deepcopy(given))


def unconditional(model):
    return model.generate(**model.get_unconditional_inputs(num_samples=2), max_new_tokens=8)


class Streamer:
    def __init__(self):
        self.seen = []

    def put(self, tokens):
        self.seen.append(tokens.add_(0))  # a tensor that the caller may write to

    def end(self):
        self.seen.append("end")


def streamed(model):
    streamer = Streamer()
    return [generate()(model), *streamer.seen, model.generate(**PADDED, max_new_tokens=7, streamer=streamer)]


class NotTheSame:
    """A processor that writes to what it gets, and looks at the tokens before."""

    def __call__(self, ids, scores):
        return scores.scatter_(1, ids[:, -1:].clamp(max=CARD - 1), -1e9)


def with_processors(model, **arguments):
    from transformers import LogitsProcessorList

    processors = LogitsProcessorList([NotTheSame()])
    return model.generate(**PADDED, max_new_tokens=8, logits_processor=processors, **arguments)


def with_criteria(model):
    """Rows stop one after the other, and go on in between: the call ends when each has stopped once."""
    from transformers import StoppingCriteriaList

    lengths = []

    def criterion(ids, scores, **kwargs):
        lengths.append((ids.shape, scores))
        return torch.arange(len(ids)) == ids.shape[-1] - 2

    try:
        model.generate(**PADDED, max_new_tokens=20, stopping_criteria=StoppingCriteriaList([criterion]))
    except RuntimeError as error:  # transformers can't decode codes that are not complete
        lengths.append(str(error))
    return lengths


def with_configuration(model):
    from transformers import GenerationConfig

    own = GenerationConfig(**(model.generation_config.to_dict() | {"max_length": 14, "temperature": 1.3, "top_k": 9}))
    return model.generate(**PADDED, generation_config=own)


WAYS = {
    "greedy": generate(do_sample=False),
    "sampled": generate(),
    "temperature, top-p and min-p": generate(temperature=0.7, top_p=0.9, min_p=0.001),
    "top-k": generate(top_k=5),
    "typical": generate(typical_p=0.9),
    "penalties, no guidance": generate(no_repeat_ngram_size=2, suppress_tokens=[1, 2], guidance_scale=1),
    "guidance 1": generate(guidance_scale=1),
    "guidance 1.5": generate(guidance_scale=1.5),
    "max_length": generate(max_new_tokens=None, max_length=12),
    "a configuration of the caller's": with_configuration,
    "shorter than the pattern": generate(max_new_tokens=None, max_length=6),
    "one prompt": generate(input_ids=IDS[:1], attention_mask=None),
    "no prompt": lambda model: model.generate(max_new_tokens=8),
    "inputs by position": lambda model: model.generate(IDS, max_new_tokens=8),
    "unconditional": unconditional,
    "encoded text": generate(input_ids=None, encoder_outputs=(TEXT,), guidance_scale=1),
    "encoded text, no mask": generate(input_ids=None, attention_mask=None, encoder_outputs=(TEXT,), guidance_scale=1),
    "after a sound": generate(input_values=drawn(2, 1, 1920)),
    "after a padded sound": generate(input_values=drawn(2, 1, 1920), padding_mask=torch.ones(2, 1920).long()),
    "after codes": generate(decoder_input_ids=drawn(8, 3, high=CARD)),
    "a streamer": streamed,
    "processors of the caller's": lambda model: with_processors(model, guidance_scale=1),
    "criteria of the caller's": with_criteria,
    "a time limit": generate(max_time=100.0),
    "inference mode": torch.inference_mode()(generate()),
}


@pytest.mark.parametrize("call", WAYS.values(), ids=WAYS)
def test_every_way_of_calling_gives_transformers_outcome(model, call):
    assert_equal_on_our_loop(call, model)


def own_cache():
    from transformers import DynamicCache, EncoderDecoderCache

    return EncoderDecoderCache(DynamicCache(), DynamicCache())


THEIRS = {
    "scores": (lambda m: generate(return_dict_in_generate=True, output_scores=True)(m).sequences, "return_dict"),
    "several of each": (generate(num_return_sequences=2), "num_return_sequences"),
    "no cache": (generate(use_cache=False), "use_cache=False"),
    "a cache": (lambda m: m.generate(**PADDED, past_key_values=own_cache()), "has a cache"),
    "an end token": (generate(eos_token_id=3), "an end token"),
    "penalties": (generate(repetition_penalty=1.3, no_repeat_ngram_size=2), "comes before guidance"),
    "a mask of another shape": (generate(attention_mask=torch.ones(2, 8).long()), "another shape than the text"),
    "a mask for the tokens": (generate(decoder_attention_mask=torch.ones(2, 1).long()), "decoder_attention_mask"),
    "processors and guidance": (with_processors, "comes before guidance"),
    "guidance below 1": (generate(guidance_scale=0.5), "guides by itself"),
    "encoded text and guidance": (generate(input_ids=None, encoder_outputs=(TEXT,)), "number of rows"),
    "codes outside": (generate(decoder_input_ids=drawn(8, 3, high=CARD) + CARD), "not in the vocabulary"),
}


@pytest.mark.parametrize(("call", "reason"), THEIRS.values(), ids=THEIRS)
def test_what_our_loop_has_no_part_for_stays_transformers(model, call, reason):
    """Errors are the same, too."""
    assert_equal_on_theirs(call, model, reason)


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_beams": 2},
        {"max_new_tokens": -1},
        {"nonsense": 1},
        {"temperature": -1.0},
        {"decoder_input_ids": drawn(4, 6, high=CARD)},
        {"decoder_input_ids": drawn(8, 9, high=CARD), "max_length": 8, "max_new_tokens": None},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_what_transformers_refuses_is_refused_in_its_words(model, arguments):
    theirs = outcome(generate(**arguments), model)
    assert isinstance(theirs[0], str)
    with accelerate(model):
        assert same(outcome(generate(**arguments), model), theirs)


def test_stereo_models_give_transformers_outcome():
    stereo = transformers_model(channels=2)
    assert_equal_on_our_loop(generate(), stereo)
    assert_equal_on_our_loop(generate(input_values=drawn(2, 2, 1920), do_sample=False), stereo)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"do_sample": False, "guidance_scale": 1},
        {"input_features": drawn(2, 7, 12)},
        {"input_features": drawn(2, 30, 12), "guidance_scale": 1, "do_sample": False},
        {"input_features": drawn(2, 20, 12), "input_ids": None, "attention_mask": None},
        {"decoder_input_ids": drawn(8, 3, high=CARD)},
        {"temperature": 0.8, "top_p": 0.9},
    ],
    ids=["text", "greedy, no guidance", "melody", "long melody", "melody alone", "after codes", "top-p"],
)
def test_melody_models_give_transformers_outcome(melody, arguments):
    if isinstance(outcome(generate(**arguments), melody)[0], str):
        theirs = outcome(generate(**arguments), melody)
        with accelerate(melody):
            assert same(outcome(generate(**arguments), melody), theirs)
    else:
        assert_equal_on_our_loop(generate(**arguments), melody)


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(20))
def test_random_models_give_transformers_outcome(seed):
    assert_equal_on_our_loop(generate(max_new_tokens=60), transformers_model(seed=seed, layers=1 + seed % 4))


@pytest.mark.stress
def test_a_call_beyond_the_models_table_of_positions_gives_transformers_outcome(model):
    before = model.decoder.model.decoder.embed_positions.weights.shape
    with accelerate(model):
        ours = outcome(generate(max_new_tokens=2100), model)
        assert model.decoder.model.decoder.embed_positions.weights.shape == before
    assert same(outcome(generate(max_new_tokens=2100), model), ours)


# What somebody does to a model after it was accelerated.


def scale_data(model):
    model.decoder.model.decoder.layers[1].self_attn.k_proj.weight.data.mul_(-1.5)


def scale_by_state(model):
    model.load_state_dict({name: tensor * 0.9 for name, tensor in model.state_dict().items()})


@pytest.mark.parametrize("change", [scale_data, scale_by_state])
def test_changed_weights_are_packed_again(model, change):
    mine = copy.deepcopy(model)
    with accelerate(mine) as running:
        before = outcome(generate(), mine)
        change(mine)
        ours = outcome(generate(), mine)
        assert running.running == "fast"
    assert same(outcome(generate(), mine), ours)
    assert not same(before[0], ours[0])


def lora(model):
    class LoraLinear(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) * 0.5

    model.decoder.model.decoder.layers[0].self_attn.v_proj.__class__ = LoraLinear


def offload(model):
    layer = model.decoder.model.decoder.layers[0]
    layer.forward = functools.partial(layer.forward)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lora, "layers.0.self_attn.v_proj is a .*LoraLinear"),
        (offload, "forward pass of .*layers.0 has been replaced"),
        (lambda model: model.decoder.register_forward_hook(lambda *_: None), "decoder has hooks"),
        (lambda model: model.train(), "it is in training mode"),
        (lambda model: model.to(torch.bfloat16), "bfloat16 are rounded elsewhere"),
        (lambda model: model.decoder.half(), "float16 are rounded elsewhere"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_our_loop_would_not_see_stays_transformers(model, change, reason):
    mine = copy.deepcopy(model)
    change(mine)
    with pytest.warns(UserWarning, match=reason), accelerate(mine):
        ours = outcome(generate(), mine)
    assert same(outcome(generate(), mine), ours)


def test_half_precision_is_served_if_asked_for(model):
    mine = copy.deepcopy(model).to(torch.bfloat16)
    with accelerate(mine, "fast") as running:
        sound = generate()(mine)
        assert running.running == "fast"
    assert sound.shape == generate()(mine).shape
    with accelerate(model, "int8") as running:
        assert generate()(model).shape == sound.shape
        assert running.running == "int8"


def test_a_release_with_another_signature_stays_transformers(model, monkeypatch):
    kind = type(model)
    original = kind._sample

    def _sample(self, input_ids, logits_processor, stopping_criteria, generation_config, draft=None, **model_kwargs):
        return original(self, input_ids, logits_processor, stopping_criteria, generation_config, **model_kwargs)

    monkeypatch.setattr(kind, "_sample", _sample, raising=False)
    with pytest.warns(UserWarning, match="another _sample than the releases that are known"):
        running = accelerate(model)
    assert running.running == "reference"
    assert "_sample" not in model.__dict__


def test_undo_puts_back_exactly_what_was_there(model):
    before = dict(model.__dict__)
    running = accelerate(model)
    assert model.__dict__.keys() - before.keys() == {"_sample", "_prefill"}
    assert accelerate(model)._served is running._served
    running.undo()
    assert model.__dict__ == before
    assert running.running == "reference"


def test_copies_and_pickles_are_transformers_own_and_can_be_accelerated(model):
    with accelerate(model):
        copied, decoder = copy.deepcopy(model), pickle.dumps(model.decoder)
        assert model._sample.__reduce__() == (getattr, (model, "_sample"))
    assert b"harmonia_lab" not in decoder
    assert copied._sample.__self__ is copied
    assert copied._sample.__func__ is type(copied)._sample
    assert same(outcome(generate(), copied), outcome(generate(), model))
    assert_equal_on_our_loop(generate(), copied)


@pytest.mark.stress
def test_a_saved_model_is_the_model(model, tmp_path):
    with accelerate(model):
        model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert same(outcome(generate(do_sample=False), loaded)[0], outcome(generate(do_sample=False), model)[0])


def test_calls_at_once_dont_disturb_each_other(model):
    """Those that fall back keep to themselves whether transformers' own loop runs in their thread."""
    calls = [generate(do_sample=False, max_new_tokens=n, use_cache=n != 8) for n in (7, 8, 9, 10)]
    expected = [call(model) for call in calls]
    found = [None] * 4

    def work(at):
        found[at] = calls[at](model)

    def all_at_once():
        threads = [threading.Thread(target=work, args=(at,)) for at in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with accelerate(model), pytest.warns(UserWarning, match="use_cache"):
        all_at_once()
    assert same(found, expected)
