"""How near a choice of a token was: by how much the reference would have had to differ to choose another one.

Owns the measure. A sum of float32 numbers depends on the order of its terms, so two loops that compute the same agree
up to some 1e-6; where the reference was nearer than that to another choice, either is right.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harmonia_lab.audio_engines.musicgen.sampling import Sampling

__all__ = ["flip_margin"]


def flip_margin(logits: Tensor, noise: Tensor | None, sampling: Sampling, token: int) -> float:
    """The smallest change by which audiocraft's rule comes to choose `token`; 0 where it does so anyway.

    logits: [card], the reference's. noise: [card], exponential, as drawn for this choice; None when greedy.

    A change is one of logits over temperature (so, of probabilities, relative), or of the threshold top_p (absolute);
    what has to change one after the other is added up. Drawing is a race: the largest p / noise of those that are kept.
    A token gets ahead by one that it overtakes, or that falls out of those kept, or by getting in itself:

    greedy    distance to the largest logit
    top-k     kept are the k likeliest: distance to the k-th, for one that is kept to the one after it
    top-p     kept are those with at most top_p before them. The noise belongs to a rank, not to a token: one that is as
              likely as its neighbour may take its rank, and with it its noise
    """
    if sampling.greedy or noise is None:
        return float(logits.max() - logits[token])
    likely = (logits.double() / sampling.temp).log_softmax(-1)
    order = likely.argsort(descending=True)
    ranked = likely[order]
    # A place in the race is a rank with top-p, else a token. inside: how far it is from falling out; negative: is out.
    # reach: how far `token` is from having this place.
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
