"""The arithmetic of preferences: Bradley–Terry's strengths, intervals over listeners, tests of no preference.

Owns arrays alone; `analysis.py` makes them of answers. The unit is the listener: choices of one person depend on each
other, so resampling and flipping move whole listeners, never single choices. What is said holds for other listeners
and these songs.

- The model: P(i is preferred to j) = p_i / (p_i + p_j) (Bradley and Terry, "Rank Analysis of Incomplete Block Designs",
  Biometrika 39, 1952), fitted by Hunter's MM algorithm ("MM Algorithms for Generalized Bradley–Terry Models", Annals of
  Statistics 32, 2004). A condition that wins every choice would be infinitely strong: PRIOR wins for both sides of each
  two that were compared keep it finite.
- Intervals: percentiles of a bootstrap over listeners, wider by what a percentile interval lacks for few of them
  (Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69, 2015: the expanded
  percentile interval).
- No preference: a listener without one chooses each side as often, so that all of a listener's choices reversed are as
  likely as they are. The test that reverses listeners' choices is exact (Ernst, "Permutation Methods: A Basis for Exact
  Inference", Statistical Science 19, 2004), also where listeners have preferences that cancel out. Of several
  comparisons, the largest statistic of each flip counts (max-T), so that all of them together have one level.
"""

from __future__ import annotations

import functools
import itertools
import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.analysis.intervals import Floats

__all__ = ["MIN_LISTENERS", "bootstrap", "bradley_terry", "flip_tests", "interval", "is_connected"]

PRIOR = 0.1
RESAMPLES = 1999
FLIPS, ALL_FLIPS_TO = 9999, 12
"""Flips that are drawn; up to so many listeners, all 2ⁿ are taken."""

MIN_LISTENERS = 5
"""Fewest listeners for intervals and tests: the flips of four can't reach 5 %."""

_STEPS, _CLOSE = 2000, 1e-10


def bradley_terry(wins: Floats) -> Floats:
    """Return the strengths as logarithms, [..., conditions], of mean 0. wins: [..., winner, loser].

    Conditions that no chain of comparisons connects have no strengths to each other: ask `is_connected`.
    """
    played = wins + np.swapaxes(wins, -1, -2)
    compared = played.reshape(-1, *played.shape[-2:]).sum(axis=0) > 0
    wins = wins + PRIOR * compared
    played = played + 2 * PRIOR * compared
    won = wins.sum(axis=-1)
    strengths = np.ones_like(won)
    for _ in range(_STEPS):
        rates = played / (strengths[..., :, None] + strengths[..., None, :])
        new = won / np.maximum(rates.sum(axis=-1), 1e-300)
        new /= np.exp(np.log(new).mean(axis=-1, keepdims=True))
        moved = float(np.abs(np.log(new / strengths)).max())
        strengths = new
        if moved < _CLOSE:
            break
    logs: Floats = np.log(strengths)
    return logs


def is_connected(wins: Floats) -> bool:
    """Return whether comparisons connect all conditions. wins: [winner, loser]."""
    reached = np.eye(len(wins), dtype=bool) | (wins + wins.T > 0)
    for _ in range(len(wins)):
        reached = (reached.astype(int) @ reached.astype(int)) > 0
    return bool(reached.all())


def bootstrap(values: Floats, seed: int = 0) -> Floats:
    """Return the sums over resampled listeners, [RESAMPLES, …]. values: [listeners, …]."""
    sums: Floats = np.tensordot(_resamples(len(values), seed), values, axes=1)
    return sums


@functools.lru_cache(maxsize=2)
def _resamples(listeners: int, seed: int) -> Floats:
    """Return how often each listener was drawn, [RESAMPLES, listeners]."""
    drawn = np.random.default_rng(seed).multinomial(listeners, np.full(listeners, 1 / listeners), RESAMPLES)
    return drawn.astype(float)


def interval(resampled: Floats, listeners: int, level: float = 0.95) -> tuple[Floats, Floats]:
    """Return the expanded percentile interval of a statistic, (low, high). resampled: [RESAMPLES, …]."""
    from scipy.stats import t  # noqa: PLC0415 - takes half a second

    quantile = float(t.ppf(0.5 + level / 2, listeners - 1)) * math.sqrt(listeners / (listeners - 1))
    tail = NormalDist().cdf(-quantile)
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
    return low, high


def flip_tests(scores: Floats, seed: int = 0) -> tuple[float, Floats]:
    """Return how probable scores as extreme are without any preference: (p of all together, p of each, max-T).

    scores: [listeners, comparisons], each listener's net score; reversed choices change its sign.
    """
    scores = scores[:, np.square(scores).sum(axis=0) > 0]
    shape = np.square(scores).sum(axis=0)
    if not scores.size:
        return 1.0, np.ones(0)
    sums = np.abs(_flips(len(scores), seed) @ scores) / np.sqrt(shape)  # the first row is what was observed
    together = np.square(sums).sum(axis=1)
    largest = sums.max(axis=1)
    each = (largest[:, None] >= sums[:1] - 1e-9).mean(axis=0)
    return float((together >= together[0] - 1e-9).mean()), each


@functools.lru_cache(maxsize=2)
def _flips(listeners: int, seed: int) -> NDArray[np.float64]:
    """Return signs, [flips, listeners]; the first row changes none."""
    if listeners <= ALL_FLIPS_TO:
        return np.array(list(itertools.product((1.0, -1.0), repeat=listeners)))
    drawn = np.random.default_rng(seed).integers(0, 2, (FLIPS, listeners)) * 2.0 - 1
    return np.vstack([np.ones(listeners), drawn])
