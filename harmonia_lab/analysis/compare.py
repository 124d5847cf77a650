"""Is B slower than A, and by how much? Ratios of two sets of run log rows, with confidence intervals.

Owns what is claimed. The researcher chooses which rows are A and which are B; `intervals.py` has the arithmetic and its
sources, `circumstances.py` the warnings, `tables.py` the layout. `python -m benchmarks.comparisons table` shows what
the intervals cover and how often differences are claimed that there are not.

A ratio is that of geometric means, because a machine's noise scales with the duration. Rows of a study (`lab.study`)
have blocks; runs of one block are compared with each other, by sign flips. Rows without blocks are compared by Welch's
t over logarithms, which takes the runs as independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from harmonia_lab.analysis import circumstances
from harmonia_lab.analysis.blocks import Sides, sides_of
from harmonia_lab.analysis.circumstances import EXPECTED_EQUAL
from harmonia_lab.analysis.findings import ClaimBy, ComparisonQuestion, Findings
from harmonia_lab.analysis.frames import work_frame
from harmonia_lab.analysis.intervals import MIN_RUNS
from harmonia_lab.analysis.run_columns import completed, unit_of
from harmonia_lab.analysis.side_names import better_side, sides_named
from harmonia_lab.analysis.tables import DEFAULT_COLUMNS, MISSING, Table, columns_of, figure, units_for_people
from harmonia_lab.errors import InvalidRequest

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DEFAULT_COLUMNS", "EXPECTED_EQUAL", "MIN_RUNS", "Comparison", "compare"]

_TABLE = (
    "column", "unit", "a", "b", "ratio", "low", "high", "level", "typical", "typical_low", "typical_high", "n", "n_a",
    "n_b", "differs", "finding", "n_needed_low", "n_needed_high",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Comparison:
    """The result of `compare`.

    table: a row for each column, the primary one first: unit, a and b (geometric means), ratio (B/A), low, high and
    level (its interval, and the level in %), typical, typical_low and typical_high (the ratio of typical runs), n
    (blocks; missing without blocks), n_a, n_b (runs), differs, finding, n_needed_low and n_needed_high (blocks, or runs
    a side, with which nine of ten studies would find the least ratio that matters). primary: the column that was named
    ahead. claim: which ratio of it decides. method: "blocks" or "welch". block_ratios: B/A of each block, a column for
    each of the table's; no rows without blocks. names: of the sides. changed: what differs between them,
    such as "decoder: reference → fast", or "". ended: side → runs by status. notes: how it was
    computed. warnings: what may be wrong with it. machine: machine and versions.
    """

    table: pd.DataFrame
    block_ratios: pd.DataFrame
    primary: str | None
    claim: ClaimBy
    method: Literal["blocks", "welch"]
    names: tuple[str, str]
    ended: dict[str, dict[str, int]]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    machine: tuple[str, ...]
    changed: str = ""

    def shown(self) -> Table:
        """Return the table as it is printed, with notes, warnings, machine and versions beneath."""
        import pandas as pd  # noqa: PLC0415 - slow to import, as in frames.py

        a, b = self.names
        counts = ["n"] if self.method == "blocks" else [f"n {a}", f"n {b}"]
        heads = ["", a, b, f"{b} / {a}", "interval", "level", "typical runs", "interval ", *counts, "finding"]
        texts = [self._texts(str(column), row) for column, row in self.table.iterrows()]
        sides = (
            f"{side}: {', '.join(f'{n} {what}' for what, n in found.items())}" for side, found in self.ended.items()
        )
        runs = f"Runs. {'; '.join(sides)}."
        what = (f"Compared: {self.changed}.",) if self.changed else ()
        beneath = (*what, *self.notes, runs, *(f"Warning: {warning}" for warning in self.warnings), *self.machine)
        return Table(self.table.reset_index(), pd.DataFrame(texts, columns=heads), beneath)

    def _texts(self, column: str, row: Any) -> list[str]:
        scale, unit = units_for_people(row["unit"], max(row["a"], row["b"]))
        label = (f"{column}, {unit}" if unit else column) + (" (primary)" if column == self.primary else "")
        ratio = [figure(row["ratio"]), _interval(row["low"], row["high"])]
        typical = [figure(row["typical"]), _interval(row["typical_low"], row["typical_high"])]
        level = f"{row['level']:.4g} %" if row["level"] > 0 else MISSING
        counts = [row["n"]] if self.method == "blocks" else [row["n_a"], row["n_b"]]
        means = [figure(row["a"], scale), figure(row["b"], scale)]
        finding = row["finding"]
        if row["differs"]:
            decides = row["typical"] if self.claim == "typical" and column == self.primary else row["ratio"]
            finding += f": {better_side(column, decides, self.names)} is better"
        return [label, *means, *ratio, level, *typical, *(f"{count:.0f}" for count in counts), finding]

    def to_markdown(self) -> str:
        """Return the table in Markdown, with everything beneath."""
        return self.shown().to_markdown()

    def to_latex(self) -> str:
        r"""Return a `table` for LaTeX with the package booktabs."""
        return self.shown().to_latex()

    def to_html(self) -> str:
        """Return a table of class `harmonia-table`, without script and style."""
        return self.shown().to_html()

    _repr_html_ = to_html

    def __str__(self) -> str:
        return str(self.shown())

    __repr__ = __str__


def _interval(low: float, high: float) -> str:
    return f"{figure(low)} to {figure(high)}" if low > 0 else MISSING


def compare(
    a: pd.DataFrame,
    b: pd.DataFrame,
    columns: Sequence[str] | None = None,
    *,
    primary: str | None = None,
    claim: ClaimBy = "mean",
    names: tuple[str, str] | None = None,
    warm_up: int = 0,
    level: float = 0.95,
    smallest_ratio: float = 1.1,
    seed: int = 0,
) -> Comparison:
    """Return B over A for each column, from two frames with columns of the run log (`lab.log.frame()`, a file, …).

    primary: the column that decides, named before the runs were made; it may use most of the error that `level` leaves.
    Without one all columns share it. claim: whether the ratio of geometric means of the primary column decides, or that
    of typical runs, which spikes don't move (from `MIN_BLOCKS_TYPICAL` blocks on). names: of the sides, for
    tables (default: the values of what differs, such as two decoders; A and B where nothing known does).
    warm_up: completed runs that are left out at the start of each side; those of a study, which have no block, are left
    out anyway. level: of the whole comparison: the probability that no column is claimed to differ that doesn't.
    smallest_ratio: the least ratio that matters, for the n that would tell. seed: of the flips drawn where there are
    more than 12 blocks; the same rows give the same intervals.

    Failed, cancelled and interrupted runs are counted but not compared. A column with values of zero or less on a side
    has no ratio. Where one side ran after the other, nothing is claimed, unless the runs of the sides are farther apart
    than those of either side among themselves: nothing else tells a difference from a change of the machine.

    Raises InvalidRequest for unknown columns, and for options out of range.
    """
    import pandas as pd  # noqa: PLC0415 - slow to import, as in frames.py

    _check(a, b, claim, level, smallest_ratio, warm_up)
    sides_are, changed = sides_named(a, b, names)
    frames = [work_frame(a), work_frame(b)]
    listed = columns_of(frames, columns)
    if primary is None and len(listed) == 1:
        primary = listed[0]
    if primary is not None:
        listed = columns_of(frames, [primary, *listed])
    elif claim == "typical":
        raise InvalidRequest("No column was named whose typical runs decide.", hint="Give primary=….")
    units = {name: unit_of(frames[0], name) for name in listed}
    for frame in frames:
        frame.attrs = {}  # pandas copies them at every step, which costs more than the arithmetic
    runs, ended = {}, {}
    for side, frame in zip(sides_are, frames, strict=True):
        runs[side], ended[side] = _measured(frame, warm_up)
    sides = sides_of(runs, listed)
    found = Findings(sides, ComparisonQuestion(primary is not None, claim, level, smallest_ratio, seed))
    rows = [{"column": name, "unit": units[name], **found.rows[name]} for name in listed]
    table = pd.DataFrame(rows, columns=_TABLE).set_index("column")
    warnings = tuple(_warnings(runs, sides, found.spreads))
    method: Literal["blocks", "welch"] = "blocks" if sides.in_blocks else "welch"
    machine = circumstances.machine_lines(runs.values())
    each = pd.DataFrame(np.exp(sides.differences()), columns=listed)
    return Comparison(
        table, each, primary, claim, method, sides_are, ended, tuple(found.notes), warnings, machine, changed
    )


def _warnings(runs: dict[str, pd.DataFrame], sides: Sides, spreads: dict[str, float]) -> list[str]:
    """Return what may be wrong: of the runs as they were made, and of the first column's values."""
    busy = circumstances.load(runs)
    found = [*circumstances.unlike(runs), *circumstances.both_sides(runs), *busy]
    if circumstances.one_after_the_other(*sides.times):
        found.append(
            "One side ran after the other: a change of the machine meanwhile can't be told from a difference, so only"
            " what is farther apart than anything within a side is claimed. `lab.study` draws the order."
        )
    if not sides.in_blocks:
        for side, frame in runs.items():
            if len(frame) < MIN_RUNS:
                found.append(f"{side} has {len(frame)} completed runs; below {MIN_RUNS} there are no intervals.")
    if not sides.columns:
        return found
    first = sides.columns[0]
    found += circumstances.processor_time_advice(first, spreads, shared=bool(busy))
    if sides.in_blocks:
        d = sides.differences()[:, 0]
        found += circumstances.order(sides.a_first, sides.names)
        found += circumstances.trend(d, sides.block_times, f"The ratio of {first}")
        high_b, high_a = circumstances.count_spikes(d[~np.isnan(d)])
    else:
        values = [logs[:, 0] for logs in sides.logs]
        centred = np.concatenate([side - np.nanmean(side) if (~np.isnan(side)).any() else side for side in values])
        found += circumstances.trend(centred, np.concatenate(sides.times), f"{first} within the sides")
        high_a, high_b = (circumstances.count_spikes(side[~np.isnan(side)])[0] for side in values)
    return found + circumstances.spikes(high_a, high_b, sides.names, first)


def _check(a: Any, b: Any, claim: str, level: float, smallest_ratio: float, warm_up: int) -> None:
    import pandas as pd  # noqa: PLC0415 - slow to import, as in frames.py

    if not (isinstance(a, pd.DataFrame) and isinstance(b, pd.DataFrame)):
        raise InvalidRequest("A side is no DataFrame.", hint="Give rows of `lab.log.frame()`, or of pandas.read_csv.")
    if claim not in get_args(ClaimBy):
        raise InvalidRequest(f"There is no claim {claim!r}.", hint='claim="mean" or claim="typical".')
    if not 0.5 <= level < 1:
        raise InvalidRequest(f"The level {level!r} isn't within 0.5 to 1.", hint="Most papers use 0.95.")
    if not smallest_ratio > 1:
        raise InvalidRequest(f"The smallest ratio {smallest_ratio!r} isn't above 1.", hint="1.1 is a tenth more.")
    if warm_up < 0:
        raise InvalidRequest(f"{warm_up} runs can't be left out.", hint="warm_up=1 leaves out the first run of a side.")


def _measured(frame: pd.DataFrame, warm_up: int) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the runs of a side that are compared, and how many ended how, warm-ups counted apart too."""
    ended = {"runs": len(frame)}
    if "status" in frame:
        ended = {str(status): int(n) for status, n in frame["status"].value_counts().items()}
    found = completed(frame)
    left_out = min(warm_up, len(found))
    found = found.iloc[warm_up:]
    if {"study", "block"} <= set(found.columns):
        warming = found["study"].notna() & found["block"].isna()
        left_out += int(warming.sum())
        found = found[~warming]
    return found, ended | ({"warm-up": left_out} if left_out else {})
