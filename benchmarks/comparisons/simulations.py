"""`simulate`: what the intervals cover, and what is found, over thousands of studies that are drawn.

Owns the noises and the trials. The functions tried are those of `harmonia_lab.analysis.intervals`, at the levels that
`compare` uses; a study's runs are drawn as logarithms. `noise` names what stands about each run's own value:

    lognormal .1, .3     normal on logarithms, standard deviation 0.1 and 0.3
    t3                   Student's t with 3 degrees of freedom on logarithms, scaled by 0.1
    spikes               0.05, and 5 % of all runs on both sides take twice as long
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from harmonia_lab.analysis import intervals

__all__ = ["NOISES", "PARTS", "TRIALS", "configure", "run"]

Array = NDArray[np.float64]
Row = dict[str, Any]
Noise = Callable[[np.random.Generator, tuple[int, ...]], Array]
Draw = Callable[[np.random.Generator, int], Array]
"""From a number of studies to their differences or runs."""

TRIALS = 10_000
METHODS = {"sign flips": intervals.sign_flip_interval, "typical runs": intervals.typical_interval}
CHUNK = 250
"""Studies drawn at once."""

SLOWED = math.log(1.1)
COUNTS = (5, 10, 20, 30, 50)


def _spiking(spread: float) -> Noise:
    return lambda random, size: spread * random.standard_normal(size) + math.log(2) * (random.random(size) < 0.05)


NOISES: dict[str, Noise] = {
    "lognormal .1": lambda random, size: 0.1 * random.standard_normal(size),
    "lognormal .3": lambda random, size: 0.3 * random.standard_normal(size),
    "t3": lambda random, size: 0.1 * random.standard_t(3, size),
    "spikes": _spiking(0.05),
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("part", choices=PARTS, help="; ".join(f"{name}: {what}" for name, (_, what) in PARTS.items()))
    parser.add_argument("file", type=Path, help="a JSONL file; rows of the same part and n in it are replaced")
    parser.add_argument(
        "--n", type=int, nargs="+", help="blocks, or runs a side (default: all that belong to the part)"
    )
    parser.add_argument("--trials", type=int, default=TRIALS)


def run(options: argparse.Namespace) -> int:
    simulate = PARTS[options.part][0]
    found = [{"part": options.part, **row} for row in simulate(options.trials, options.n)]
    replaced = {(row["part"], row["n"]) for row in found}
    lines = options.file.read_text(encoding="utf-8").splitlines() if options.file.exists() else []
    kept = [line for line in lines if (json.loads(line)["part"], json.loads(line)["n"]) not in replaced]
    rows = sorted([*map(json.loads, kept), *found], key=lambda row: (list(PARTS).index(row["part"]), row["n"]))
    options.file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for row in found:
        print(json.dumps(row), flush=True)
    return 0


def _drawn(trials: int, draw: Draw, *stream: int | str) -> Iterator[Array]:
    """Yield studies by chunks. stream: names the random numbers, so that figures repeat and noises have their own."""
    random = np.random.default_rng([20261128, *(crc32(str(each).encode()) for each in stream)])
    for begun in range(0, trials, CHUNK):
        yield draw(random, min(CHUNK, trials - begun))


def _share(hits: Iterable[NDArray[np.bool_]]) -> float:
    return round(float(np.concatenate(list(hits)).mean()), 5)


def _covers(low: Array, high: Array, truth: float = 0.0) -> NDArray[np.bool_]:
    return (low <= truth) & (truth <= high)


def _pairs(noise: Noise, *shape: int, slowed: float = 0.0) -> Draw:
    """Return what draws differences of two runs, [studies, *shape]."""
    return lambda random, size: noise(random, (size, *shape)) - noise(random, (size, *shape)) + slowed


def _coverage(trials: int, counts: list[int] | None) -> Iterator[Row]:
    """Equal sides; 95 % intervals. Blocks: the difference of two runs. Without blocks: Welch."""
    for n, (name, noise) in itertools.product(counts or COUNTS, NOISES.items()):
        about = {"n": n, "noise": name, "trials": trials}
        level = intervals.sign_flip_interval(np.zeros((1, n)), 0.95)[2]
        hits = (_covers(*intervals.sign_flip_interval(d)[:2]) for d in _drawn(trials, _pairs(noise, n), n, name))
        yield about | {"method": "sign flips", "level": round(level, 5), "covered": _share(hits)}
        if n >= intervals.MIN_BLOCKS_TYPICAL:
            hits = (_covers(*intervals.typical_interval(d)[:2]) for d in _drawn(trials, _pairs(noise, n), n, name))
            yield about | {"method": "typical runs", "level": 0.95, "covered": _share(hits)}
        sides = (_drawn(trials, functools.partial(_course, noise, n), n, name, side) for side in "AB")
        hits = (_covers(*intervals.welch_interval(a, b)) for a, b in zip(*sides, strict=True))
        yield about | {"method": "Welch", "level": 0.95, "covered": _share(hits)}


def _autoregressive(random: np.random.Generator, size: tuple[int, int]) -> Array:
    """AR(1) with ρ = 0.6 and standard deviation 0.1, [studies, runs in order]."""
    found = 0.1 * random.standard_normal(size)
    for run in range(1, size[1]):
        found[:, run] = 0.6 * found[:, run - 1] + 0.8 * found[:, run]
    return found


def _drifting(random: np.random.Generator, size: tuple[int, int]) -> Array:
    """1 % a run, and a standard deviation of 0.05."""
    return 0.05 * random.standard_normal(size) + 0.01 * np.arange(size[1])


COURSES = {"AR(1) .6": _autoregressive, "drift 1 % a run": _drifting}


def _in_blocks(course: Noise, n: int) -> Draw:
    """Return what draws differences of n blocks whose order is drawn, [studies, n]."""

    def draw(random: np.random.Generator, size: int) -> Array:
        runs = course(random, (size, 2 * n)).reshape(size, n, 2)
        return np.asarray((runs[..., 1] - runs[..., 0]) * random.choice((-1.0, 1.0), (size, n)))

    return draw


def _blocks(trials: int, counts: list[int] | None) -> Iterator[Row]:
    """Equal sides on a machine that changes; one run of each side in a block."""
    for n, (name, course) in itertools.product(counts or (10, 20, 30), COURSES.items()):
        about = {"n": n, "noise": name, "trials": trials, "level": 0.95}
        for method, interval in METHODS.items():
            hits = (_covers(*interval(d)[:2]) for d in _drawn(trials, _in_blocks(course, n), n, name))
            yield about | {"method": method, "covered": _share(hits)}
        runs = _drawn(trials, functools.partial(_course, course, 2 * n), n, name)
        hits = (_covers(*intervals.welch_interval(each[:, :n], each[:, n:])) for each in runs)
        yield about | {"method": "A, then B: Welch", "covered": _share(hits)}


def _course(course: Noise, runs: int, random: np.random.Generator, size: int) -> Array:
    return course(random, (size, runs))


PLANTED = (
    ("spread .03", 10, lambda random, size: 0.03 * random.standard_normal(size)),
    ("spread .05", 10, lambda random, size: 0.05 * random.standard_normal(size)),
    ("spread .15", 10, lambda random, size: 0.15 * random.standard_normal(size)),
    ("spread .05", 20, lambda random, size: 0.05 * random.standard_normal(size)),
    ("spread .03, spikes", 10, _spiking(0.03)),
    ("spread .05, spikes", 10, _spiking(0.05)),
    ("spread .03, spikes", 20, _spiking(0.03)),
    ("spread .05, spikes", 20, _spiking(0.05)),
)
"""Name, blocks, noise of a run about its story."""


def _planted(trials: int, counts: list[int] | None) -> Iterator[Row]:
    """B takes 1.1 × in the primary column, which may use 4 %: how often that is found."""
    level = intervals.split_level(0.95, primary_differs=False)[0]
    for name, n, noise in PLANTED:
        if counts and n not in counts:
            continue
        for method, interval in METHODS.items():
            studies = _drawn(trials, _pairs(noise, n, slowed=SLOWED), n, name)
            hits = (~_covers(*interval(d, level)[:2]) for d in studies)
            yield {"n": n, "noise": name, "trials": trials, "level": level, "method": method, "found": _share(hits)}


def _correlation() -> Array:
    """Sixteen columns in four families, as the columns of one run go together: 6 and 6 durations, 2 and 2 others."""
    family = np.repeat(np.arange(4), (6, 6, 2, 2))
    found = np.where(family[:, None] == family, 0.85, 0.1)
    np.fill_diagonal(found, 1.0)
    return np.asarray(found, np.float64)


def _columns(trials: int, counts: list[int] | None) -> Iterator[Row]:
    """Sixteen equal columns: how often any is claimed to differ, and how often one is where each has its own 5 %."""
    mixed = np.linalg.cholesky(_correlation()).T
    for n, name in itertools.product(counts or (8, 10, 20), ("lognormal .1", "t3", "spikes")):
        chunks = [_claimed(d @ mixed) for d in _drawn(trials, _pairs(NOISES[name], n, 16), n, name)]
        yield {
            "n": n, "noise": name, "trials": trials, "method": "primary 4 %, max-T 1 %",
            "false": _share(np.asarray(claims.any(axis=1)) for claims, _ in chunks),
            "false_primary": _share(claims[:, 0] for claims, _ in chunks),
            "false_each": _share(np.asarray(each.any(axis=1)) for _, each in chunks),
        }  # fmt: skip


def _claimed(d: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return what `compare` claims of d [studies, blocks, K], and what tests of each column would, [studies, K]."""
    first, rest = intervals.split_level(0.95, primary_differs=False)
    primary = ~_covers(*intervals.sign_flip_interval(d[..., 0], first)[:2])
    mean, error, critical = intervals.simultaneous_limits(d[..., 1:], (rest, 0.95))
    allowed = np.where(primary, critical[..., 1], critical[..., 0])
    others = np.abs(mean) > allowed[..., None] * error
    each = ~_covers(*intervals.sign_flip_interval(np.moveaxis(d, 1, 2))[:2])
    return np.column_stack([primary, others]), each


PARTS: dict[str, tuple[Callable[[int, list[int] | None], Iterator[Row]], str]] = {
    "coverage": (_coverage, "equal sides, four noises"),
    "blocks": (_blocks, "a machine that changes"),
    "planted": (_planted, "1.1 × in the primary column"),
    "columns": (_columns, "false claims over sixteen columns"),
}
