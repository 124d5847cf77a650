"""Confidence intervals for ratios: of blocks by sign flips, of runs without blocks by Welch's t, of many columns at
once.

Owns the arithmetic, on arrays of logarithms. `compare.py` takes them from the rows of the run log. Everything here
works on leading dimensions at once, so that `python -m benchmarks.comparisons` tries these functions themselves.

A block is one story, seed and length, made once by each configuration, in a drawn order. Its difference of logarithms
d = log B − log A is as likely to come out as −d if A and B are equal, whatever the machine did meanwhile: the order was
drawn. So the test that flips the signs of the differences is exact (Ernst, "Permutation Methods: A Basis for Exact
Inference", Statistical Science 19, 2004), and so is the interval that inverts it. For the mean that needs no search: a
value lies outside iff it is below the k lowest or above the k highest of the means of all non-empty subsets of the
differences (Hartigan, "Using Subsample Values as Typical Values", JASA 64, 1969; for two samples Nguyen, doi
10.15760/etd.7798, 2009, which R's CIPerm follows). It holds for any noise that is symmetric about the ratio.

A bootstrap-t over two sides, which was here before, took no blocks, and covered 84.6 % at n = 30 where 5 % of the runs
take twice as long.
"""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MIN_BLOCKS",
    "MIN_BLOCKS_REST",
    "MIN_BLOCKS_TYPICAL",
    "MIN_RUNS",
    "Floats",
    "blocks_needed",
    "runs_needed",
    "sign_flip_interval",
    "simultaneous_limits",
    "split_level",
    "typical_interval",
    "typical_value",
    "welch_interval",
]  # fmt: skip

MIN_BLOCKS = 5
"""Fewest blocks for an interval of the primary column. Five have 32 flips, and so a level of 93.75 % at most."""

MIN_BLOCKS_REST = 8
"""Fewest blocks for intervals of the other columns, which share what the primary column leaves."""

MIN_BLOCKS_TYPICAL = 10
"""Fewest blocks for an interval of typical runs: with fewer, clipping costs more than it brings."""

MIN_RUNS = 5
"""Fewest runs a side for an interval without blocks."""

ALL_FLIPS_TO = 12
"""Blocks up to which all 2ⁿ flips are taken."""

DRAWN, DRAWN_BY_SEARCH = 9_999, 1_999
"""Flips drawn for more blocks: for the mean, and where every step of a search takes them again."""

PRIMARY_SHARE = 0.8
"""Share of the error that the primary column may use up: 4 of 5 %."""

POWER = 0.9
"""Share of the studies with the n of `blocks_needed` in which the difference is found."""

Floats: TypeAlias = NDArray[np.float64]
"""An array of doubles; its shape is said where it is used."""


def sign_flip_interval(d: Floats, level: float = 0.95, *, seed: int = 0) -> tuple[Floats, Floats, float]:
    """Return the interval for the mean difference, (low, high), each [...], and the level that it has.

    d: differences of logarithms, [..., n]. The level is the lowest possible one that isn't below `level`, or the
    highest possible: 1 − 2/2ⁿ. seed: of the flips drawn where n > 12.
    """
    flipped = _flips(d.shape[-1], DRAWN, seed)
    total = len(flipped) + 1  # the differences as they are count as one more
    count = max(1, int((1 - level) / 2 * total + 1e-9))
    means = d @ (flipped / flipped.sum(axis=1, keepdims=True)).T
    means.partition((count - 1, means.shape[-1] - count), axis=-1)
    return means[..., count - 1], means[..., -count], 1 - 2 * count / total


def typical_value(d: Floats) -> Floats:
    """Return the difference of typical runs, [...]: where differences clipped at their median distance balance.

    d: [..., n]. It is Huber's estimate with the median of |d − value| as the scale at which he clips.
    """
    low, high = d.min(axis=-1), d.max(axis=-1)
    for _ in range(50):
        middle = (low + high) / 2
        above = _clipped(d - middle[..., None]).sum(axis=-1) > 0
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.asarray((low + high) / 2)


def typical_interval(d: Floats, level: float = 0.95, *, seed: int = 0) -> tuple[Floats, Floats, float]:
    """Return the interval for the difference of typical runs, (low, high), each [...], and its level.

    d: [..., n]. The flips of `sign_flip_interval`, of differences that are clipped at the median of their distances
    from the tried value: a few runs with spikes then count as runs that are merely slower (Maritz's tests of
    M-estimates; Rosenbaum, "Sensitivity analysis for m-estimates, tests and confidence intervals in matched
    observational studies", Biometrics 63, 2007, whose R package calls this clipping "somewhat analogous to a midmean").
    Exact as the other.
    """
    flipped = _flips(d.shape[-1], DRAWN_BY_SEARCH, seed)
    total = len(flipped) + 1
    count = max(1, int((1 - level) / 2 * total + 1e-9))
    found = []
    centre = typical_value(d)
    for side in (1.0, -1.0):
        inside, outside = centre.copy(), np.where(side > 0, d.min(axis=-1), d.max(axis=-1)) - side * 1e-9
        for _ in range(30):
            tried = (inside + outside) / 2
            scores = _clipped(side * (d - tried[..., None]))
            # A flip is at least as extreme as no flip iff the scores that it turns don't sum to more than 0.
            extreme = 1 + (scores @ flipped.T <= 1e-12).sum(axis=-1)
            kept = extreme > count
            inside, outside = np.where(kept, tried, inside), np.where(kept, outside, tried)
        found.append(inside)
    return found[0], found[1], 1 - 2 * count / total


def welch_interval(a: Floats, b: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Return Welch's interval for the difference of the means, b − a: (low, high), each [...].

    a: logarithms, [..., n]; b: [..., m]. Of the methods tried for runs without blocks it held where n and spread differ
    between the sides, where permutations cover 81 %. It is the interval of `scipy.stats.ttest_ind(equal_var=False)`;
    that module takes a second to import, and warns where all runs are equal, so only its quantile of t is taken from
    scipy.
    """
    from scipy.special import stdtrit  # noqa: PLC0415 - takes a third of a second

    parts = [side.var(axis=-1, ddof=1) / side.shape[-1] for side in (a, b)]
    variance = parts[0] + parts[1]
    uncertain = variance > 1e-24  # rounding gives equal values a variance slightly above 0
    weight = sum(part**2 / (side.shape[-1] - 1) for part, side in zip(parts, (a, b), strict=True))
    degrees = np.where(uncertain, variance**2 / np.where(uncertain, weight, 1.0), 1.0)
    half = stdtrit(degrees, (1 + level) / 2) * np.sqrt(np.where(uncertain, variance, 0.0))
    difference = b.mean(axis=-1) - a.mean(axis=-1)
    return difference - half, difference + half


def simultaneous_limits(d: Floats, levels: tuple[float, ...], *, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Return mean, standard error and critical values, so that mean ± critical × error covers all columns at once.

    d: [..., n, K], missing values NaN, at least two a column. Returns [..., K], [..., K] and [..., len(levels)].

    The critical value is a quantile of the largest |t| of all columns over flips of whole blocks of the residuals:
    max-T (Westfall and Young, "Resampling-Based Multiple Testing", 1993). Blocks are flipped as wholes, since the
    columns of one run go together: sixteen real ones are worth about nine independent ones.
    """
    known = ~np.isnan(d)
    n = known.sum(axis=-2)  # [..., K]
    filled = np.where(known, d, 0.0)
    mean = filled.sum(axis=-2) / n
    residuals = np.where(known, d - mean[..., None, :], 0.0)
    squares = (residuals**2).sum(axis=-2)
    error = np.sqrt(squares / (n - 1) / n)
    signs = 1 - 2 * _flips(d.shape[-2], DRAWN_BY_SEARCH, seed)
    if d.shape[-2] <= ALL_FLIPS_TO:
        signs = signs[: len(signs) // 2]  # the other half are their negatives, and give the same |t|
    flipped = (signs @ residuals) / n[..., None, :]  # [..., flips, K]
    variance = (squares[..., None, :] - n[..., None, :] * flipped**2) / (n - 1)[..., None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(flipped) / np.sqrt(np.maximum(variance, 1e-30) / n[..., None, :])
    largest = np.sort(np.where(squares[..., None, :] > 1e-24, t, 0.0).max(axis=-1), axis=-1)
    at = [min(len(signs), math.ceil(level * (len(signs) + 1) - 1e-9)) - 1 for level in levels]
    return mean, np.where(squares > 1e-24, error, 0.0), largest[..., at]


def split_level(level: float, *, primary_differs: bool) -> tuple[float, float]:
    """Return the levels of the primary column and of all others together.

    The fallback procedure (Wiens, "A fixed sequence Bonferroni procedure for testing multiple endpoints",
    Pharmaceutical Statistics 2, 2003): the primary column has most of the error, the others the remainder, and all of
    it once the primary differs. So any false claim has at most the probability 1 − level.
    """
    error = 1 - level
    return 1 - PRIMARY_SHARE * error, level if primary_differs else 1 - (1 - PRIMARY_SHARE) * error


def blocks_needed(spread: float, degrees: float, ratio: float, level: float = 0.95) -> tuple[int, int]:
    """Return the range of blocks that would find `ratio` in 90 % of studies.

    spread: standard deviation of the blocks' differences of logarithms, estimated with `degrees` of freedom: the range
    is that of an 80 % interval for the spread itself, which ten blocks know within a half. ratio: the least that
    matters. The formula is the normal one with Guenther's correction z²/2 for an estimated spread ("Sample size
    formulas for normal theory t tests", The American Statistician 35, 1981).
    """
    low, high = _spread_range(spread, degrees)
    return _needed(low, ratio, level, 2.0), _needed(high, ratio, level, 2.0)


def runs_needed(spread: float, degrees: float, ratio: float, level: float = 0.95) -> tuple[int, int]:
    """Return the range of runs a side without blocks, as `blocks_needed`. spread: √(variance of A + variance of B)."""
    low, high = _spread_range(spread, degrees)
    return _needed(low, ratio, level, 4.0), _needed(high, ratio, level, 4.0)


def _needed(spread: float, ratio: float, level: float, correction: float) -> int:
    z = NormalDist().inv_cdf(1 - (1 - level) / 2)
    n = ((z + NormalDist().inv_cdf(POWER)) * spread / math.log(ratio)) ** 2 + z**2 / correction
    return max(MIN_BLOCKS + 1, math.ceil(n))


def _spread_range(spread: float, degrees: float) -> tuple[float, float]:
    """Return the limits of an 80 % interval for a standard deviation (chi-square)."""
    from scipy.special import chdtri  # noqa: PLC0415 - takes a third of a second

    return spread * math.sqrt(degrees / chdtri(degrees, 0.1)), spread * math.sqrt(degrees / chdtri(degrees, 0.9))


def _flips(n: int, drawn: int, seed: int) -> Floats:
    """Return which differences each flip turns, [flips, n] of 0 and 1: all but the empty flip, or drawn ones."""
    if n <= ALL_FLIPS_TO:
        return np.array(list(itertools.product((0.0, 1.0), repeat=n))[1:])
    found = np.random.default_rng(seed).integers(0, 2, (drawn, n)).astype(np.float64)
    return found[found.any(axis=1)]


def _clipped(distances: Floats) -> Floats:
    """Return distances [..., n], clipped at the median of their absolute values."""
    ordered = np.sort(np.abs(distances), axis=-1)  # numpy's median takes thirty times as long for a few values
    last = ordered.shape[-1] - 1
    scale = (ordered[..., last // 2, None] + ordered[..., (last + 1) // 2, None]) / 2
    return np.asarray(np.minimum(np.maximum(distances, -scale), scale))
