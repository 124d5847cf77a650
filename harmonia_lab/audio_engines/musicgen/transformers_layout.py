"""transformers' MusicGen in audiocraft's terms: the names of the weights, and the configuration.

Owns that mapping, for files (`model_files.py`) and for models in memory alike. The mapping is a renaming: the two
implementations compute the same function, `transformers/models/musicgen/modeling_musicgen.py` and
`audiocraft/models/lm.py`. Owns no file and no loading. Imports nothing heavy.

Shapes: d is the transformer's width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harmonia_lab.audio_engines.musicgen.lm_config import language_model_config

__all__ = [
    "CHROMA_PROJECTION",
    "QUERY_KEY_VALUE",
    "TEXT_PROJECTION",
    "audiocraft_config",
    "audiocraft_name",
    "audiocraft_state",
    "unknown_config",
]

QUERY_KEY_VALUE = ("q_proj", "k_proj", "v_proj")
"""transformers' three matrices [d, d], whose rows are audiocraft's `in_proj_weight` [3 d, d], in this order."""

TEXT_PROJECTION = "condition_provider.conditioners.description.output_proj"
CHROMA_PROJECTION = "condition_provider.conditioners.self_wav.output_proj"
"""audiocraft's projections of T5's output and of the chroma to the width d."""

_BEGINNINGS = {
    "decoder.model.decoder.layers.": "transformer.layers.",
    "decoder.model.decoder.embed_tokens.": "emb.",
    "decoder.model.decoder.layer_norm.": "out_norm.",
    "decoder.lm_heads.": "linears.",
    "enc_to_dec_proj.": f"{TEXT_PROJECTION}.",
    "audio_enc_to_dec_proj.": f"{CHROMA_PROJECTION}.",
}
_WITHIN_A_LAYER = {
    ".self_attn_layer_norm.": ".norm1.",
    ".encoder_attn_layer_norm.": ".norm_cross.",
    ".final_layer_norm.": ".norm2.",
    ".encoder_attn.": ".cross_attention.",
    ".fc1.": ".linear1.",
    ".fc2.": ".linear2.",
}
_WINDOW_S = 30
"""Seconds that the released models were trained on. transformers' configuration doesn't have them."""

_CHROMA_HOP = 2**14 // 4
"""Samples between two frames of the chroma: a quarter of its window (audiocraft's `ChromaExtractor`)."""


def audiocraft_name(name: str) -> str | None:
    """Return audiocraft's name of a weight of transformers' `Musicgen(Melody)ForConditionalGeneration`.

    Queries, keys and values keep their three names, such as `transformer.layers.0.self_attn.q_proj.weight`, until
    `audiocraft_state` joins them. None for what is no part of the language model: text encoder, codec, position table.
    """
    for beginning, ours in _BEGINNINGS.items():
        if name.startswith(beginning):
            renamed = ours + name.removeprefix(beginning)
            for theirs, other in _WITHIN_A_LAYER.items():
                renamed = renamed.replace(theirs, other)
            return renamed
    return None


def audiocraft_state(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state dict of audiocraft's LMModel from transformers' weights (tensors) by transformers' names.

    Only the joined queries, keys and values are copies. Where T5's width is d, transformers has no projection, and the
    result has the identity. Raise KeyError if a layer lacks one of the three.
    """
    import torch  # noqa: PLC0415

    state = {ours: tensor for name, tensor in weights.items() if (ours := audiocraft_name(name)) is not None}
    first = f".{QUERY_KEY_VALUE[0]}.weight"
    for name in [name for name in state if name.endswith(first)]:
        attention = name.removesuffix(first)
        parts = [state.pop(f"{attention}.{part}.weight") for part in QUERY_KEY_VALUE]
        state[f"{attention}.in_proj_weight"] = torch.cat(parts)
    if f"{TEXT_PROJECTION}.weight" not in state and "emb.0.weight" in state:
        width = state["emb.0.weight"].shape[1]
        state[f"{TEXT_PROJECTION}.weight"] = torch.eye(width)
        state[f"{TEXT_PROJECTION}.bias"] = torch.zeros(width)
    return state


def unknown_config(config: Any) -> str:
    """Return why audiocraft has no model of a configuration (transformers' `Musicgen(Melody)Config`); "" if it has."""
    decoder = config.decoder
    if config.text_encoder.model_type != "t5":
        return f"its text encoder is {config.text_encoder.model_type}, not T5"
    if config.audio_encoder.model_type != "encodec":
        return f"its codec is {config.audio_encoder.model_type}, not EnCodec"
    if decoder.activation_function not in ("gelu", "relu"):
        return f"its feed-forward layers are activated by {decoder.activation_function}"
    if decoder.scale_embedding:
        return "its embeddings are scaled"
    if decoder.hidden_size % decoder.num_attention_heads:
        return f"its width {decoder.hidden_size} is no multiple of its {decoder.num_attention_heads} heads"
    return ""


def audiocraft_config(config: Any, t5: str) -> dict[str, Any]:
    """Return audiocraft's configuration of a language model.

    config: transformers' `MusicgenConfig` or `MusicgenMelodyConfig`. t5: the name by which audiocraft looks for T5.
    """
    decoder, rate = config.decoder, int(config.audio_encoder.sampling_rate)
    melody, seconds = config.model_type == "musicgen_melody", float(_WINDOW_S)
    # Frames of a window: those that begin in it, and one more, since the transform is centred.
    if melody and config.chroma_length != _WINDOW_S * rate // _CHROMA_HOP + 1:
        seconds = (config.chroma_length - 0.5) * _CHROMA_HOP / rate
    return language_model_config(
        dim=int(decoder.hidden_size),
        heads=int(decoder.num_attention_heads),
        layers=int(decoder.num_hidden_layers),
        codebooks=int(decoder.num_codebooks),
        card=int(decoder.vocab_size),
        stereo=decoder.audio_channels == 2,
        melody=melody,
        t5=t5,
        hidden_scale=decoder.ffn_dim / decoder.hidden_size,
        activation=str(decoder.activation_function),
        sample_rate=rate,
        n_chroma=int(config.num_chroma) if melody else 12,
        seconds=seconds,
    )
