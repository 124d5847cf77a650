"""Runs as points of an interactive chart: their values, what is said of each, and where its song is.

Owns these values, which `player/runs.js` draws; `charts.py` draws the same as pictures. Songs are read when somebody
asks for them: each takes a twentieth of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonia_lab.analysis.chart_names import MOST_GROUPS, groups_of
from harmonia_lab.analysis.frames import work_frame
from harmonia_lab.analysis.run_columns import completed, numbers, unit_of
from harmonia_lab.analysis.tables import columns_of, units_for_people
from harmonia_lab.player.song import PlayerSong, song_in_folder

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RunPoints", "run_points"]

DIGITS = 5
"""Of a value: a page shows four."""

NOT_KEPT = "The song of this run was not kept."


@dataclass(frozen=True)
class RunPoints:
    """values: JSON as `player/runs.js` takes it, without its songs. folders: of the songs, by their number there."""

    values: dict[str, Any]
    folders: list[Path]

    def song(self, number: int) -> PlayerSong:
        """Return a song as the player takes it: without stems, and named after its run.

        Raises HarmoniaError: NOT_FOUND if its folder is gone, RECORD_DAMAGED.
        """
        run = next(run for run in self.values["runs"] if run["song"] == number)
        song = song_in_folder(self.folders[number])
        return song | {
            "title": f"{self.values['groups'][run['group']]}: {song['title']}",
            "facts": run["label"],
            "stems": [],
        }


def run_points(
    frame: pd.DataFrame, column: str | None = None, by: str = "audio_engine", folder: Path | None = None
) -> RunPoints:
    """Return the completed runs as points.

    column: shown first; None: the first that has numbers. The others of `tables.DEFAULT_COLUMNS` can be chosen. by: the
    column that makes the groups. folder: what the songs' folders are relative to, in a study's rows.

    Raises InvalidRequest for an unknown column.
    """
    runs = work_frame(completed(frame)).reset_index(drop=True)
    first = [] if column is None else columns_of([runs], [column])
    columns = list(dict.fromkeys([*first, *columns_of([runs], None)]))
    groups = groups_of(runs, by)
    shown, folders, points = groups[:MOST_GROUPS], list[Path](), list[dict[str, Any]]()
    scales, named = {}, []
    for name in columns:
        values = numbers(runs, name)
        typical = float(np.nanmedian(values)) if not np.isnan(values).all() else 0.0
        scales[name], unit = units_for_people(unit_of(runs, name), typical)
        named.append({"name": name, "unit": unit})
    for number, (_, group) in enumerate(shown):
        found = {name: numbers(group, name) * scales[name] for name in columns}
        for place, (_, row) in enumerate(group.iterrows()):
            here = _folder(row.get("directory"), folder)
            if here is not None:
                folders.append(here)
            points.append({
                "group": number,
                "block": _block(row),
                "label": _label(row, by),
                "values": [_rounded(found[name][place]) for name in columns],
                "song": None if here is None else len(folders) - 1,
                "why": NOT_KEPT if here is None else "",
            })  # fmt: skip
    note = f"{len(groups) - MOST_GROUPS} more groups are not drawn: choose fewer." if len(groups) > MOST_GROUPS else ""
    names = [name.replace(r"\$", "$") for name, _ in shown]  # escaped for matplotlib
    return RunPoints({"columns": named, "groups": names, "runs": points, "songs": [], "note": note}, folders)


def _folder(directory: Any, base: Path | None) -> Path | None:
    """Return a song's folder; None where there is none any more."""
    import pandas as pd  # noqa: PLC0415 - slow to import, as in frames.py

    if directory is None or pd.isna(directory):
        return None
    found = Path(base or "") / str(directory)
    return found if (found / "song.flac").is_file() else None


def _block(row: pd.Series[Any]) -> str | None:
    """Return a name of the run's block that no other study has."""
    known = _known(row, "block")
    return None if known is None else f"{_known(row, 'study') or ''} {known:g}".strip()


def _label(row: pd.Series[Any], by: str) -> str:
    """Return what is said of a run beside its group and its value."""
    parts: Sequence[tuple[str, str]] = (
        ("block", "block {:g}"), ("seed", "seed {:.0f}"), ("seconds_requested", "{:g} s"), ("audio_engine", "{}"),
        ("audio_model", "{}"), ("started_at", "{:.16}"),
    )  # fmt: skip
    told = [text.format(value) for name, text in parts if name != by and (value := _known(row, name)) is not None]
    return " · ".join(told)


def _known(row: pd.Series[Any], name: str) -> Any:
    """Return a row's value; None where it is missing."""
    import pandas as pd  # noqa: PLC0415 - as above

    value = row.get(name)
    return None if value is None or pd.isna(value) else value


def _rounded(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None
