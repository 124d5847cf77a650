"""Two runs of one study: which songs and which ratios came out the same, and what differed around them.

Owns `Reproduction` and `again.json`. A song is the same if the bytes of its sound are. A ratio came out the same if the
two intervals overlap: that is weak evidence, and two wide intervals overlap easily, so both are shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.storage import write_bytes
from harmonia_lab.study.folder import StudyFolder, differences
from harmonia_lab.study.result import StudyResult

if TYPE_CHECKING:
    from harmonia_lab.analysis.compare import Comparison

__all__ = ["RatioAgain", "Reproduction", "reproduction"]

_MACHINE = ("platform", "cpu", "cores", "memory_bytes", "gpu", "gpu_driver", "python", "torch", "version", "git_commit")


@dataclass(frozen=True)
class RatioAgain:
    """One column's ratio B/A in both studies. overlap: whether the intervals do; None where one is missing."""

    a: str
    b: str
    column: str
    before: tuple[float | None, float | None, float | None]
    now: tuple[float | None, float | None, float | None]
    overlap: bool | None

    def __str__(self) -> str:
        verdict = {True: "the intervals overlap", False: "DIFFERENT", None: "no interval on one side"}[self.overlap]
        return f"{self.column}, {self.b} over {self.a}: {_interval(self.before)}, now {_interval(self.now)}: {verdict}"


@dataclass(frozen=True)
class Reproduction:
    """before, now: ids of the studies. same_songs: how many have equal bytes. other_songs: block and configuration of
    those that have not. missing_songs: how many one of the studies lacks. around: what differs in versions and machine.
    """

    before: str
    now: str
    same_songs: int
    other_songs: list[tuple[int, str]]
    missing_songs: int
    ratios: list[RatioAgain]
    around: list[str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def write(self, folder: StudyFolder) -> None:
        """Write `again.json`. Raises StorageError."""
        text = json.dumps(self.to_json(), ensure_ascii=False, indent=1) + "\n"
        write_bytes(folder.path / "again.json", text.encode())

    def lines(self) -> list[str]:
        """Return the findings as sentences."""
        compared = self.same_songs + len(self.other_songs)
        some = ", ".join(f"{block} {name}" for block, name in self.other_songs[:6])
        others = f" Not the same, by block: {some}{' …' if len(self.other_songs) > 6 else ''}." if some else ""
        missing = f" {self.missing_songs} are missing on a side." if self.missing_songs else ""
        overlapping = sum(ratio.overlap is True for ratio in self.ratios)
        known = sum(ratio.overlap is not None for ratio in self.ratios)
        return [
            f"Songs: {self.same_songs} of {compared} have the same bytes.{others}{missing}",
            f"Ratios: the intervals of {overlapping} of {known} overlap.",
            *(f"  {ratio}" for ratio in self.ratios),
            *(["Around them, this differs:", *(f"  {line}" for line in self.around)] if self.around else
              ["Packages, code and machine are the same, as far as they are recorded."]),
        ]  # fmt: skip

    def __str__(self) -> str:
        return "\n".join([f"{self.now} repeats {self.before}.", *self.lines()])

    __repr__ = __str__


def reproduction(before: StudyResult, now: StudyResult) -> Reproduction:
    """Compare two studies of one design. Raises InvalidRequest if their blocks or configurations differ."""
    parts = [(before.record.configurations, now.record.configurations), (before.primary, now.primary)]
    asked = [[(b.number, b.seed, b.seconds, sorted(b.order)) for b in report.record.blocks] for report in (before, now)]
    if any(old != new for old, new in parts) or asked[0] != asked[1]:
        raise InvalidRequest(
            f"{now.record.id} does not repeat {before.record.id}: their blocks, configurations or primary columns"
            " differ.",
            hint="`harmonia study --again DIR` repeats a study.",
        )
    songs = [_checksums(report) for report in (before, now)]
    both = songs[0].keys() & songs[1].keys()
    others = sorted(key for key in both if songs[0][key] != songs[1][key])
    pairs = zip(before.comparisons(), now.comparisons(), strict=True)
    return Reproduction(
        before.record.id,
        now.record.id,
        len(both) - len(others),
        others,
        len(songs[0].keys() ^ songs[1].keys()),
        [ratio for old, new in pairs for ratio in _ratios(old, new)],
        _around(before, now),
    )


def _checksums(report: StudyResult) -> dict[tuple[int, str], str]:
    return {
        (row["block"], row["configuration"]): row["checksum"]
        for row in report.folder.rows().rows()
        if row["status"] == "completed" and row["block"] is not None
    }


def _ratios(old: Comparison, new: Comparison) -> list[RatioAgain]:
    a, b = old.names
    found = []
    for column in (name for name in old.table.index if name in new.table.index):
        before, now = (_numbers(each.table.loc[column]) for each in (old, new))
        limits = (*before[1:], *now[1:])
        overlap = None if None in limits else bool(before[1] <= now[2] and now[1] <= before[2])  # type: ignore[operator]
        found.append(RatioAgain(a, b, str(column), before, now, overlap))
    return found


def _numbers(row: Mapping[str, Any]) -> tuple[float | None, float | None, float | None]:
    import pandas as pd  # noqa: PLC0415 - takes a third of a second

    ratio, low, high = (None if pd.isna(row[name]) else float(row[name]) for name in ("ratio", "low", "high"))
    return ratio, low, high


def _around(before: StudyResult, now: StudyResult) -> list[str]:
    """Return what differs between the two in engines, packages and machine, as lines."""
    sessions = [report.folder.packages() for report in (before, now)]
    facts = [_facts(report.folder.rows().rows()) for report in (before, now)]
    return [
        *differences(before.record.engines, now.record.engines),
        *(differences(sessions[0][-1], sessions[1][-1]) if all(sessions) else []),
        *differences(facts[0], facts[1]),
    ]


def _facts(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the machine and code versions of the rows; more than one value stands with commas."""
    found = {name: sorted({str(row[name]) for row in rows if row.get(name) is not None}) for name in _MACHINE}
    return {name: ", ".join(values) or "none" for name, values in found.items()}


def _interval(numbers: tuple[float | None, float | None, float | None]) -> str:
    ratio, low, high = ("–" if number is None else f"{number:.3f}" for number in numbers)
    return f"{ratio} ({low} to {high})"
