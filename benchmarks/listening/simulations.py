"""Simulated answer sets: how often no preference is called one, and how often the interval holds the planted one.

Owns what is drawn. A study is 30 listeners who answer 10 pairs and 2 attention checks each; every answer goes through
the screening and `analyse`, as real ones do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from harmonia_lab.listening.analysis import ListeningResult, analyse
from harmonia_lab.listening.design import ListeningDesign, design_test
from harmonia_lab.listening.simulation import simulated_answers
from harmonia_lab.listening.sources import ComparedSong

__all__ = ["NULLS", "PLANTED", "PLANTED_SHARES", "design_of", "simulated", "tally"]

LISTENERS, PAIRS = 30, 10
PLANTED = 0.7

Share = Callable[[np.random.Generator], float]
"""Draws a listener's probability of preferring the second condition."""


def _spread(mean: float, spread: float) -> Share:
    """Return shares from a beta distribution with this mean and standard deviation; 0: the mean for everybody."""
    if not spread:
        return lambda _: mean
    both = mean * (1 - mean) / spread**2 - 1
    return lambda rng: float(rng.beta(mean * both, (1 - mean) * both))


NULLS: dict[str, Share] = {"nobody prefers one": _spread(0.5, 0), "tastes differ (0.5 ± 0.15)": _spread(0.5, 0.15)}
PLANTED_SHARES: dict[str, Share] = {
    "all alike (0.7)": _spread(PLANTED, 0),
    "tastes differ (0.7 ± 0.15)": _spread(PLANTED, 0.15),
}


def design_of(pairs: int = PAIRS, conditions: tuple[str, ...] = ("a", "b")) -> ListeningDesign:
    """Return a test without sounds."""
    songs = [ComparedSong(name, f"block {n}", Path(name, str(n))) for n in range(pairs) for name in conditions]
    return design_test(songs, trials=pairs, seed=1)


def simulated(design: ListeningDesign, share: Share, seed: int, listeners: int = LISTENERS) -> ListeningResult:
    """Return the analysis of one simulated study."""
    rng = np.random.default_rng((seed, listeners))
    sets = [simulated_answers(design, share(rng), number, rng) for number in range(listeners)]
    return analyse(design, sets)


def tally(studies: int, first: int = 0) -> dict[str, dict[str, float]]:
    """Return for each kind of listeners how many studies are false alarms, or hold the planted share."""
    design, found = design_of(), dict[str, dict[str, float]]()
    for name, share in NULLS.items():
        alarms = sum((simulated(design, share, n).p_no_preference or 0) <= 0.05 for n in range(first, first + studies))
        found[name] = {"studies": studies, "falseAlarms": alarms}
    for name, share in PLANTED_SHARES.items():
        holds = claimed = 0
        estimates = []
        for number in range(first, first + studies):
            row = simulated(design, share, number).table.frame.iloc[0]
            holds += int(row["low"] <= PLANTED <= row["high"])
            claimed += bool(row["differs"])
            estimates.append(row["share"])
        found[name] = {
            "studies": studies,
            "held": holds,
            "found": claimed,
            "meanShare": round(float(np.mean(estimates)), 4),
        }
    return found
