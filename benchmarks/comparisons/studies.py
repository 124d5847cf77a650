"""`studies`: real rows of one configuration, relabelled: how often `compare` claims a difference that there is not.

Owns how studies are cut out of the rows that `runs` kept. A study within blocks is a row of blocks that followed each
other, in each of which a coin says which song is A's. A split compares the first half of some runs with the second,
which is the design that drift spoils most.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.comparisons.runs import COLUMNS
from harmonia_lab.analysis.compare import Comparison, compare

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COMPARED", "PRIMARY", "configure", "half_against_half", "read_rows", "relabelled", "run", "spreads"]

PRIMARY = "cpu_s"

COMPARED = tuple(name for name in COLUMNS if name not in {"audio_load_s", "audio_seconds", "load_1m"})
"""Columns that are compared: those that say what a song took."""

SPLIT_RUNS = 24
"""Runs of a split, both halves together."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rows", type=Path, help="a file that `runs` wrote")
    parser.add_argument("file", type=Path, help="a JSON file for the figures")
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--splits", type=int, default=40)
    parser.add_argument("--blocks", type=int, nargs="+", default=[10, 20])


def run(options: argparse.Namespace) -> int:
    rows = read_rows(options.rows)
    load = rows["load_1m"]
    found = {
        "runs": len(rows),
        "blocks": int(rows["block"].nunique()),
        "columns": len(COMPARED),
        "load": [round(float(value), 1) for value in np.quantile(load, [0, 0.5, 1])],
        "spreads": spreads(rows),
        "relabelled": [
            relabelled(rows, options.studies, blocks, claim)
            for blocks in options.blocks
            for claim in ("mean", "typical")
        ],
        "splits": half_against_half(rows, options.splits),
    }
    text = json.dumps(found, indent=1)
    options.file.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


def read_rows(file: Path) -> pd.DataFrame:
    """Return the rows as any file of them is read."""
    import pandas as pd  # noqa: PLC0415 - slow to import

    return pd.read_csv(file)


def spreads(rows: pd.DataFrame) -> dict[str, float]:
    """Return the standard deviation of the blocks' differences of logarithms, by column, over √2: that of one run."""
    values = np.log(rows.sort_values(["block", "started_at"])[list(COMPARED)].to_numpy(float)).reshape(
        -1, 2, len(COMPARED)
    )
    deviations = (values[:, 1] - values[:, 0]).std(axis=0, ddof=1) / np.sqrt(2)
    return {name: round(float(value), 4) for name, value in zip(COMPARED, deviations, strict=True)}


def relabelled(rows: pd.DataFrame, studies: int, blocks: int, claim: Any) -> dict[str, Any]:
    """Return how many of `studies` claim any difference, and one of the primary column."""
    random = np.random.default_rng(blocks)
    numbers = rows["block"].unique()
    any_claim = primary = 0
    for _ in range(studies):
        begun = random.integers(len(numbers) - blocks + 1)
        study = rows[rows["block"].isin(numbers[begun : begun + blocks])].sort_values(["block", "started_at"])
        is_a = np.repeat(random.integers(0, 2, blocks), 2) == np.tile([0, 1], blocks)
        found = compare(study[is_a], study[~is_a], COMPARED, primary=PRIMARY, claim=claim)
        any_claim += bool(found.table["differs"].any())
        primary += bool(found.table.loc[PRIMARY, "differs"])
    return {"blocks": blocks, "claim": claim, "studies": studies, "any": any_claim, "primary": primary}


def half_against_half(rows: pd.DataFrame, splits: int) -> dict[str, Any]:
    """Return how many of `splits` claim any difference, and how many have an interval without 1.

    Those are more: where one side ran after the other, `compare` claims only what is beyond all that it saw.
    """
    rows = rows.sort_values("started_at").reset_index(drop=True)
    claims = excluding = primary = 0
    for begun in np.linspace(0, len(rows) - SPLIT_RUNS, splits).astype(int):
        first, second = (rows.iloc[at : at + SPLIT_RUNS // 2] for at in (begun, begun + SPLIT_RUNS // 2))
        found: Comparison = compare(first, second, COMPARED, primary=PRIMARY)
        outside = (found.table["low"] > 1) | (found.table["high"] < 1)
        claims += bool(found.table["differs"].any())
        excluding += bool(outside.any())
        primary += bool(outside[PRIMARY])
    return {"runs": SPLIT_RUNS, "splits": splits, "any": claims, "without_1": excluding, "primary_without_1": primary}
