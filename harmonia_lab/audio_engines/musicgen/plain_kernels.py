"""The parts of one decode step in plain torch operations, over buffers that the caller allocates.

Owns the reference for `triton_kernels.py`: the same functions with the same arguments and the same rounding. They run
on CPUs and on GPUs, where they can be recorded into a CUDA graph: none of them reads a value back. `decoding.py` owns
the step that is in use.

Letters in shapes: as in `decoding.py`. T positions a cache has room for; N, M outputs and inputs of a matrix. `step`
is int64 [1] on the device, the step that is written; `lead`, likewise, is the number of positions before the first
step, so that the position read is step - 1 + lead. x, the residual stream, is float32, and so are norms, embeddings and
positions; matrices and what they multiply are of the model's precision.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it
from torch import Tensor

from harmonia_lab.audio_engines.musicgen.kernel_plans import Partial
from harmonia_lab.audio_engines.musicgen.lm_weights import Norm

__all__ = [
    "attend",
    "embed",
    "guided_logits",
    "norm_project",
    "norm_project_cache",
    "project",
    "sample",
]


def embed(
    sequence: Tensor, step: Tensor, embeddings: Tensor, offsets: Tensor, table: Tensor, lead: Tensor, x: Tensor
) -> None:
    """Write to x [R, d] the tokens of step - 1, summed over the codebooks, and their position.

    sequence: int64 [S, B, K]; row r reads prompt r % B. embeddings: [K · (card + 1), d]. offsets: int64 [K], where each
    codebook begins in them. table: [positions, d].
    """
    before = step - 1
    tokens = sequence.index_select(0, before)[0] + offsets  # [B, K]
    embedded = F.embedding(tokens, embeddings).sum(-2)  # [B, d]
    x.copy_(embedded.repeat(len(x) // len(embedded), 1) + table.index_select(0, before + lead))


def norm_project(x: Tensor, norm: Norm, weight: Tensor, out: Tensor, *, gelu: bool = False) -> None:
    """Write layer_norm(x) @ weight.T to out [R, N], through GELU if asked. x: [R, d]. weight: [N, d]."""
    projected = F.linear(_normalise(x, norm, weight.dtype), weight)
    out.copy_(F.gelu(projected) if gelu else projected)


def norm_project_cache(
    x: Tensor, norm: Norm, weight: Tensor, query: Tensor, keys_values: Tensor, step: Tensor, lead: Tensor
) -> None:
    """Write layer_norm(x) @ weight.T: queries to query [R, d], keys and values to position step - 1 + lead.

    x: [R, d]. weight: [3 d, d]. keys_values: [R, 2, H, T, D], contiguous.
    """
    rows, dim = x.shape
    _, _, heads, _, width = keys_values.shape
    projected = F.linear(_normalise(x, norm, weight.dtype), weight).view(rows, 3, heads, 1, width)
    query.copy_(projected[:, 0].reshape(rows, dim))
    keys_values.index_copy_(3, step - 1 + lead, projected[:, 1:])


def attend(
    query: Tensor, keys_values: Tensor, length: Tensor, offset: Tensor, attended: Tensor, partial: Partial, *,
    grows: bool,
) -> None:  # fmt: skip
    """Write to attended [R, d] what the first length + offset positions give.

    query: [R, d]. keys_values: [R, 2, H, T, D], contiguous. length, offset: int64 [1] on the device. partial, and
    grows (whether the last position was written by the launch before), are for the Triton kernel alone.
    """
    del partial, grows
    rows, _, heads, positions, width = keys_values.shape
    keys, values = keys_values.unbind(1)  # [R, H, T, D] each
    inside = (torch.arange(positions, device=query.device) < length + offset)[None, None, None]
    heard = F.scaled_dot_product_attention(query.view(rows, heads, 1, width), keys, values, attn_mask=inside)
    attended.copy_(heard.view(attended.shape))


def project(hidden: Tensor, weight: Tensor, x: Tensor) -> None:
    """Add hidden @ weight.T to x [R, d]. hidden: [R, M]. weight: [d, M]."""
    x.add_(F.linear(hidden, weight))


def guided_logits(x: Tensor, norm: Norm, weight: Tensor, coef: float, logits: Tensor) -> None:
    """Write float32 logits [B, K · card]. x: [2 B, d], prompts before null prompts. weight: [K · card, d]."""
    with_text, without = _normalise(x, norm, torch.float32).chunk(2)
    guided = without + (with_text - without) * coef
    logits.copy_(F.linear(guided.to(weight.dtype), weight))


def sample(
    logits: Tensor,
    noise: Tensor | None,
    known: Tensor,
    sequence: Tensor,
    step: Tensor,
    temp: float,
    top_k: int,
) -> None:
    """Write to sequence[step] the known tokens, and chosen ones where none is known (-1).

    logits, noise: float32 [B, K, card]; no noise: the likeliest token. known, sequence: int64 [S, B, K]. top_k 0 cuts
    nothing.
    """
    if noise is None:
        chosen = logits.argmax(-1)
    else:
        probabilities = torch.softmax(logits / temp, -1)
        if top_k > 0:
            smallest = probabilities.topk(top_k, -1, sorted=False).values.amin(-1, keepdim=True)
            probabilities *= probabilities >= smallest
            probabilities /= probabilities.sum(-1, keepdim=True)
        chosen = (probabilities / noise).argmax(-1)
    fixed = known.index_select(0, step)[0]
    sequence.index_copy_(0, step, torch.where(fixed < 0, chosen, fixed)[None])


def _normalise(x: Tensor, norm: Norm, dtype: torch.dtype) -> Tensor:
    return torch.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps).to(dtype)
