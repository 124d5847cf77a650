"""MusicGen's decode loop, over the weights of audiocraft's own modules.

Owns how tokens come out of the language model: the same ones as `LMModel.generate` gives, several times faster. What
differs: a cache that is written in place, the prompt taken in one pass, the text's keys and values computed once, all
codebooks' heads as one, guidance before the heads (they are linear, so it may be), all codebooks drawn at once, weights
held as the processor reads them fastest, and nothing allocated or waited for that a step doesn't need.

Elsewhere: `lm_weights.py` (which models can be decoded here, and their matrices), `packed_weights.py`, `kv_cache.py`,
`sampling.py`, `gpu_step.py` (the same step on a GPU, recorded and replayed), `decoder.py` (the choice of a loop, and
what the rest of the program calls).

Letters in shapes: B songs or stems, R rows of one pass (2 B with the null prompts), K codebooks, S steps of the
interleaved sequence, H heads, D head width, d = H · D, L tokens of text, P positions before the first step (the
melody, in melody models).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it
from torch import Tensor

from harmonia_lab.audio_engines.musicgen.kv_cache import KVCache
from harmonia_lab.audio_engines.musicgen.lm_weights import Layer, Norm, Weights
from harmonia_lab.audio_engines.musicgen.sampling import Generators, Noise, Sampling, choose

__all__ = ["Pass", "Sequencer"]

TextKV = tuple[Tensor, Tensor]
"""The text's keys and values for one layer, [R, H, L, D] each."""


def normalise(x: Tensor, norm: Norm, dtype: torch.dtype) -> Tensor:
    """x: float32. Computed in float32, returned in the precision of the product that follows."""
    return torch.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps).to(dtype)


def embed(weights: Weights, tokens: Tensor) -> Tensor:
    """tokens: [..., K] → float32 [..., d], the sum over the codebooks."""
    return F.embedding(tokens + weights.codebook_offsets, weights.embeddings).sum(-2)


def step_layer(x: Tensor, layer: Layer, cache: KVCache, text: TextKV | None, at: int) -> Tensor:
    """One position through one layer. x: float32 [R, d] → [R, d]. at: the position."""
    rows, dim = x.shape
    keys, values = cache.read(at + 1)  # [R, H, at + 1, D] each
    heads, width, dtype = keys.shape[1], keys.shape[3], keys.dtype
    own, cross = layer.own, layer.cross
    qkv = own.into(normalise(x, own.norm, dtype)).view(rows, 3, heads, 1, width)
    cache.write(at, qkv[:, 1:])
    attended = F.scaled_dot_product_attention(qkv[:, 0], keys, values)  # [R, H, 1, D]
    x = x + own.out(attended.view(rows, dim))
    if cross is not None and text is not None:
        query = cross.into(normalise(x, cross.norm, dtype)).view(rows, heads, 1, width)
        x = x + cross.out(F.scaled_dot_product_attention(query, *text).view(rows, dim))
    return x + layer.down(layer.activation(layer.up(normalise(x, layer.norm, dtype))))


def prefill_layer(x: Tensor, layer: Layer, cache: KVCache, text: TextKV | None, heads: int) -> Tensor:
    """The first positions, all at once, through one layer. x: [R, positions, d] → the same."""
    rows, positions, dim = x.shape
    dtype = layer.dense_up.dtype

    def split(projected: Tensor) -> Tensor:  # [R, positions, n d] → [n, R, H, positions, D]
        return projected.view(rows, positions, -1, heads, dim // heads).permute(2, 0, 3, 1, 4)

    def joined(attended: Tensor) -> Tensor:  # [R, H, positions, D] → [R, positions, d]
        return attended.transpose(1, 2).reshape(rows, positions, dim)

    own, cross = layer.own, layer.cross
    q, k, v = split(F.linear(normalise(x, own.norm, dtype), own.dense_into))
    cache.fill(torch.stack((k, v), 1))
    x = x + F.linear(joined(F.scaled_dot_product_attention(q, k, v, is_causal=True)), own.dense_out)
    if cross is not None and text is not None:
        (query,) = split(F.linear(normalise(x, cross.norm, dtype), cross.dense_into))
        x = x + F.linear(joined(F.scaled_dot_product_attention(query, *text)), cross.dense_out)
    up = layer.activation(F.linear(normalise(x, layer.norm, dtype), layer.dense_up))
    return x + F.linear(up, layer.dense_down)


def text_keys_values(text: Tensor, layer: Layer, heads: int) -> TextKV | None:
    """text: [R, L, d], what is attended to at every step."""
    if layer.cross is None or layer.cross.dense_keys_values is None:
        return None
    rows, length, dim = text.shape
    both = F.linear(text, layer.cross.dense_keys_values).view(rows, length, 2, heads, dim // heads)
    keys, values = both.permute(2, 0, 3, 1, 4).contiguous()
    return keys, values


def guided_logits(weights: Weights, hidden: Tensor, coef: float) -> Tensor:
    """hidden: float32 [2 B, d], the prompts' rows before the null prompts' → float32 [B, K, card].

    Guidance moves away from the null prompt: u + (c - u) · coef. The heads are linear, so they may come after it, and
    read half as many rows.
    """
    with_text, without = hidden.chunk(2)
    guided = without + (with_text - without) * coef
    logits = weights.heads(guided.to(weights.dtype))  # [B, K · card]
    return logits.float().view(-1, weights.codebooks, weights.card)


def layer_caches(weights: Weights, rows: int, positions: int) -> list[KVCache]:
    width = weights.dim // weights.n_heads
    like = weights.dense_heads
    return [KVCache(rows, weights.n_heads, positions, width, like) for _ in weights.layers]


class Pass:
    """Rows that go through the model together: the prompts and the null prompts, or (two-step guidance) one of them.

    text: [R, L, d], or None. before: [R, P, d], what stands before the first step, or None. caches: those of every
    layer, where they are kept from song to song; they have room for as many positions or more.
    """

    def __init__(
        self,
        weights: Weights,
        text: Tensor | None,
        before: Tensor | None,
        rows: int,
        steps: int,
        caches: list[KVCache] | None = None,
    ) -> None:
        self.weights = weights
        self.rows = rows
        self.before = before
        self.lead = before.shape[1] if before is not None else 0
        self.positions = self.lead + steps
        self.caches = caches if caches is not None else layer_caches(weights, rows, self.positions)
        self.text: list[TextKV | None] = [
            text_keys_values(text, layer, weights.n_heads) if text is not None else None for layer in weights.layers
        ]

    def prefill(self, embedded: Tensor, table: Tensor) -> None:
        """embedded: [B, steps, d], the steps that are known. table: [positions, d], the positions' embeddings."""
        x = embedded.repeat(self.rows // embedded.shape[0], 1, 1)
        if self.before is not None:
            x = torch.cat((self.before.to(x.dtype), x), 1)
        if x.shape[1] == 0:
            return
        x = x + table[: x.shape[1]]
        for layer, cache, text in zip(self.weights.layers, self.caches, self.text, strict=True):
            x = prefill_layer(x, layer, cache, text, self.weights.n_heads)

    def step(self, x: Tensor, at: int) -> Tensor:
        """x: [R, d], positions included → float32 [R, d], normalised, ready for the heads. at: the position."""
        for layer, cache, text in zip(self.weights.layers, self.caches, self.text, strict=True):
            x = step_layer(x, layer, cache, text, at)
        return normalise(x, self.weights.norm, torch.float32)


class Sequencer:
    """The interleaved sequence of one window, and the step that writes its next entry.

    passes: one with all rows, or (two-step guidance) the prompts' and then the null prompts'.
    known: [S, B, K], what the pattern and the prompt fix; -1 where a token is to be chosen.
    table: [positions, d], the positions' embeddings. coef: how far guidance goes; 1 is none.
    """

    def __init__(
        self,
        passes: Sequence[Pass],
        known: Tensor,
        table: Tensor,
        *,
        coef: float,
        sampling: Sampling,
        generators: Generators,
    ) -> None:
        self.weights = passes[0].weights
        self.passes, self.known, self.table = passes, known, table
        self.coef, self.sampling = coef, sampling
        self.sequence = known.clone()  # [S, B, K]
        shape = (known.shape[1], self.weights.codebooks, self.weights.card)
        self.noise = None if sampling.greedy else Noise(generators, shape, self.weights.embeddings)

    def prefill(self, first: int) -> None:
        """Takes in the steps before `first - 1`; the step at `first - 1` is the first that `advance` reads."""
        embedded = embed(self.weights, self.sequence[: first - 1].transpose(0, 1))  # [B, first - 1, d]
        for part in self.passes:
            part.prefill(embedded, self.table)

    def advance(self, step: int) -> None:
        """Reads step - 1, writes `step`."""
        self.sequence[step] = self.chosen(self.logits(step), self.known[step])

    def logits(self, step: int) -> Tensor:
        """Float32 [B, K, card]: for what `step` is to hold, after reading step - 1."""
        x = embed(self.weights, self.sequence[step - 1])  # [B, d]
        hidden = []
        for part in self.passes:
            at = part.lead + step - 1
            hidden.append(part.step(x.repeat(part.rows // x.shape[0], 1) + self.table[at], at))
        return guided_logits(self.weights, torch.cat(hidden), self.coef)

    def chosen(self, logits: Tensor, known: Tensor) -> Tensor:
        """Tokens [B, K], the known ones kept."""
        return torch.where(known < 0, choose(logits, self.noise, self.sampling), known)
