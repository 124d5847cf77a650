"""The forward pass of MusicGen's language model, over the weights of audiocraft's own modules.

Owns the prefill, the step of one position, guidance, and the sequence that the steps write. The tokens are those of
`LMModel.generate`; a step is several times faster, because the KV cache is written in place, the prompt is prefilled in
one pass, the text's keys and values are computed once, the codebooks' heads are one matrix, guidance comes before the
heads (which are linear), all codebooks are sampled at once, and the weights are packed for the processor.

Not here: the models that can be decoded and their matrices (`lm_weights.py`), packing (`packed_weights.py`), the same
step recorded in a CUDA graph (`cuda_graph_step.py`), and the choice of a loop (`decoder.py`).

Letters in shapes: B songs or stems, R rows of one pass (2 B with the null prompts), K codebooks, S steps of the
interleaved sequence, H heads, D head width, d = H · D, L tokens of text, P positions of the prefix (the melody
embeddings that melody models put before the first step).

Rows whose prompts differ in length end together: a shorter one begins later (`conditions.Aligned`), attends to nothing
before its beginning, and counts its positions from there. What isn't a product of a step is computed for each prompt by
itself. So a row is what it would be alone, but for the order of the sums in a product of float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it
from torch import Tensor

from harmonia_lab.audio_engines.musicgen.compiled_products import own_threads
from harmonia_lab.audio_engines.musicgen.conditions import Aligned, Conditions
from harmonia_lab.audio_engines.musicgen.kv_cache import KVCache, attend_to_cache
from harmonia_lab.audio_engines.musicgen.lm_weights import Layer, Norm, Weights
from harmonia_lab.audio_engines.musicgen.sampling import Generators, Noise, Sampling, sample_tokens

__all__ = ["ForwardPass", "Sequencer"]

TextKV = tuple[Tensor, Tensor]
"""The text's keys and values for one layer, [R, H, L, D] each."""


def normalise(x: Tensor, norm: Norm, dtype: torch.dtype) -> Tensor:
    """Return layer_norm(x), computed in float32, in `dtype`, the precision of the product that follows."""
    return torch.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps).to(dtype)


def embed(weights: Weights, tokens: Tensor) -> Tensor:
    """Return the embeddings of `tokens` [..., K], summed over the codebooks: float32 [..., d]."""
    return F.embedding(tokens + weights.codebook_offsets, weights.embeddings).sum(-2)


Begins = list[tuple[slice, int]]
"""Groups of rows, and the place in keys and values where all rows of a group begin. One group is all rows from 0 on."""


def attend(query: Tensor, keys: Tensor, values: Tensor, begins: Begins) -> Tensor:
    """Return each row's attention over its keys and values from its beginning on.

    query: [R, H, 1, D] → the same shape. keys, values: [R, H, T, D].
    """
    if len(begins) == 1:
        return attend_to_cache(query, keys, values)
    attended = torch.empty_like(query)
    for rows, begin in begins:
        attended[rows] = attend_to_cache(query[rows], keys[rows, :, begin:], values[rows, :, begin:])
    return attended


def step_layer(
    x: Tensor, layer: Layer, cache: KVCache, text: TextKV | None, at: int, begins: Begins, text_begins: Begins
) -> Tensor:
    """Run one layer for the one position `at`. x: float32 [R, d] → [R, d]."""
    rows, dim = x.shape
    # Views of the cache: they include position `at`, which is written two lines below, before attention reads them.
    keys, values = cache.read(at + 1)  # [R, H, at + 1, D] each
    heads, width, dtype = keys.shape[1], keys.shape[3], keys.dtype
    own, cross = layer.own, layer.cross
    qkv = own.into(normalise(x, own.norm, dtype)).view(rows, 3, heads, 1, width)
    cache.write(at, qkv[:, 1:])
    attended = attend(qkv[:, 0], keys, values, begins)  # [R, H, 1, D]
    x = x + own.out(attended.view(rows, dim))
    if cross is not None and text is not None:
        query = cross.into(normalise(x, cross.norm, dtype)).view(rows, heads, 1, width)
        attended = attend(query, *text, text_begins)
        x = x + cross.out(attended.view(rows, dim))
    return x + layer.down(layer.activation(layer.up(normalise(x, layer.norm, dtype))))


def prefill_layer(x: Tensor, layer: Layer, text: TextKV | None, heads: int) -> tuple[Tensor, Tensor]:
    """Run one layer for the first positions at once, for rows that begin together. x: [R, positions, d].

    Return the output, of the same shape, and the keys and values for the cache, [R, 2, H, positions, D]. Uses the dense
    matrices: the packed ones are laid out for a few rows.
    """
    rows, positions, dim = x.shape
    dtype = layer.dense_up.dtype

    def split(projected: Tensor) -> Tensor:  # [R, positions, n d] → [n, R, H, positions, D]
        return projected.view(rows, positions, -1, heads, dim // heads).permute(2, 0, 3, 1, 4)

    def joined(attended: Tensor) -> Tensor:  # [R, H, positions, D] → [R, positions, d]
        return attended.transpose(1, 2).reshape(rows, positions, dim)

    own, cross = layer.own, layer.cross
    q, k, v = split(F.linear(normalise(x, own.norm, dtype), own.dense_into))
    x = x + F.linear(joined(F.scaled_dot_product_attention(q, k, v, is_causal=True)), own.dense_out)
    if cross is not None and text is not None:
        (query,) = split(F.linear(normalise(x, cross.norm, dtype), cross.dense_into))
        x = x + F.linear(joined(F.scaled_dot_product_attention(query, *text)), cross.dense_out)
    up = layer.activation(F.linear(normalise(x, layer.norm, dtype), layer.dense_up))
    return x + F.linear(up, layer.dense_down), torch.stack((k, v), 1)


def text_keys_values(text: Aligned, layer: Layer, heads: int, prompts: int) -> TextKV | None:
    """Return the text's keys and values, which every step reads; None without cross attention."""
    if layer.cross is None or layer.cross.dense_keys_values is None:
        return None
    rows, length, dim = text.values.shape
    both = text.values.new_zeros(2, rows, heads, length, dim // heads)
    for prompt, begin in enumerate(text.begins[:prompts]):
        own = text.values[prompt::prompts, begin:]
        projected = F.linear(own, layer.cross.dense_keys_values).view(len(own), -1, 2, heads, dim // heads)
        both[:, prompt::prompts, :, begin:] = projected.permute(2, 0, 3, 1, 4)
    keys, values = both
    return keys, values


def guided_logits(weights: Weights, hidden: Tensor, coef: float) -> Tensor:
    """Return guided logits, float32 [B, K, card]. hidden: float32 [2 B, d], prompts' rows before null prompts' rows.

    Guidance moves away from the null prompt: u + (c - u) · coef. The heads are linear without bias, so guidance can
    come before them, and they read half as many rows.
    """
    with_text, without = hidden.chunk(2)
    guided = without + (with_text - without) * coef
    logits = weights.heads(guided.to(weights.dtype))  # [B, K · card]
    return logits.float().view(-1, weights.codebooks, weights.card)


def layer_caches(weights: Weights, rows: int, positions: int, *, positions_last: bool = False) -> list[KVCache]:
    """Return an empty cache for each layer."""
    heads, like = weights.n_heads, weights.dense_heads
    shape = rows, heads, positions, weights.dim // heads
    return [KVCache(*shape, like, positions_last=positions_last) for _ in weights.layers]


class ForwardPass:
    """Rows that go through the model together: prompts and null prompts, or (two-step guidance) one of the two.

    conditions: those of the rows. caches: one per layer with room for P + steps positions or more, if the caller keeps
    caches from song to song; otherwise they are allocated here. begins, text_begins: where each row's prefix and text
    begin, int64 [R].
    """

    def __init__(
        self, weights: Weights, conditions: Conditions, steps: int, caches: list[KVCache] | None = None
    ) -> None:
        self.weights, self.conditions = weights, conditions
        self.rows, self.prefix_length = conditions.rows, conditions.prefix_length
        self.positions = self.prefix_length + steps
        # In half precision torch's own attention keeps the scores in float32, where products would overflow.
        by_products = weights.embeddings.device.type == "cpu" and weights.dtype == torch.float32
        self.caches = caches or layer_caches(weights, self.rows, self.positions, positions_last=by_products)
        text, prefix, prompts = conditions.text, conditions.prefix, conditions.prompts
        self.text: list[TextKV | None] = [
            text_keys_values(text, layer, weights.n_heads, prompts) if text is not None else None
            for layer in weights.layers
        ]
        none = (0,) * self.rows
        begins, text_begins = (given.begins if given is not None else none for given in (prefix, text))
        self.begins, self.text_begins = (weights.codebook_offsets.new_tensor(each) for each in (begins, text_begins))
        self._begins, self._text_begins = _groups(begins, prompts), _groups(text_begins, prompts)

    def prefill(self, embedded: Tensor, table: Tensor) -> None:
        """Fill the caches for the prefix and the known steps, for each prompt as if it were alone.

        embedded: [B, steps, d], the known steps. table: [positions, d], the positions' embeddings.
        """
        conditions, heads = self.conditions, self.weights.n_heads
        for prompt in range(conditions.prompts):
            rows = slice(prompt, None, conditions.prompts)
            begin, text_begin = int(self.begins[prompt]), int(self.text_begins[prompt])
            x = embedded[prompt].expand(conditions.rows // conditions.prompts, -1, -1)
            if conditions.prefix is not None:
                x = torch.cat((conditions.prefix.values[rows, begin:].to(x.dtype), x), 1)
            if x.shape[1] == 0:
                continue
            x = x + table[: x.shape[1]]
            for layer, cache, text in zip(self.weights.layers, self.caches, self.text, strict=True):
                own = (text[0][rows, :, text_begin:], text[1][rows, :, text_begin:]) if text is not None else None
                x, kv = prefill_layer(x, layer, own, heads)
                cache.write(begin, kv, rows)

    def step(self, x: Tensor, at: int, table: Tensor) -> Tensor:
        """Run all layers for position `at`. x: [R, d] → float32 [R, d], normalised. table: as for `prefill`."""
        x = x + (table[at] if len(self._begins) == 1 else table[at - self.begins])
        with own_threads() if self.weights.compiled else nullcontext():
            for layer, cache, text in zip(self.weights.layers, self.caches, self.text, strict=True):
                x = step_layer(x, layer, cache, text, at, self._begins, self._text_begins)
            return normalise(x, self.weights.norm, torch.float32)


def _groups(begins: Sequence[int], prompts: int) -> Begins:
    """Return one group if all rows begin at 0, otherwise one for each prompt."""
    if not any(begins):
        return [(slice(None), 0)]
    return [(slice(prompt, None, prompts), begins[prompt]) for prompt in range(prompts)]


class Sequencer:
    """The interleaved token sequence of one window, and the step that writes its next entry.

    passes: one with all rows, or (two-step guidance) that of the prompts and that of the null prompts.
    known: [S, B, K], the tokens that the pattern and the prompt fix; -1 where a token is to be sampled.
    table: [positions, d], the positions' embeddings. coef: the guidance coefficient; 1 is no guidance.
    """

    def __init__(
        self,
        passes: Sequence[ForwardPass],
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
        self.total = table.new_zeros(1, dtype=torch.float32)
        """The sum of all logits so far, which isn't finite if one of them wasn't."""

    def prefill(self, first: int) -> None:
        """Prefill the steps before `first` - 1. `advance(first)` reads step `first` - 1 itself."""
        embedded = embed(self.weights, self.sequence[: first - 1].transpose(0, 1))  # [B, first - 1, d]
        for part in self.passes:
            part.prefill(embedded, self.table)

    def advance(self, step: int) -> None:
        """Read the tokens of `step` - 1 and write those of `step`. Known tokens are kept."""
        logits, known = self.logits(step), self.known[step]
        self.total += logits.sum()
        noise = self.noise.draw() if self.noise is not None else None
        self.sequence[step] = torch.where(known < 0, sample_tokens(logits, noise, self.sampling), known)

    def logits(self, step: int) -> Tensor:
        """Return the guided logits of `step`, float32 [B, K, card], after reading the tokens of `step` - 1."""
        x = embed(self.weights, self.sequence[step - 1])  # [B, d]
        hidden = []
        for part in self.passes:
            at = part.prefix_length + step - 1
            hidden.append(part.step(x.repeat(part.rows // x.shape[0], 1), at, self.table))
        return guided_logits(self.weights, torch.cat(hidden), self.coef)
