"""What two sides' logarithms tell, column by column: ratios, intervals at the level used, and what is claimed.

Owns the way from intervals to findings: the fallback over the columns, when nothing is claimed, and what n would tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from harmonia_lab.analysis import circumstances, intervals
from harmonia_lab.analysis.blocks import Sides
from harmonia_lab.analysis.intervals import MIN_BLOCKS, MIN_BLOCKS_REST, MIN_BLOCKS_TYPICAL, MIN_RUNS, Floats

__all__ = ["ClaimBy", "ComparisonQuestion", "Findings"]

ClaimBy = Literal["mean", "typical"]
FindingRow = dict[str, Any]

ROUNDING = 1e-9
"""Differences of logarithms below this are equal values."""


@dataclass(frozen=True)
class ComparisonQuestion:
    """What is asked: has_primary (the first column was named ahead), which ratio decides, at which level, and from
    which ratio on a difference matters. seed: of the drawn flips."""

    has_primary: bool
    claim: ClaimBy = "mean"
    level: float = 0.95
    smallest_ratio: float = 1.1
    seed: int = 0


@dataclass
class Findings:
    """rows: a row of the table for each column. notes: how they came about. spreads: column → of its logarithms."""

    sides: Sides
    question: ComparisonQuestion
    rows: dict[str, FindingRow] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    spreads: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.sides.in_blocks:
            self._compare_blocks()
        else:
            self._compare_runs()

    # Blocks

    def _compare_blocks(self) -> None:
        asked, differences = self.question, self.sides.differences()
        columns = {
            name: values[~np.isnan(values)] for name, values in zip(self.sides.columns, differences.T, strict=True)
        }
        for at, (name, d) in enumerate(columns.items()):
            means = (
                [np.exp(side[~np.isnan(differences[:, at]), at].mean()) for side in self.sides.blocks] if len(d) else []
            )
            runs = [int((~np.isnan(side[:, at])).sum()) for side in self.sides.logs]
            self.rows[name] = _row(means or self._lone_means(at), runs) | {"n": len(d)}
            if len(d) >= 2:
                self.spreads[name] = float(d.std(ddof=1))
                self.rows[name]["typical"] = _ratio_of(intervals.typical_value(d))
        rest = [name for at, name in enumerate(columns) if not (asked.has_primary and at == 0)]
        shared = [name for name in rest if len(columns[name]) >= MIN_BLOCKS_REST]
        self._note_blocks(len(differences), len(rest) - len(shared))
        primary = self.sides.columns[0] if asked.has_primary else None
        differs = False
        if primary is not None:
            level = intervals.split_level(asked.level, primary_differs=False)[0] if shared else asked.level
            differs = self._primary_block(primary, columns[primary], level)
        if shared:
            self._share_level(shared, differs, primary, lambda level: self._max_t(shared, differences, level))

    def _primary_block(self, name: str, d: Floats, level: float) -> bool:
        """Fill in the primary column's intervals; return whether it differs."""
        row, seed = self.rows[name], self.question.seed
        if len(d) >= MIN_BLOCKS:
            low, high, reached = intervals.sign_flip_interval(d, level, seed=seed)
            row |= {"low": _ratio_of(low), "high": _ratio_of(high), "level": 100 * reached}
            if reached < level - 1e-9:
                self.notes.append(
                    f"{len(d)} blocks have {2 ** len(d)} flips: the level of {name} is {100 * reached:.4g} %, not"
                    f" {100 * level:.4g} %."
                )
        if len(d) >= MIN_BLOCKS_TYPICAL:
            low, high, _ = intervals.typical_interval(d, level, seed=seed)
            row |= {"typical_low": _ratio_of(low), "typical_high": _ratio_of(high)}
        spread = self.spreads.get(name, math.nan)
        if self.question.claim == "typical" and len(d):
            self.notes.append(f"The ratio of typical runs decides on {name}, as was named ahead.")
            spread = 1.4826 * float(np.median(np.abs(d - intervals.typical_value(d))))
        self._find(name, level, spread, len(d) - 1, intervals.blocks_needed, self.question.claim)
        return bool(row["differs"])

    def _max_t(self, names: list[str], differences: Floats, level: float) -> None:
        at = [self.sides.columns.index(name) for name in names]
        mean, error, critical = intervals.simultaneous_limits(differences[:, at], (level,), seed=self.question.seed)
        for name, middle, half in zip(names, mean, critical[0] * error, strict=True):
            self.rows[name] |= {"low": _ratio_of(middle - half), "high": _ratio_of(middle + half), "level": 100 * level}
            each = 1 - (1 - level) / len(names)
            degrees = self.rows[name]["n"] - 1
            self._find(name, each, self.spreads[name], degrees, intervals.blocks_needed, "mean")

    # Runs without blocks

    def _compare_runs(self) -> None:
        asked = self.question
        columns: dict[str, tuple[Floats, Floats]] = {}
        for at, name in enumerate(self.sides.columns):
            a, b = (side[~np.isnan(side[:, at]), at] for side in self.sides.logs)
            self.rows[name] = _row(self._lone_means(at), [len(a), len(b)])
            if len(a) and len(b):
                self.rows[name]["typical"] = _ratio_of(float(np.median(b) - np.median(a)))
            if min(len(a), len(b)) >= MIN_RUNS:
                columns[name] = a, b
                self.spreads[name] = math.sqrt(a.var(ddof=1) + b.var(ddof=1))
        self.notes.append(
            "No blocks: Welch's t on logarithms, which takes the runs as independent. A study, which draws the order in"
            " blocks, has narrower intervals, and they hold where the machine changes meanwhile."
        )
        primary = self.sides.columns[0] if asked.has_primary else None
        rest = [name for name in columns if name != primary]
        differs = False
        if primary in columns:
            level = intervals.split_level(asked.level, primary_differs=False)[0] if rest else asked.level
            self._welch(primary, *columns[primary], level, level, asked.claim)
            differs = bool(self.rows[primary]["differs"])
        if rest:

            def share(level: float) -> None:
                for name in rest:
                    self._welch(name, *columns[name], 1 - (1 - level) / len(rest), level, "mean")

            self._share_level(rest, differs, primary, share)

    def _welch(self, name: str, a: Floats, b: Floats, level: float, together: float, claim: ClaimBy) -> None:
        """level: of this interval; together: of all that share it."""
        low, high = intervals.welch_interval(a, b, level)
        self.rows[name] |= {"low": _ratio_of(low), "high": _ratio_of(high), "level": 100 * together}
        self._find(name, level, self.spreads[name], len(a) + len(b) - 2, intervals.runs_needed, claim)

    # Both

    def _share_level(
        self, names: list[str], differs: bool, primary: str | None, share: Callable[[float], None]
    ) -> None:
        """Give the columns that aren't primary their intervals, at the level that is left to them together."""
        asked = self.question
        error = 100 * (1 - asked.level)
        how = "max-T" if self.sides.in_blocks else "Bonferroni"
        if primary is None:
            share(asked.level)
            if len(names) > 1:
                self.notes.append(
                    f"No primary column was named ahead: {len(names)} columns share {error:.4g} % of false claims"
                    f" ({how}). A named one is found with fewer runs."
                )
            return
        first, others = intervals.split_level(asked.level, primary_differs=differs)
        share(others)
        self.notes.append(
            f"Of {error:.4g} % of false claims, {primary} may use {100 * (1 - first):.3g} %, {_columns(len(names))}"
            f" {100 * (1 - others):.3g} % ({how}), " + ("since it differs." if differs else "unless it differs.")
        )

    def _find(
        self, name: str, level: float, spread: float, degrees: int,
        needed: Callable[[float, float, float, float], tuple[int, int]], claim: ClaimBy,
    ) -> None:  # fmt: skip
        """Fill in what the interval of a column tells."""
        row, smallest = self.rows[name], self.question.smallest_ratio
        low, high = (row["typical_low"], row["typical_high"]) if claim == "typical" else (row["low"], row["high"])
        if math.isnan(low):
            few = f"typical runs need {MIN_BLOCKS_TYPICAL} blocks" if claim == "typical" else "too few"
            row["finding"] = f"can't tell: {few}"
            return
        if math.log(low) > ROUNDING or math.log(high) < -ROUNDING:
            row["differs"] = self._may_claim(name)
            row["finding"] = "differs" if row["differs"] else "not claimed: one side ran after the other"
        elif low > 1 / smallest and high < smallest:
            row["finding"] = f"less than {smallest:g} × apart"
        elif spread > ROUNDING:
            least, most = needed(spread, degrees, smallest, level)
            row |= {"n_needed_low": least, "n_needed_high": most}
            number = f"{least} to {most}" if most > least else f"{least}"
            what = "blocks" if self.sides.in_blocks else "runs a side"
            row["finding"] = f"can't tell; {number} {what} would tell {smallest:g} ×"
        else:
            row["finding"] = "can't tell"

    def _may_claim(self, name: str) -> bool:
        """Return whether a difference may be claimed, where one side ran after the other only one beyond all seen."""
        if not circumstances.one_after_the_other(*self.sides.times):
            return True
        at = self.sides.columns.index(name)
        a, b = (side[~np.isnan(side[:, at]), at] for side in self.sides.logs)
        return circumstances.beyond_all_seen(a, b)

    def _lone_means(self, at: int) -> list[float]:
        """Return the geometric means of the sides, NaN for a side without values."""
        values = [side[~np.isnan(side[:, at]), at] for side in self.sides.logs]
        return [float(np.exp(side.mean())) if len(side) else math.nan for side in values]

    def _note_blocks(self, n: int, without: int) -> None:
        self.notes.append(
            f"{n} blocks: runs of a block are compared with each other, by sign flips of the differences of logarithms."
        )
        if self.sides.left_out:
            self.notes.append(f"{self.sides.left_out} runs are in no block that both sides have: they are left out.")
        if without and n < MIN_BLOCKS_REST:
            what = "other columns have" if self.question.has_primary else "columns of which none was named ahead have"
            self.notes.append(f"Below {MIN_BLOCKS_REST} blocks {what} no intervals.")
        if n < MIN_BLOCKS:
            self.notes.append(f"Below {MIN_BLOCKS} blocks there are no intervals.")


def _row(means: list[float], runs: list[int]) -> FindingRow:
    missing = dict.fromkeys(
        ("low", "high", "level", "typical", "typical_low", "typical_high", "n", "n_needed_low", "n_needed_high"),
        math.nan,
    )
    ratio = float(means[1] / means[0])
    finding = "no ratio" if math.isnan(ratio) else "can't tell: too few"
    return {"a": float(means[0]), "b": float(means[1]), "ratio": ratio, **missing, "n_a": runs[0], "n_b": runs[1],
            "differs": False, "finding": finding}  # fmt: skip


def _ratio_of(difference: Any) -> float:
    """Return the ratio of a difference of logarithms; beyond a double's range the largest power of e."""
    return math.exp(min(float(difference), 700.0))


def _columns(count: int) -> str:
    return "the other column" if count == 1 else f"the other {count} columns together"
