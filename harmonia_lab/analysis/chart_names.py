"""Names of groups as charts write them: in order, none hidden behind another, none wider than its place.

Owns the order, the shortening and the number of groups that a chart has room for.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from typing import TYPE_CHECKING, Any

from harmonia_lab.analysis.chart_style import without_math
from harmonia_lab.analysis.run_columns import unit_of
from harmonia_lab.errors import InvalidRequest

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MOST_GROUPS", "Groups", "groups_of", "label_below", "legend_above", "say_left_out", "wrapped"]

MOST_GROUPS = 24
LONGEST = 60
"""Characters of a name. Of a longer one both ends stay: models of one family differ in either."""
WIDTH = 96
"""Characters of the labels' size side by side over a whole chart."""

Groups = list[tuple[str, "pd.DataFrame"]]


def groups_of(runs: pd.DataFrame, by: str) -> Groups:
    """Return the runs by `by`, as (name, runs): numbers in their order, others in that of their first runs, what is
    missing last. Raises InvalidRequest for an unknown column."""
    import pandas as pd  # noqa: PLC0415 - slow to import, as in frames.py

    if by not in runs:
        raise InvalidRequest(f"There is no column {by!r}.", hint="See `frame.columns`.")
    found = list(runs.groupby(by, sort=False, dropna=False))
    missing = [pd.isna(value) for value, _ in found]
    found = [pair for _, pair in sorted(zip(missing, found, strict=True), key=lambda each: bool(each[0]))]
    known = [value for value, _ in found if not pd.isna(value)]
    if known and all(_number(value) is not None for value in known):
        found.sort(key=lambda pair: float("inf") if pd.isna(pair[0]) else float(_number(pair[0]) or 0.0))
    names = [_name(value, unit_of(runs, by)) for value, _ in found]
    short = [_shortened(name) for name in names]
    often = Counter(short)
    unlike = [brief if often[brief] == 1 else name for brief, name in zip(short, names, strict=True)]
    return [(without_math(name), members) for name, (_, members) in zip(unlike, found, strict=True)]


def _number(value: Any) -> float | None:
    """Return a number, or the one that a text is, as a file or a configuration's name has it."""
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _name(value: Any, unit: str) -> str:
    return f"{value:g} {unit}".rstrip() if isinstance(value, float) else " ".join(str(value).split())


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST // 2]}…{name[-LONGEST // 2 + 1 :]}"


def wrapped(name: str, width: int) -> str:
    """Return the name on lines of at most `width` characters, broken at blanks and hyphens where there are any."""
    return "\n".join(textwrap.wrap(name, max(4, width))) or name


def label_below(axes: Axes, places: list[float], labels: list[str]) -> None:
    """Label groups along the x axis: side by side where they fit, else by numbers, with a key above the chart."""
    room = WIDTH // max(1, len(labels))
    if max((len(line) for label in labels for line in label.split("\n")), default=0) <= room:
        axes.set_xticks(places, labels)
        return
    axes.set_xticks(places, [str(number) for number in range(1, len(labels) + 1)])
    for number, label in enumerate(labels, 1):
        one_line = label.replace("\n", " (", 1) + ")" * ("\n" in label)
        axes.plot([], [], linestyle="", marker="", label=f"{number}  {one_line}")
    figure = axes.get_figure(root=True)
    assert figure is not None
    legend_above(figure, 2)


def legend_above(figure: Figure, columns: int) -> None:
    """Write the legend above the chart, in as many columns as its longest name leaves room for; make room for it.

    The handles of a key without markers take no place."""
    labels = [label for axes in figure.axes for label in axes.get_legend_handles_labels()[1]]
    bare = all(label[:1].isdigit() and "  " in label for label in labels)
    longest = max(map(len, labels), default=1)
    fit = max(1, min(columns, WIDTH // (longest + 6)))
    extra = -(-len(labels) // fit) - 2
    if extra > 0:
        figure.set_figheight(figure.get_figheight() + 0.19 * extra)
    figure.legend(loc="outside upper left", ncols=fit, frameon=False, fontsize=8, handlelength=0 if bare else None)


def say_left_out(figure: Figure, groups: Groups) -> Groups:
    """Return the first `MOST_GROUPS` groups; the figure says how many it doesn't draw."""
    if len(groups) > MOST_GROUPS:
        more = len(groups) - MOST_GROUPS
        figure.supxlabel(f"{more} more group{'s' * (more > 1)} not drawn: choose fewer", fontsize=8)
    return groups[:MOST_GROUPS]
