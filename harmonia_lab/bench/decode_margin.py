"""The margin of a sampled token: how much the reference's logits would have to change to choose another one.

Owns that measure. A float32 sum depends on the order of its terms, so two correct loops agree up to about 1e-6. If the
reference was nearer than that to another token, either token is right.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harmonia_lab.audio_engines.musicgen.sampling import Sampling

__all__ = ["flip_margin"]


def flip_margin(logits: Tensor, noise: Tensor | None, sampling: Sampling, token: int) -> float:
    """Return the smallest change after which audiocraft's rule chooses `token`; 0 if it chooses `token` already.

    logits: [card], the reference's. noise: [card], the exponential noise drawn for this choice; None if greedy.

    A change is one of the logits over temperature (a relative one of probabilities), or of the threshold top_p (an
    absolute one). Changes that are all necessary are added. Sampling is a race: the largest p / noise of the kept
    tokens wins. A token wins instead if it overtakes the winner, if the winner is no longer kept, or if the token
    itself becomes kept:

    greedy    the distance to the largest logit
    top-k     the k likeliest are kept: the distance to the k-th; for a kept token, to the next after the k-th
    top-p     those with at most top_p before them are kept. The noise belongs to a rank, not to a token: a token that
              is as likely as its neighbour may take its rank, and with it its noise
    """
    if sampling.greedy or noise is None:
        return float(logits.max() - logits[token])
    likely = (logits.double() / sampling.temp).log_softmax(-1)
    order = likely.argsort(descending=True)
    ranked = likely[order]
    # A place in the race is a rank with top-p, else a token. inside: its distance from being cut; negative if it is
    # cut. reach: the distance of `token` from this place.
    if sampling.top_p > 0:
        before = ranked.exp().cumsum(-1) - ranked.exp()
        inside, reach, score = sampling.top_p - before, (ranked - likely[token]).abs(), ranked - noise.double().log()
    else:
        k = sampling.top_k or len(likely)
        after = ranked[k] if k < len(likely) else -math.inf
        inside = torch.where(likely >= ranked[k - 1], likely - after, likely - ranked[k - 1])
        reach = torch.full_like(likely, math.inf).index_fill_(0, torch.tensor([token], device=likely.device), 0)
        score = likely - noise.double().log()
    lead = score[None, :] - score[:, None]  # [place, rival]
    rivals = torch.minimum(lead, inside[None, :]).clamp_min(0).amax(1)
    return float((reach + (-inside).clamp_min(0) + rivals).min())
