"""What may explain a ratio besides the thing that was changed: machine, versions, load, order, drift and spikes.

Owns the lines beneath a table (machine, versions) and the warnings of a comparison. They are warnings, no promises: a
quiet page is no proof of a fair comparison. `compare.py` decides what is claimed.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from harmonia_lab.analysis.intervals import Floats
from harmonia_lab.analysis.run_columns import numbers

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "EXPECTED_EQUAL", "beyond_all_seen", "both_sides", "count_spikes", "load", "machine_lines",
    "one_after_the_other", "order", "processor_time_advice", "spikes", "start_times", "trend", "unlike",
]  # fmt: skip

EXPECTED_EQUAL = (
    "host", "platform", "cpu", "cores", "memory_bytes", "gpu", "gpu_driver", "python", "torch", "version",
    "git_commit", "seconds_requested",
)  # fmt: skip
"""Columns that should be equal on both sides: where they differ, they may be the cause of the ratio."""

OTHERS_BUSY = 0.1
"""Share of the machine's processor time that other programs used, from which a machine counts as shared."""

Frames = Mapping[str, "pd.DataFrame"]


def start_times(frame: pd.DataFrame) -> Floats:
    """Return when each run began, seconds [rows]; NaN where that isn't known."""
    import pandas as pd  # noqa: PLC0415

    if "started_at" not in frame:
        return np.full(len(frame), np.nan)
    times = pd.to_datetime(frame["started_at"].astype("string"), utc=True, errors="coerce", format="ISO8601")
    seconds = (times - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    return np.asarray(seconds.to_numpy(np.float64, na_value=np.nan), np.float64)


def machine_lines(frames: Iterable[pd.DataFrame]) -> tuple[str, ...]:
    """Return machine and versions of all runs, for the foot of a table: two lines, or none if nothing is known."""
    frames = list(frames)
    memory = [f"{float(size) / 2**30:.3g} GiB" for size in _texts(frames, "memory_bytes")]
    cores = [f"{float(count):g} cores" for count in _texts(frames, "cores")]
    parts = [_texts(frames, "cpu"), cores, memory, _texts(frames, "gpu"), _texts(frames, "platform")]
    hosts = _texts(frames, "host")
    machine = ([f"{len(hosts)} hosts"] if len(hosts) > 1 else []) + [" or ".join(part) for part in parts if part]
    versions = [
        f"{label} {' and '.join(found)}"
        for label, column in (
            ("Harmonia Lab", "version"), ("commit", "git_commit"), ("Python", "python"), ("torch", "torch"),
            ("GPU driver", "gpu_driver"),
        )
        if (found := _texts(frames, column))
    ]  # fmt: skip
    lines = [("Machine", machine), ("Versions", versions)]
    return tuple(f"{label}: {', '.join(parts)}." for label, parts in lines if parts)


def unlike(frames: Frames) -> list[str]:
    """Say which circumstances differ between the sides: in their values, or in half of the runs."""
    found = []
    for name in EXPECTED_EQUAL:
        if not all(name in frame and len(frame) for frame in frames.values()):
            continue
        counts = [Counter(value or "none" for value in _values(frame, name)) for frame in frames.values()]
        one, other = ({value: n / side.total() for value, n in side.items()} for side in counts)
        apart = sum(abs(one.get(value, 0) - other.get(value, 0)) for value in one.keys() | other.keys()) / 2
        if one.keys() != other.keys() or apart >= 0.5:
            sides = "; ".join(f"{side} {_shares(values)}" for side, values in zip(frames, (one, other), strict=True))
            found.append(f"{name} differs: {sides}.")
    return found


def both_sides(frames: Frames) -> list[str]:
    """Say how many runs stand on both sides."""
    ids = [set(frame["run_id"].dropna().astype(str)) for frame in frames.values() if "run_id" in frame]
    shared = len(ids[0] & ids[1]) if len(ids) == 2 else 0
    return [f"{shared} runs stand on both sides: they are compared with themselves."] if shared else []


def load(frames: Frames) -> list[str]:
    """Say whether other programs used the machine meanwhile, where the log has that."""
    found = []
    shares = {side: _median(numbers(frame, "others_cpu_share")) for side, frame in frames.items()}
    if max(shares.values()) >= OTHERS_BUSY:
        said = ", ".join(f"{side} {share:.0%}" for side, share in shares.items())
        found.append(f"Other programs used the machine's processors meanwhile (median: {said}).")
    if min(shares.values()) >= 0 and max(shares.values()) - min(shares.values()) >= OTHERS_BUSY:
        found.append("One side ran beside more of other programs' work than the other.")
    if max(shares.values()) < 0:  # a system that doesn't tell: the load average does, though our own song is in it
        waiting = {side: _median(numbers(f, "load_1m") / numbers(f, "cores")) for side, f in frames.items()}
        if max(waiting.values()) > 1:
            said = ", ".join(f"{side} {ratio:.1f}" for side, ratio in waiting.items())
            found.append(f"More programs ran than the machine has cores (median load by core: {said}).")
    for column, limit, what in (
        ("cpu_steal_s", 0.02, "The hypervisor took processor time away"),
        ("cpu_pressure_share", 0.25, "Programs waited for a processor"),
    ):
        medians = {}
        for side, frame in frames.items():
            over = numbers(frame, "total_s") * numbers(frame, "cores") if column.endswith("_s") else 1.0
            medians[side] = _median(numbers(frame, column) / over)
        if max(medians.values()) >= limit:
            said = ", ".join(f"{side} {share:.0%} of the time" for side, share in medians.items())
            found.append(f"{what} (median: {said}).")
    return found


def processor_time_advice(primary: str, spreads: Mapping[str, float], *, shared: bool) -> list[str]:
    """Advise a column of processor time where one would tell more than the wall time that was named.

    spreads: column → standard deviation of its logarithms, of the blocks' differences or of runs.
    """
    if "cpu" in primary or not primary.endswith("_s"):
        return []
    steadier = [name for name in spreads if "cpu" in name and spreads[name] * 2 < spreads.get(primary, 0)]
    if steadier:
        name = min(steadier, key=lambda name: spreads[name])
        said = f"{primary} varies by {spreads[primary]:.2f} (of logarithms), {name} by {spreads[name]:.2f}:"
        return [f"{said} on a shared machine, name {name} as primary column of the next study."]
    if shared:
        return [f"{primary} is wall time on a shared machine: name a column of processor time, such as cpu_s, instead."]
    return []


def one_after_the_other(times_a: Floats, times_b: Floats) -> bool:
    """Return whether one side ran before the other: in nine of ten pairs of a run of A and a run of B."""
    a, b = times_a[~np.isnan(times_a)], times_b[~np.isnan(times_b)]
    if not (len(a) and len(b)):
        return False
    earlier = float((a[:, None] < b).mean())
    return earlier >= 0.9 or earlier <= 0.1


def beyond_all_seen(a: Floats, b: Floats) -> bool:
    """Return whether the nearest runs of both sides are farther apart than the runs of either side among themselves."""
    gap = max(b.min() - a.max(), a.min() - b.max())
    return bool(gap > max(np.ptp(a), np.ptp(b)) and gap > 1e-9)


def order(first: Sequence[bool], names: Sequence[str]) -> list[str]:
    """Say whether the order in the blocks looks fixed. first: whether A began, block after block in time."""
    if len(first) < 5:
        return []
    if len(set(first)) == 1:
        one, other = names if first[0] else reversed(names)
        return [f"{one} ran before {other} in every block: the order was not drawn, so drift counts as difference."]
    if all(one != other for one, other in itertools.pairwise(first)):
        return ["The order in the blocks alternates: it was not drawn, so that drift spoils the intervals."]
    return []


def trend(values: Floats, times: Floats, what: str) -> list[str]:
    """Say whether values [n] rise or fall with time (Spearman's rank correlation, p < 0.01)."""
    known = ~(np.isnan(values) | np.isnan(times))
    values, times = values[known], times[known]
    if len(values) < 8 or np.ptp(values) < 1e-9 or np.ptp(times) == 0:
        return []
    correlation = float(np.corrcoef(_ranks(values), _ranks(times))[0, 1])
    if abs(correlation) * math.sqrt(len(values) - 1) < 2.58:
        return []
    return [f"{what} {'rises' if correlation > 0 else 'falls'} with time (rank correlation {correlation:.2f})."]


def spikes(high_a: int, high_b: int, names: Sequence[str], column: str) -> list[str]:
    """Say whether one side alone has runs far above its others."""
    if (high_a > 0) == (high_b > 0):
        return []
    side, other = names if high_a else reversed(names)
    said = f"{side} has {max(high_a, high_b)} runs with a {column} far above its others, {other} has none."
    return [f"{said} No interval can tell a rare event of one side: look at typical runs, and make more runs."]


def count_spikes(logs: Floats) -> tuple[int, int]:
    """Return how many values [n] lie far above and far below the median: 1.5 × and five times the usual distance."""
    if len(logs) < 5:
        return 0, 0
    off = logs - np.median(logs)
    far = max(math.log(1.5), 5 * 1.4826 * float(np.median(np.abs(off))))
    return int((off > far).sum()), int((off < -far).sum())


def _ranks(values: Floats) -> Floats:
    """Return ranks [n]; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def _median(values: Floats) -> float:
    """Return the median of what is known, or −1."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else -1.0


def _texts(frames: Iterable[pd.DataFrame], column: str) -> list[str]:
    """Return the different values of a column as text, in the order in which they come."""
    return list(
        dict.fromkeys(value for frame in frames if column in frame for value in _values(frame, column) if value)
    )


def _values(frame: pd.DataFrame, column: str) -> list[str]:
    """Return a column as text [rows], "" where it is missing. A count that a file gave as 8.0 is 8."""
    found = zip(frame[column].tolist(), frame[column].isna().tolist(), strict=True)
    return ["" if missing else str(int(v) if isinstance(v, float) and v.is_integer() else v) for v, missing in found]


def _shares(shares: Mapping[str, float]) -> str:
    values = sorted(shares)
    if len(values) == 1:
        return values[0]
    return ", ".join(f"{value} ({shares[value]:.0%})" for value in values)
