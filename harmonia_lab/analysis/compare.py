"""Is B slower than A, and by how much? Ratios of two sets of run log rows, with confidence intervals.

Owns the statistics. The researcher chooses which rows are A and which are B; `store/run_log.py` explains the columns.

The ratio is that of geometric means, because a machine's noise scales with the duration. The interval is a
studentised bootstrap ("bootstrap-t": Efron & Tibshirani, An Introduction to the Bootstrap, 1993, section 12.5) over the
difference of mean logarithms. At n = 10 (3,000 trials each of normal, lognormal and exponential noise, and of noise
with rare spikes) it covered 94.2 to 95.4 % of the time at 95 %. The percentile bootstrap covered 86 to 93 %; the
studentised one over plain means 92 to 95 %; Welch's t over logarithms did as well, save for spikes (98 to 99 %).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harmonia_lab.analysis.frames import work_frame
from harmonia_lab.errors import InvalidRequest

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DEFAULT_COLUMNS", "EXPECTED_EQUAL", "MIN_RUNS", "Comparison", "compare", "ratio_interval"]

MIN_RUNS = 5
"""Fewest runs on each side for an interval: fewer have too few different resamples."""

DEFAULT_COLUMNS = (
    "total_work_s", "metadata_work_s", "tokens_per_second", "audio_work_s", "audio_work_real_time_factor", "plan_s",
    "render_s", "mix_s", "write_s", "steps_per_second", "audio_cpu_s", "cpu_s", "time_to_first_token_s",
    "time_to_first_audio_s", "metadata_load_s", "audio_load_s", "metadata_rss_peak_bytes", "audio_rss_peak_bytes",
    "metadata_gpu_allocated_peak_bytes", "audio_gpu_allocated_peak_bytes", "metadata_gpu_used_peak_bytes",
    "audio_gpu_used_peak_bytes",
)  # fmt: skip
"""Columns compared by default: work without loading first, then loading and memory."""

EXPECTED_EQUAL = (
    "host", "platform", "cpu", "cores", "memory_bytes", "gpu", "gpu_driver", "python", "torch", "version",
    "git_commit", "seconds_requested",
)  # fmt: skip
"""Columns that should be equal on both sides: where they differ, they may be the cause of the ratio."""


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`. table: one row for each column. ended: side → runs by status. warnings: sentences."""

    table: pd.DataFrame
    ended: dict[str, dict[str, int]]
    warnings: tuple[str, ...]

    def _notes(self) -> list[str]:
        sides = (
            f"{side}: {', '.join(f'{n} {what}' for what, n in found.items())}" for side, found in self.ended.items()
        )
        return [f"Runs. {'; '.join(sides)}.", *(f"Warning: {warning}" for warning in self.warnings)]

    def __str__(self) -> str:
        return "\n".join([self.table.to_string(float_format="{:.4g}".format, na_rep="–"), "", *self._notes()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        import html  # noqa: PLC0415 - only notebooks need it

        table = self.table.to_html(float_format="{:.4g}".format, na_rep="–")
        return table + "".join(f"<p>{html.escape(note)}</p>" for note in self._notes())


def compare(
    a: pd.DataFrame,
    b: pd.DataFrame,
    columns: tuple[str, ...] | list[str] | None = None,
    *,
    warm_up: int = 0,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Return B over A for each column, from frames of the run log (`lab.log.frame()`, or parts of it).

    Failed and cancelled runs are counted but not compared. warm_up: completed runs that are left out at the start of
    each side. level: confidence level of the intervals. seed: of the resampling; the same rows give the same intervals.

    The table has for each column its unit, the geometric means of A and B, ratio (B/A), low and high (the interval;
    missing below `MIN_RUNS` runs a side), n_a, n_b, and differs: whether the interval excludes 1. Runs are assumed
    independent. A column with values of zero or less on a side has no ratio.

    Raises InvalidRequest for an unknown column.
    """
    import pandas as pd  # noqa: PLC0415 - takes a third of a second

    sides = {"A": work_frame(a), "B": work_frame(b)}
    asked = (
        columns
        if columns is not None
        else [name for name in DEFAULT_COLUMNS if name in sides["A"] and name in sides["B"]]
    )
    unknown = [name for name in asked if name not in sides["A"] or name not in sides["B"]]
    if unknown:
        raise InvalidRequest(f"There is no column {unknown[0]!r} in both.", hint="See `frame.columns`.")
    completed = {side: frame[frame["status"] == "completed"].iloc[warm_up:] for side, frame in sides.items()}
    units: dict[str, str] = sides["A"].attrs.get("units", {})
    rows = []
    for name in asked:
        values_a, values_b = (frame[name].dropna().to_numpy(np.float64) for frame in completed.values())
        if columns is None and not (len(values_a) or len(values_b)):
            continue
        rows.append({"column": name, "unit": units.get(name, ""), **_ratio(values_a, values_b, level, seed)})
    table = pd.DataFrame(rows, columns=["column", "unit", "a", "b", "ratio", "low", "high", "n_a", "n_b", "differs"])
    ended = {
        side: {str(status): int(n) for status, n in frame["status"].value_counts().items()}
        | ({"warm-up": min(warm_up, int((frame["status"] == "completed").sum()))} if warm_up else {})
        for side, frame in sides.items()
    }
    return Comparison(table.set_index("column"), ended, tuple(_warnings(completed["A"], completed["B"])))


def ratio_interval(
    a: ArrayLike, b: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the confidence interval for the ratio of geometric means, B over A: (low, high), each [...].

    a: [..., n], b: [..., m], all positive; leading dimensions are separate comparisons.
    """
    logs_a, logs_b = np.log(np.asarray(a, np.float64)), np.log(np.asarray(b, np.float64))
    random = np.random.default_rng(seed)
    again_a = logs_a[..., random.integers(logs_a.shape[-1], size=(resamples, logs_a.shape[-1]))]
    again_b = logs_b[..., random.integers(logs_b.shape[-1], size=(resamples, logs_b.shape[-1]))]
    difference, error = _difference(logs_a, logs_b)
    differences, errors = _difference(again_a, again_b)  # [..., resamples]
    off = differences - difference[..., None]
    # A resample of equal values has a standard error of 0: its studentised deviation is ±∞, or 0 if it deviates by 0.
    studentised = np.divide(
        off, errors, out=np.where(np.abs(off) < 1e-12, 0.0, np.copysign(np.inf, off)), where=errors > 0
    )
    tail = (1 - level) / 2
    lowest, highest = np.quantile(studentised, [tail, 1 - tail], axis=-1, method="inverted_cdf")
    # Where all runs are equal the interval is a point; the product 0 × ∞ would be NaN.
    with np.errstate(invalid="ignore"):
        low = np.where(error > 0, difference - highest * error, difference)
        high = np.where(error > 0, difference - lowest * error, difference)
    with np.errstate(over="ignore"):
        return np.exp(low), np.exp(high)


def _difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the difference of the means over the last dimension, B less A, and its standard error."""
    variance = a.var(axis=-1, ddof=1) / a.shape[-1] + b.var(axis=-1, ddof=1) / b.shape[-1]
    # Rounding gives equal values a variance slightly above 0.
    return b.mean(axis=-1) - a.mean(axis=-1), np.sqrt(np.where(variance > 1e-24, variance, 0.0))


def _ratio(a: NDArray[np.float64], b: NDArray[np.float64], level: float, seed: int) -> dict[str, Any]:
    found: dict[str, Any] = {"n_a": len(a), "n_b": len(b), "differs": False}
    means = {side: float(np.exp(np.log(v).mean())) for side, v in (("a", a), ("b", b)) if len(v) and v.min() > 0}
    found |= means
    if len(means) == 2:
        found["ratio"] = means["b"] / means["a"]
        if min(len(a), len(b)) >= MIN_RUNS:
            low, high = ratio_interval(a, b, level=level, seed=seed)
            found |= {"low": float(low), "high": float(high), "differs": bool(low > 1 or high < 1)}
    return found


def _warnings(a: pd.DataFrame, b: pd.DataFrame) -> list[str]:
    found = []
    for name in EXPECTED_EQUAL:
        if name not in a or name not in b:
            continue
        left, right = (sorted(frame[name].astype("string").fillna("none").unique()) for frame in (a, b))
        if len({*left, *right}) > 1:
            found.append(f"{name} differs: A {', '.join(left) or 'none'}; B {', '.join(right) or 'none'}.")
    for side, frame in (("A", a), ("B", b)):
        if len(frame) < MIN_RUNS:
            found.append(f"{side} has {len(frame)} completed runs; below {MIN_RUNS} there are no intervals.")
    return found
