"""The parts of one decode step as torch operations, over buffers that the caller allocates.

Owns the reference for `triton_kernels.py`: the same functions with the same arguments and the same rounding. They run
on CPUs, and on GPUs also inside a CUDA graph, since none of them copies a value to the host. On a CPU the step that is
in use is that of `forward_pass.py`.

Letters in shapes: as in `forward_pass.py`; T positions that a cache has room for; N, M outputs and inputs of a matrix.
`step` is int64 [1] on the device, the step that is written; `prefix_length`, likewise, is the number of positions
before the first step, so that the position read is step - 1 + prefix_length. x, the residual stream, is float32, and so
are norms, embeddings and positions; matrices and what they multiply have the model's precision.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - everybody's name for it
from torch import Tensor

from harmonia_lab.audio_engines.musicgen.forward_pass import normalise
from harmonia_lab.audio_engines.musicgen.kernel_plans import Partial
from harmonia_lab.audio_engines.musicgen.lm_weights import Norm
from harmonia_lab.audio_engines.musicgen.sampling import Sampling, sample_tokens

__all__ = ["attend", "embed", "guided_logits", "norm_project", "norm_project_cache", "project", "sample"]


def embed(
    sequence: Tensor, step: Tensor, embeddings: Tensor, offsets: Tensor, table: Tensor, prefix_length: Tensor,
    begins: Tensor, x: Tensor,
) -> None:  # fmt: skip
    """Write to x [R, d] the embeddings of the tokens of step - 1, summed over the codebooks, plus their position.

    sequence: int64 [S, B, K]; row r reads prompt r % B. embeddings: [K · (card + 1), d]. offsets: int64 [K], the index
    of each codebook's first row in them. table: [positions, d]. begins: int64 [R], where a row's positions start.
    """
    before = step - 1
    tokens = sequence.index_select(0, before)[0] + offsets  # [B, K]
    embedded = F.embedding(tokens, embeddings).sum(-2)  # [B, d]
    x.copy_(embedded.repeat(len(x) // len(embedded), 1) + table.index_select(0, before + prefix_length - begins))


def norm_project(x: Tensor, norm: Norm, weight: Tensor, out: Tensor, *, gelu: bool = False) -> None:
    """Write layer_norm(x) @ weight.T to out [R, N], through GELU if `gelu`. x: [R, d]. weight: [N, d]."""
    projected = F.linear(normalise(x, norm, weight.dtype), weight)
    out.copy_(F.gelu(projected) if gelu else projected)


def norm_project_cache(
    x: Tensor, norm: Norm, weight: Tensor, query: Tensor, keys_values: Tensor, step: Tensor, prefix_length: Tensor
) -> None:
    """Write layer_norm(x) @ weight.T: queries to query [R, d], keys and values to position step - 1 + prefix_length.

    x: [R, d]. weight: [3 d, d]. keys_values: [R, 2, H, T, D], contiguous.
    """
    rows, dim = x.shape
    _, _, heads, _, width = keys_values.shape
    projected = F.linear(normalise(x, norm, weight.dtype), weight).view(rows, 3, heads, 1, width)
    query.copy_(projected[:, 0].reshape(rows, dim))
    keys_values.index_copy_(3, step - 1 + prefix_length, projected[:, 1:])


def attend(
    query: Tensor, keys_values: Tensor, begins: Tensor, length: Tensor, offset: Tensor, attended: Tensor,
    partial: Partial, *, grows: bool,
) -> None:  # fmt: skip
    """Write to attended [R, d] the attention of query over the positions from the row's beginning to length + offset.

    query: [R, d]. keys_values: [R, 2, H, T, D], contiguous. begins: int64 [R], less than length + offset. length,
    offset: int64 [1]; all three on the device. Only the Triton kernel uses partial, and grows (whether the kernel
    launched before this one wrote the last position).
    """
    del partial, grows
    rows, _, heads, positions, width = keys_values.shape
    keys, values = keys_values.unbind(1)  # [R, H, T, D] each
    # A mask in place of a slice: inside a CUDA graph the shape can't depend on a value on the device.
    at = torch.arange(positions, device=query.device)
    inside = ((at >= begins[:, None]) & (at < length + offset))[:, None, None]
    values = F.scaled_dot_product_attention(query.view(rows, heads, 1, width), keys, values, attn_mask=inside)
    attended.copy_(values.view(attended.shape))


def project(hidden: Tensor, weight: Tensor, x: Tensor) -> None:
    """Add hidden @ weight.T to x [R, d]. hidden: [R, M]. weight: [d, M]."""
    x.add_(F.linear(hidden, weight))


def guided_logits(x: Tensor, norm: Norm, weight: Tensor, coef: float, logits: Tensor) -> None:
    """Write float32 logits [B, K · card]. x: [2 B, d], prompts before null prompts. weight: [K · card, d]."""
    with_text, without = normalise(x, norm, torch.float32).chunk(2)
    guided = without + (with_text - without) * coef
    logits.copy_(F.linear(guided.to(weight.dtype), weight))


def sample(
    logits: Tensor, noise: Tensor | None, known: Tensor, sequence: Tensor, step: Tensor, total: Tensor,
    sampling: Sampling,
) -> None:  # fmt: skip
    """Write to sequence[step] the known tokens, and sampled ones where known is -1. Add the logits' sum to total.

    logits, noise: float32 [B, K, card]; noise is None if the sampling is greedy. known, sequence: int64 [S, B, K].
    total: float32 [1].
    """
    total.add_(logits.sum())
    tokens = sample_tokens(logits, noise, sampling)
    fixed = known.index_select(0, step)[0]
    sequence.index_copy_(0, step, torch.where(fixed < 0, tokens, fixed)[None])
