"""What a study found: its rows, its comparisons, and what is missing of it.

Owns `StudyResult`, which reads a study's folder, whoever made it. The statistics are in `analysis/compare.py`.
`report.py` adds the page and the comparison with another run of the study.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harmonia_lab.errors import HarmoniaError, InvalidRequest
from harmonia_lab.study.folder import StudyFolder, differences

if TYPE_CHECKING:
    import pandas as pd

    from harmonia_lab.analysis.compare import Comparison
    from harmonia_lab.analysis.tables import Table

__all__ = ["MissingSong", "StudyResult"]

LEVEL = 0.95
"""Of all comparisons of a study together: each of m comparisons has 1 − 0.05/m (Bonferroni)."""


class MissingSong(NamedTuple):
    """A song that the last session could not make, and why."""

    block: int
    configuration: str
    error: HarmoniaError


class StudyResult:
    """A study as its folder has it now. missing: songs that could not be made, where that is known."""

    def __init__(self, folder: Path | str, missing: Sequence[MissingSong] = ()) -> None:
        """Raises HarmoniaError (NOT_FOUND) if the folder holds no study."""
        self.folder = StudyFolder(folder)
        self.record = self.folder.record()
        self.missing = tuple(missing)

    @property
    def configurations(self) -> list[str]:
        """The names, in the design's order. The others are compared with the first one."""
        return self.record.configurations

    @property
    def primary(self) -> str:
        return str(self.record.design["primary"])

    def frame(self, *, warm_up: bool = False) -> pd.DataFrame:
        """Return the rows of the run log, oldest first, failed runs included. warm_up: with the warm-ups."""
        frame = self.folder.rows().frame(purposes=None)
        return frame if warm_up else frame[frame["block"].notna()]

    def frame_by_configuration(self) -> pd.DataFrame:
        """Return the rows of `frame()`, those of the first configuration first."""
        order = self.configurations.index
        return self.frame().sort_values("configuration", key=lambda names: names.map(order), kind="stable")

    def incomplete(self) -> dict[int, list[str]]:
        """Return block → configurations that have no song in it yet."""
        done = {
            (row["block"], row["configuration"]) for row in self.folder.rows().rows() if row["status"] == "completed"
        }
        waiting = {
            block.number: [name for name in block.order if (block.number, name) not in done]
            for block in self.record.blocks
        }
        return {block: names for block, names in waiting.items() if names}

    def compare(self, a: str | None = None, b: str | None = None, columns: Sequence[str] | None = None) -> Comparison:
        """Return B over A, block by block. a: the first configuration; b: the second one. columns: None for those of
        `analysis.compare.DEFAULT_COLUMNS`, and the primary one.

        Raises InvalidRequest for an unknown name.
        """
        return self._compared(self.frame(), a or self.configurations[0], b or self.configurations[1], columns)

    def comparisons(self) -> list[Comparison]:
        """Return every other configuration over the first."""
        frame, first, *others = self.frame(), *self.configurations
        return [self._compared(frame, first, other, None) for other in others]

    def _compared(self, frame: pd.DataFrame, a: str, b: str, columns: Sequence[str] | None) -> Comparison:
        from harmonia_lab.analysis.compare import compare  # noqa: PLC0415 - takes half a second

        for name in (a, b):
            if name not in self.configurations:
                raise InvalidRequest(
                    f"The study has no configuration {name!r}.", hint=f"It has {', '.join(self.configurations)}."
                )
        design = self.record.design
        comparison = compare(
            frame[frame["configuration"] == a],
            frame[frame["configuration"] == b],
            columns,
            primary=self.primary,
            claim=design["claim"],
            names=(a, b),
            level=1 - (1 - LEVEL) / (len(self.configurations) - 1),
            smallest_ratio=design["smallest_ratio"],
        )
        others, notes = len(self.configurations) - 1, comparison.notes
        if others > 1:
            notes = (*notes, f"{others} comparisons share the 5 % of false claims that the study may make.")
        warnings = (*comparison.warnings, *self._warnings(frame, a, b))
        return dataclasses.replace(comparison, notes=notes, warnings=warnings)

    def _warnings(self, frame: pd.DataFrame, a: str, b: str) -> list[str]:
        found = []
        lacking = [block for block, names in self.incomplete().items() if {a, b} & set(names)]
        if lacking:
            found.append(f"Left out for lack of a side, of {len(self.record.blocks)} blocks: {_some(lacking)}.")
        if parted := _parted(frame):
            found.append(f"Made in two sessions, which is as fair but has more noise: blocks {_some(parted)}.")
        sessions = self.folder.packages()
        for number, (before, now) in enumerate(pairwise(sessions), 2):
            changes = differences(before, now)
            found.append(f"Packages changed between two sessions (requirements-{number}.txt): {_some(changes)}.")
        return found

    def summary(self) -> Table:
        """Return n, means and spread of each configuration."""
        from harmonia_lab.analysis.tables import summary  # noqa: PLC0415 - as above

        return summary(self.frame(), [self.primary], by="configuration")

    def to_json(self, comparisons: Sequence[Comparison] | None = None) -> dict[str, Any]:
        """Return plain JSON values: what was made, what is missing, and each comparison's table. comparisons: if they
        are known already."""
        incomplete = self.incomplete()
        songs = sum(len(block.order) for block in self.record.blocks)
        return {
            "study": self.record.id,
            "out": str(self.folder.path),
            "blocks": len(self.record.blocks),
            "songs": songs - sum(map(len, incomplete.values())),
            "waiting": sum(map(len, incomplete.values())),
            "errors": [
                {"block": block, "configuration": name, "code": error.code, "message": error.message}
                for block, name, error in self.missing
            ],
            "primary": self.primary,
            "comparisons": [_plain(comparison) for comparison in comparisons or self.comparisons()],
        }

    def __str__(self) -> str:
        lines = [f"{self.record.id}: {len(self.record.blocks)} blocks of {', '.join(self.configurations)}."]
        for comparison in self.comparisons():
            lines += ["", str(comparison)]
        return "\n".join([*lines, *(f"Block {m.block}, {m.configuration}: [{m.error.code}] {m.error.message}"
                                    for m in self.missing)])  # fmt: skip

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "".join(comparison.to_html() for comparison in self.comparisons())


def _plain(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON values, without those that are missing."""
    import pandas as pd  # noqa: PLC0415 - takes a third of a second

    rows = comparison.table.reset_index().to_dict("records")
    return {
        "a": comparison.names[0],
        "b": comparison.names[1],
        "columns": [{name: _scalar(value) for name, value in row.items() if not pd.isna(value)} for row in rows],
        "warnings": list(comparison.warnings),
        "notes": list(comparison.notes),
    }


def _scalar(value: Any) -> Any:
    """Return numpy's scalar as Python's."""
    return value.item() if hasattr(value, "item") else value


def _parted(frame: pd.DataFrame) -> list[int]:
    """Return the blocks whose songs don't follow each other in the log: another block's or a warm-up stand between.

    frame: rows with the index of the whole log, so that warm-ups that were left out show as gaps.
    """
    places = frame.reset_index().groupby("block")["index"].agg(["min", "max", "count"])
    return [int(block) for block in places.index[places["max"] - places["min"] >= places["count"]]]


def _some(found: Sequence[Any]) -> str:
    shown = ", ".join(map(str, found[:8]))
    return f"{shown} and {len(found) - 8} more" if len(found) > 8 else shown
