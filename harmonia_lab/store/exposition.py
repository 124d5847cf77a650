"""Counts, histograms and their form in Prometheus's text format 0.0.4.

Owns `MetricFamily` (one metric with its samples) and its text. `metrics.py` owns what is counted.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

__all__ = ["CONTENT_TYPE", "Histogram", "MetricFamily", "Sample", "counts", "gauge", "label", "text_of"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

OTHER = "other"
"""Stands for a value that is no label: anybody could make new ones for ever."""

_LABEL = re.compile(r"[A-Za-z0-9_.:/{}-]{1,60}\Z")
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Labels = tuple[tuple[str, str], ...]


class Sample(NamedTuple):
    """suffix: what follows the family's name, such as "_bucket". labels: names and values."""

    suffix: str
    labels: Labels
    value: float


class MetricFamily(NamedTuple):
    """A metric. name: without the prefix "harmonia_". A family without samples has its head alone."""

    name: str
    kind: Literal["counter", "gauge", "histogram", "summary"]
    meaning: str
    samples: Sequence[Sample]


class Histogram:
    """bounds: upper bounds of the buckets, rising. total: the sum of all values."""

    __slots__ = ("bounds", "counted", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counted = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float, copies: int = 1) -> None:
        """Count `value`, `copies` times at once."""
        self.counted[bisect.bisect_left(self.bounds, value)] += copies
        self.total += copies * max(0.0, value)

    @property
    def count(self) -> int:
        return sum(self.counted)

    def samples(self, labels: Labels = ()) -> list[Sample]:
        bounds = [*map(str, self.bounds), "+Inf"]
        buckets = zip(bounds, itertools.accumulate(self.counted), strict=True)
        return [
            *(Sample("_bucket", (*labels, ("le", bound)), count) for bound, count in buckets),
            Sample("_sum", labels, self.total),
            Sample("_count", labels, self.count),
        ]


def counts(name: str, meaning: str, labels: Sequence[str], values: Mapping[tuple[str, ...], int]) -> MetricFamily:
    """Return a family of counters. values: by the values of `labels`."""
    samples = [Sample("", tuple(zip(labels, key, strict=True)), value) for key, value in values.items()]
    return MetricFamily(name, "counter", meaning, samples)


def gauge(name: str, meaning: str, value: float | None) -> MetricFamily:
    """Return a gauge; None for one that can't be measured now."""
    return MetricFamily(name, "gauge", meaning, [] if value is None else [Sample("", (), value)])


def label(value: object) -> str:
    """Return `value` as a label's value: it, if it is a short word, else "other"."""
    return value if isinstance(value, str) and _LABEL.match(value) else OTHER


def text_of(families: Iterable[MetricFamily]) -> str:
    """Return the families as Prometheus reads them."""
    lines = []
    for name, kind, meaning, samples in families:
        lines += [f"# HELP harmonia_{name} {meaning}", f"# TYPE harmonia_{name} {kind}"]
        lines += [f"harmonia_{name}{each.suffix}{_labels(each.labels)} {each.value}" for each in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels) + "}"
