"""The weights of audiocraft's language model in the form that the forward pass reads.

Owns the check whether a model's layout can be decoded, and the regrouping of its matrices. The dense matrices are views
of audiocraft's tensors; the packed matrices, and the embeddings and heads, which are stacked over the codebooks, are
copies.

As in audiocraft, the transformer's matrices have the precision of the computation (float16 on a GPU), the rest is
float32, and a block's output is added to a float32 residual stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from harmonia_lab.audio_engines.musicgen.packed_weights import Packing, Projection, exact_packing, pack

__all__ = ["Attention", "Layer", "Norm", "Weights", "compute_dtype", "unknown_layout"]


class Norm(NamedTuple):
    """A LayerNorm's weight and bias [d], float32, and its epsilon."""

    weight: Tensor
    bias: Tensor
    eps: float


class Attention(NamedTuple):
    """An attention block. The projections serve one position, the dense matrices many positions at once.

    into: self-attention [R, d] → [R, 3 d] (queries, keys, values); cross attention [R, d] → [R, d] (queries).
    dense_keys_values: [2 d, d] for cross attention, whose keys and values come from the text.
    """

    norm: Norm
    into: Projection
    out: Projection
    dense_into: Tensor
    dense_out: Tensor
    dense_keys_values: Tensor | None = None


class Layer(NamedTuple):
    """A transformer layer. own: self-attention. norm, up, down, activation: of the feed-forward block."""

    own: Attention
    cross: Attention | None
    norm: Norm
    up: Projection  # [R, d] → [R, 4 d]
    down: Projection
    activation: Callable[[Tensor], Tensor]
    dense_up: Tensor
    dense_down: Tensor


class Weights:
    """All weights that a step reads.

    packings: the number of matrices by packing, such as {"half": 145}. dtype: of the matrices; the embeddings are
    float32. gelu: whether the activation of the feed-forward blocks is torch's GELU. compiled: whether a step has
    products of `compiled_products.py`.
    """

    def __init__(self, lm: Any, packing: Packing | None = None) -> None:
        """packing: None is the fastest exact one for each matrix. The heads are never rounded to 8 bits."""
        self.packings: dict[str, int] = {}
        self.layers = [self._layer(layer, packing) for layer in lm.transformer.layers]
        self.compiled = not self.packings.keys().isdisjoint(("half_rows", "float_rows"))
        self.dtype = compute_dtype(lm)
        self.dense_heads = torch.cat([head.weight.detach() for head in lm.linears]).to(self.dtype)  # [K · card, d]
        # [R, d] → [R, K · card]
        self.heads = self._pack(self.dense_heads, None if packing == "int8" else packing)
        self.embeddings = torch.cat([table.weight.detach() for table in lm.emb]).float()  # [K · (card + 1), d]
        self.codebook_offsets = torch.arange(lm.n_q, device=self.embeddings.device) * (lm.card + 1)
        self.norm = _norm(lm.out_norm)
        self.gelu = all(layer.activation is nn.functional.gelu for layer in self.layers)
        self.n_heads: int = lm.transformer.layers[0].self_attn.num_heads
        self.dim: int = lm.dim
        self.codebooks: int = lm.n_q
        self.card: int = lm.card

    def _layer(self, layer: Any, packing: Packing | None) -> Layer:
        own, cross, d = layer.self_attn, layer.cross_attention, layer.self_attn.embed_dim

        def attention(norm: nn.LayerNorm, into: Tensor, out: Tensor, keys_values: Tensor | None = None) -> Attention:
            packed = self._pack(into, packing), self._pack(out, packing)
            return Attention(_norm(norm), *packed, into.detach(), out.detach(), keys_values)

        def cross_attention() -> Attention:
            queries, keys_values = cross.in_proj_weight[:d], cross.in_proj_weight[d:].detach()
            return attention(layer.norm_cross, queries, cross.out_proj.weight, keys_values)

        return Layer(
            own=attention(layer.norm1, own.in_proj_weight, own.out_proj.weight),
            cross=cross_attention() if cross is not None else None,
            norm=_norm(layer.norm2),
            up=self._pack(layer.linear1.weight, packing),
            down=self._pack(layer.linear2.weight, packing),
            activation=layer.activation,
            dense_up=layer.linear1.weight.detach(),
            dense_down=layer.linear2.weight.detach(),
        )

    def _pack(self, weight: Tensor, packing: Packing | None) -> Projection:
        chosen = packing or exact_packing(weight.detach())
        self.packings[chosen] = self.packings.get(chosen, 0) + 1
        return pack(weight.detach().contiguous(), chosen)


def compute_dtype(lm: Any) -> torch.dtype:
    """Return the precision of the transformer's matrices, in which products are computed."""
    dtype: torch.dtype = lm.transformer.layers[0].linear1.weight.dtype
    return dtype


def unknown_layout(lm: Any) -> str:
    """Return why this model's layout can't be decoded here; "" if it can (all released MusicGen models)."""
    return "; ".join(_unknown(lm))


def _unknown(lm: Any) -> Iterator[str]:
    transformer, fuser = lm.transformer, lm.fuser
    if type(lm).__name__ != "LMModel":
        yield f"it is a {type(lm).__name__}"
    if transformer.positional_embedding != "sin":
        yield f"its positions are embedded by {transformer.positional_embedding}"
    if not isinstance(lm.out_norm, nn.LayerNorm):
        yield "it has no LayerNorm before its heads"
    if any(head.bias is not None for head in lm.linears):
        yield "its heads have biases"
    for method in ("sum", "input_interpolate"):
        if fuser.fuse2cond.get(method):
            yield f"conditions are fused by {method}"
    if fuser.cross_attention_pos_emb:
        yield "cross attention has positions"
    for layer in transformer.layers:
        reasons = list(_unknown_in(layer))
        if reasons:
            yield from reasons
            return  # the layers are all alike


def _unknown_in(layer: Any) -> Iterator[str]:
    if not layer.norm_first:
        yield "it normalises after each block"
    if layer.linear1.bias is not None or layer.linear2.bias is not None:
        yield "its feed-forward layers have biases"
    for name in ("layer_scale_1", "layer_scale_2", "layer_scale_cross"):
        if not isinstance(getattr(layer, name, nn.Identity()), nn.Identity):
            yield "its layers are scaled"
            break
    for attention in filter(None, (layer.self_attn, layer.cross_attention)):
        if not attention.custom:
            yield "its attention is torch's own module"
        elif attention.in_proj_bias is not None or attention.out_proj.bias is not None:
            yield "its attention has biases"
        elif (
            attention.rope or attention.qk_layer_norm or attention.kv_repeat != 1 or attention.past_context is not None
        ):
            yield "its attention has rotary positions, norms, repeated keys or a limited past"
    if not layer.self_attn.causal:
        yield "its attention looks ahead"


def _norm(norm: nn.LayerNorm) -> Norm:
    return Norm(norm.weight.detach().float(), norm.bias.detach().float(), norm.eps)
