"""The weights of transformers' MusicGen in the form that the forward pass reads.

Owns the mapping from transformers' modules to audiocraft's names, which `lm_weights.py` reads. It is a renaming;
queries, keys and values, which audiocraft keeps in one matrix, are copied into one.
"""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it
from torch import Tensor, nn

from harmonia_lab.audio_engines.musicgen.lm_weights import Weights
from harmonia_lab.audio_engines.musicgen.packed_weights import Packing

__all__ = ["CLASSES", "decoder_of", "known_classes", "packed_weights", "position_table"]

_TEXT = "transformers.models.musicgen.modeling_musicgen"
_MELODY = "transformers.models.musicgen_melody.modeling_musicgen_melody"
CLASSES = {"MusicgenForConditionalGeneration": (_TEXT, "Musicgen"),
           "MusicgenMelodyForConditionalGeneration": (_MELODY, "MusicgenMelody")}  # fmt: skip
"""The classes that are served, by name: their module, and how the names of their parts begin."""


def decoder_of(model: Any) -> Any:
    """Return the transformer inside transformers' MusicGen: embeddings, positions, layers, final norm."""
    return model.decoder.model.decoder


def known_classes(model: Any) -> frozenset[type]:
    """Return the exact classes of the modules that our loop computes in place of transformers."""
    module_name, prefix = CLASSES[type(model).__name__]
    module = importlib.import_module(module_name)
    parts = ("Decoder", "DecoderLayer", "Attention", "SinusoidalPositionalEmbedding")
    activation = type(decoder_of(model).layers[0].activation_fn)
    torchs = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.ModuleList, activation)
    return frozenset((*(getattr(module, prefix + part) for part in parts), *torchs))


def packed_weights(model: Any, packing: Packing | None) -> Weights:
    """Return the weights of transformers' MusicGen, packed; packing as for `Weights`."""
    decoder, config = decoder_of(model), model.decoder.config
    return Weights(
        SimpleNamespace(
            transformer=SimpleNamespace(layers=[_layer(layer) for layer in decoder.layers]),
            linears=model.decoder.lm_heads,
            emb=decoder.embed_tokens,
            out_norm=decoder.layer_norm,
            n_q=config.num_codebooks,
            card=config.vocab_size,
            dim=config.hidden_size,
        ),
        packing,
    )


def position_table(model: Any, positions: int) -> Tensor:
    """Return the embeddings of `positions` positions, [positions, d], as transformers computes them.

    audiocraft's differ from them by 1e-4 at position 1,500.
    """
    embedding = decoder_of(model).embed_positions
    table: Tensor = embedding.weights
    if len(table) < positions:  # transformers makes its own longer, too; this leaves the model as it is
        table = embedding.get_embedding(positions, embedding.embedding_dim).to(table)
    return table[:positions].float()


def _layer(layer: Any) -> SimpleNamespace:
    text = getattr(layer, "encoder_attn", None)  # melody models have none: text and melody stand before the first step
    return SimpleNamespace(
        self_attn=_attention(layer.self_attn),
        cross_attention=_attention(text) if text is not None else None,
        norm1=layer.self_attn_layer_norm,
        norm_cross=layer.encoder_attn_layer_norm if text is not None else None,
        norm2=layer.final_layer_norm,
        linear1=layer.fc1,
        linear2=layer.fc2,
        activation=_activation(layer.activation_fn),
    )


def _attention(attention: Any) -> SimpleNamespace:
    queries, keys, values = (getattr(attention, f"{part}_proj").weight.detach() for part in "qkv")
    return SimpleNamespace(
        in_proj_weight=torch.cat([queries, keys, values]),  # [3 d, d]
        out_proj=attention.out_proj,
        embed_dim=attention.embed_dim,
        num_heads=attention.num_heads,
    )


def _activation(activation: Any) -> Any:
    """Return torch's own GELU where it is that, wrapped into a module: a graph's kernels know it."""
    return F.gelu if getattr(activation, "act", None) is F.gelu else activation
