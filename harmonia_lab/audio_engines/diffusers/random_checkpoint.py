"""Checkpoints with random weights: each pipeline's real classes, tiny, for tests and for trying the way through.

Owns their shapes. They make noise. Imports torch and diffusers.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harmonia_lab.audio_engines.diffusers.checkpoints import MARKER
from harmonia_lab.errors import InvalidRequest

__all__ = ["SHAPES", "make_checkpoint"]

_RATE = 8000
"""Hz."""


def make_checkpoint(folder: Path, shape: str, seed: int = 0) -> Path:
    """Write a checkpoint in diffusers' layout with random weights, and return its folder.

    shape: one of `SHAPES`. Raises InvalidRequest for another, or a folder that isn't empty.
    """
    if shape not in SHAPES:
        raise InvalidRequest(
            f"There is no shape {shape!r} for the diffusers engine.",
            hint=f"Choose one of {', '.join(SHAPES)}.",
            details={"fields": ["size"], "known": list(SHAPES)},
        )
    if folder.exists() and any(folder.iterdir()):
        raise InvalidRequest(f"{folder} is not empty.", hint="Name a new folder.", details={"fields": ["folder"]})
    import torch  # noqa: PLC0415

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = SHAPES[shape]()
        _wake(pipeline)
    pipeline.save_pretrained(str(folder))
    (folder / MARKER).write_text(json.dumps({"shape": shape, "seed": seed}) + "\n", encoding="utf-8")
    return folder


def _wake(pipeline: Any) -> None:
    """Draw the parameters that training begins at zero: with them, Stable Audio 3 makes one sound of any noise."""
    import torch  # noqa: PLC0415

    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    with torch.no_grad():
        for parameter in (each for part in parts for each in part.parameters()):
            if not parameter.any():
                parameter.normal_(std=0.1)


def _module(name: str) -> Any:
    """Import by name: diffusers has few types, and transformers' are of no use for keyword arguments from a table."""
    return importlib.import_module(name)


def _tokenizer() -> Any:
    """Return a tokenizer of letters: the pipelines ask for ids and a mask, no more."""
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415

    symbols = ["<pad>", "</s>", "<unk>", *map(chr, range(32, 127)), "\n"]
    core = Tokenizer(models.WordLevel({symbol: i for i, symbol in enumerate(symbols)}, unk_token="<unk>"))  # noqa: S106
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return _module("transformers").PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",  # noqa: S106 - as above
        eos_token="</s>",  # noqa: S106 - no password
        unk_token="<unk>",  # noqa: S106 - as above
        model_max_length=512,
    )


def _ace_step(*, turbo: bool = True) -> Any:
    """Return ACE-Step with latents at 25 a second, as the released one has them."""
    library, parts, transformers = map(_module, ("diffusers", "diffusers.pipelines.ace_step", "transformers"))
    tokens = _tokenizer()
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    width = {"hidden_size": 16, "intermediate_size": 24, **heads}
    local = {**width, "sliding_window": 12}
    codes = {**local, "audio_acoustic_hidden_dim": 8, "num_attention_pooler_hidden_layers": 1}
    condition = parts.AceStepConditionEncoder(
        **local, text_hidden_dim=16, timbre_hidden_dim=8, num_lyric_encoder_hidden_layers=1,
        num_timbre_encoder_hidden_layers=1,
    )  # fmt: skip
    condition.silence_latent.normal_()  # a buffer: the released one holds encoded silence, the default is zeros
    text = transformers.Qwen3Config(**width, num_hidden_layers=1, vocab_size=len(tokens), max_position_embeddings=4096)
    return library.AceStepPipeline(
        vae=library.AutoencoderOobleck(
            encoder_hidden_size=16, downsampling_ratios=[4, 8, 10], decoder_channels=4, decoder_input_channels=8,
            audio_channels=2, channel_multiples=[1, 2, 4], sampling_rate=_RATE,
        ),
        text_encoder=transformers.Qwen3Model(text),
        tokenizer=tokens,
        condition_encoder=condition,
        transformer=library.AceStepTransformer1DModel(
            **local, num_hidden_layers=2, in_channels=24, audio_acoustic_hidden_dim=8, patch_size=2, is_turbo=turbo
        ),
        scheduler=library.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
        audio_tokenizer=parts.AceStepAudioTokenizer(**codes, fsq_dim=16, fsq_input_levels=[4, 4, 4]),
        audio_token_detokenizer=parts.AceStepAudioTokenDetokenizer(**codes),
    )  # fmt: skip


def _stable_audio(*, distilled: bool = True) -> Any:
    library, parts, transformers = map(_module, ("diffusers", "diffusers.pipelines.stable_audio_3", "transformers"))
    gemma = _module("transformers.models.t5gemma.configuration_t5gemma")
    tokens, width = _tokenizer(), 24
    half = gemma.T5GemmaModuleConfig(
        vocab_size=len(tokens), hidden_size=width, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=256, layer_types=["full_attention"],
    ).to_dict()  # fmt: skip
    return library.StableAudio3Pipeline(
        vae=library.AutoencoderSAME(
            audio_channels=2, patch_size=64, encoder_channels=6, encoder_c_mults=(2,), encoder_strides=(4,),
            encoder_transformer_depths=(1,), latent_dim=8, dim_heads=4, ff_mult=2, sampling_rate=_RATE,
        ),
        text_encoder=transformers.T5GemmaEncoderModel(
            transformers.T5GemmaConfig(encoder=half, decoder=half, is_encoder_decoder=False)
        ),
        tokenizer=tokens,
        duration_embedder=parts.StableAudio3DurationEmbedder(output_dim=width, fourier_dim=12),
        transformer=library.StableAudio3DiTModel(
            io_channels=8, embed_dim=24, depth=1, num_heads=2, cond_token_dim=width, global_cond_dim=width,
            local_add_cond_dim=9, timestep_features_dim=12, ff_mult=2, num_memory_tokens=2,
        ),
        scheduler=library.FlowMatchEulerDiscreteScheduler(
            num_train_timesteps=1, shift=1.0, stochastic_sampling=distilled
        ),
    )  # fmt: skip


SHAPES: dict[str, Callable[[], Any]] = {
    "acestep": _ace_step,
    "acestep-base": lambda: _ace_step(turbo=False),
    "stable-audio-3": _stable_audio,
    "stable-audio-3-base": lambda: _stable_audio(distilled=False),
}
