"""The peers' own classes with tiny random weights, and one call made twice: by their loop, and by ours."""

import random
import warnings

import torch

from harmonia_lab import accelerate

CARD = 256
PROMPTS = ["a calm piano melody over rain, 70 bpm", "drums"]


def audiocraft_model(size="tiny"):
    from harmonia_lab.audio_engines.musicgen.random_checkpoint import build_model

    model = build_model(size, seed=1)
    model.set_generation_params(duration=0.12)
    return model


def transformers_model(channels=1, seed=1, layers=2):
    from transformers import (
        EncodecConfig,
        GenerationConfig,
        MusicgenConfig,
        MusicgenDecoderConfig,
        MusicgenForConditionalGeneration,
        T5Config,
    )

    decoder = MusicgenDecoderConfig(
        vocab_size=CARD, hidden_size=32, num_hidden_layers=layers, num_attention_heads=4, ffn_dim=64,
        num_codebooks=4 * channels, audio_channels=channels, pad_token_id=CARD, bos_token_id=CARD,
    )  # fmt: skip
    config = MusicgenConfig(text_encoder=t5(T5Config), audio_encoder=codec(EncodecConfig), decoder=decoder.to_dict())
    torch.manual_seed(seed)
    return randomised(MusicgenForConditionalGeneration(config), GenerationConfig)


def melody_model(seed=1):
    from transformers import (
        EncodecConfig,
        GenerationConfig,
        MusicgenMelodyConfig,
        MusicgenMelodyDecoderConfig,
        MusicgenMelodyForConditionalGeneration,
        T5Config,
    )

    decoder = MusicgenMelodyDecoderConfig(
        vocab_size=CARD, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=64, num_codebooks=4,
        audio_channels=1, pad_token_id=CARD, bos_token_id=CARD,
    )  # fmt: skip
    config = MusicgenMelodyConfig(
        text_encoder=t5(T5Config), audio_encoder=codec(EncodecConfig), decoder=decoder.to_dict(), num_chroma=12,
        chroma_length=20,
    )  # fmt: skip
    torch.manual_seed(seed)
    return randomised(MusicgenMelodyForConditionalGeneration(config), GenerationConfig)


def t5(kind):
    return kind(vocab_size=300, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2).to_dict()


def codec(kind):
    """50 frames a second at 32 kHz; the bandwidth says its 4 codebooks, 8 bits each."""
    return kind(
        sampling_rate=32000, num_filters=4, upsampling_ratios=[8, 5, 4, 4], codebook_size=CARD, codebook_dim=16,
        hidden_size=16, target_bandwidths=[1.6], use_causal_conv=False,
    ).to_dict()  # fmt: skip


def randomised(model, generation_config):
    model.eval()
    model.generation_config = generation_config(
        do_sample=True, guidance_scale=3.0, max_length=30, decoder_start_token_id=CARD, pad_token_id=CARD,
        bos_token_id=CARD,
    )  # fmt: skip
    codebooks = [buffer for name, buffer in model.audio_encoder.named_buffers() if name.endswith("embed")]
    with torch.no_grad():
        for tensor in [*model.parameters(), *codebooks]:
            tensor.normal_(0, 0.3)
    return model


def outcome(call, model):
    """What a call returns, or the error that it raises, and the random states that it leaves."""
    torch.manual_seed(7)
    random.seed(7)
    try:
        result = call(model)
    except Exception as error:  # noqa: BLE001 - an error is an outcome, too
        result = f"{type(error).__name__}: {error}"
    return result, torch.get_rng_state(), random.getstate()


def same(left, right):
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and torch.equal(left, right)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    return left == right


def assert_equal_on_our_loop(call, model, decoder="auto"):
    """The call gives the same on their loop and on ours, random state included; and ours did serve it."""
    theirs = outcome(call, model)
    with accelerate(model, decoder) as running:
        ours = outcome(call, model)
        assert (running.running, running.reason) == ("fast", "")
    assert same(theirs, ours), (theirs[0], ours[0])


def assert_equal_on_theirs(call, model, reason):
    """The call is served by their loop, with the reason as a warning: the same outcome, errors included."""
    theirs = outcome(call, model)
    with accelerate(model) as running, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        ours = outcome(call, model)
        assert running.running == "reference"
    assert [reason in str(warning.message) for warning in warned] == [True]
    assert same(theirs, ours), (theirs[0], ours[0])
