"""audiocraft's configuration of MusicGen's language model, from its shape.

Owns that table, for models whose files don't have it: random ones, transformers', and weights alone. Imports nothing.
"""

from __future__ import annotations

from typing import Any

__all__ = ["language_model_config"]


def language_model_config(
    *,
    dim: int,
    heads: int,
    layers: int,
    codebooks: int,
    card: int,
    stereo: bool,
    melody: bool,
    t5: str,
    hidden_scale: float = 4,
    activation: str = "gelu",
    sample_rate: int = 32000,
    n_chroma: int = 12,
    seconds: float = 30,
) -> dict[str, Any]:
    """Return the configuration of the released models (`config/model/lm/musicgen_lm.yaml`), in this shape.

    Options that have audiocraft's default value there are left out. card: tokens per codebook. hidden_scale: width of
    the feed-forward layers, in widths of the model. t5: the name by which audiocraft looks for the text encoder.
    seconds: of a window.
    """
    delays = [k // 2 if stereo else k for k in range(codebooks)]
    chroma = {
        "sample_rate": sample_rate,
        "n_chroma": n_chroma,
        "radix2_exp": 14,
        "argmax": True,
        "match_len_on_eval": False,
    }
    conditioners: dict[str, Any] = {"description": {"model": "t5", "t5": {"name": t5, "finetune": False}}}
    if melody:
        conditioners = {"self_wav": {"model": "chroma_stem", "chroma_stem": chroma}} | conditioners
    return {
        "lm_model": "transformer_lm",
        "interleave_stereo_codebooks": {"use": stereo},
        "codebooks_pattern": {"modeling": "delay", "delay": {"delays": delays}},
        "transformer_lm": {
            "dim": dim,
            "num_heads": heads,
            "num_layers": layers,
            "hidden_scale": hidden_scale,
            "n_q": codebooks,
            "card": card,
            "dropout": 0.0,
            "activation": activation,
            "norm_first": True,
            "bias_ff": False,
            "bias_attn": False,
            "bias_proj": False,
            "causal": True,
            "memory_efficient": True,
            "weight_init": "gaussian",
            "depthwise_init": "current",
            "zero_bias_init": True,
        },
        "classifier_free_guidance": {"training_dropout": 0.3, "inference_coef": 3.0},
        "attribute_dropout": {},
        "fuser": {
            "sum": [],
            "prepend": ["self_wav", "description"] if melody else [],
            "cross": [] if melody else ["description"],
            "input_interpolate": [],
        },
        "conditioners": conditioners,
        "dataset": {"segment_duration": seconds},
    }
