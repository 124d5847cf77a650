"""Rows of two sides as logarithms, and which rows belong to one block.

Owns the pairing. Rows of a study have its id and the number of their block; a block is one story, seed and length, made
once by each configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harmonia_lab.analysis.circumstances import start_times
from harmonia_lab.analysis.intervals import Floats
from harmonia_lab.analysis.run_columns import numbers

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Sides", "sides_of"]


@dataclass(frozen=True)
class Sides:
    """Two sides of a comparison.

    names: of the sides. columns: K names. logs: of each side's compared runs, [runs, K]; NaN where a value is missing,
    and in a whole column of which a value is zero or less. times: when they began, s. blocks: of each side's blocks
    that the other has too, their mean logarithms [blocks, K], the earliest first; no rows if there are none.
    block_times: when each of these began, s. a_first: whether A's run came first in each. left_out: runs in no block
    that both have.
    """

    names: tuple[str, str]
    columns: tuple[str, ...]
    logs: tuple[Floats, Floats]
    times: tuple[Floats, Floats]
    blocks: tuple[Floats, Floats]
    block_times: Floats
    a_first: tuple[bool, ...]
    left_out: int

    @property
    def in_blocks(self) -> bool:
        return len(self.blocks[0]) > 0

    def differences(self) -> Floats:
        """Return log B − log A of each block, [blocks, K]."""
        return self.blocks[1] - self.blocks[0]


def sides_of(runs: Mapping[str, pd.DataFrame], columns: Sequence[str]) -> Sides:
    """Return the completed runs of two sides (name → rows), paired by `study` and `block` where both have them."""
    names, (one, other) = list(runs), runs.values()
    logs = _logs(one, columns), _logs(other, columns)
    times = start_times(one), start_times(other)
    with_study = "study" in one and "study" in other
    keys = _block_keys(one, with_study), _block_keys(other, with_study)
    shared = [key for key in dict.fromkeys(keys[0]) if key is not None and key in keys[1]]
    members = [[np.flatnonzero([key == wanted for key in side]) for wanted in shared] for side in keys]
    first = np.array([[_earliest(when[at]) for at in side] for when, side in zip(times, members, strict=True)])
    first = first.reshape(2, len(shared))
    order = np.argsort(first.min(axis=0, initial=np.inf), kind="stable")
    blocks = [
        np.array([_mean(values[members[side][at]]) for at in order]).reshape(len(shared), len(columns))
        for side, values in enumerate(logs)
    ]
    if shared:  # runs outside the blocks are not compared
        used = [np.sort(np.concatenate(side)) for side in members]
        left_out = sum(map(len, logs)) - sum(map(len, used))
        logs = logs[0][used[0]], logs[1][used[1]]
        times = times[0][used[0]], times[1][used[1]]
    known = np.isfinite(first).all(axis=0)
    return Sides(
        (names[0], names[1]),
        tuple(columns),
        logs,
        times,
        (blocks[0], blocks[1]),
        np.where(known, first.min(axis=0, initial=np.inf), np.nan)[order],
        tuple(bool(first[0, at] < first[1, at]) for at in order if known[at]),
        left_out if shared else 0,
    )


def _logs(frame: pd.DataFrame, columns: Sequence[str]) -> Floats:
    """Return logarithms [runs, K]; all NaN in a column that has a value of zero or less."""
    values = np.column_stack([numbers(frame, name) for name in columns]) if columns else np.empty((len(frame), 0))
    positive = ~(values <= 0).any(axis=0)
    return np.log(np.where(positive, values, np.nan))


def _block_keys(frame: pd.DataFrame, with_study: bool) -> list[tuple[str, str] | None]:
    """Return (study, block) of each row, None for one without a block. A file may have read a block's number as 3.0."""
    if "block" not in frame:
        return [None] * len(frame)
    blocks = frame["block"].astype("string").str.removesuffix(".0")
    studies = frame["study"].astype("string").fillna("") if with_study else [""] * len(frame)
    pairs = zip(studies, blocks, blocks.isna(), strict=True)
    return [None if missing else (str(study), str(block)) for study, block, missing in pairs]


def _earliest(times: Floats) -> float:
    return float(np.min(times)) if len(times) and not np.isnan(times).any() else np.inf


def _mean(logs: Floats) -> Floats:
    """Return the mean over the runs [runs, K] of what is known, NaN where nothing is."""
    known = ~np.isnan(logs)
    count = known.sum(axis=0)
    return np.where(count, np.where(known, logs, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
