"""Forest plots: ratios with their intervals, of one comparison's columns, or of several comparisons' one column.

Owns what is drawn; `charts.py` has the other charts, `chart_style.py` the looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonia_lab.analysis.chart_names import wrapped
from harmonia_lab.analysis.chart_style import (
    COLOURS,
    GREY,
    INK,
    new_figure,
    plain_numbers,
    say_no_runs,
    style_axes,
    without_math,
)
from harmonia_lab.errors import InvalidRequest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harmonia_lab.analysis.compare import Comparison

__all__ = ["forest", "ratios"]


def ratios(comparison: Comparison) -> Figure:
    """Draw each column's ratio with its interval, and each block's ratio as a dot; the primary column in colour."""
    table = comparison.table[comparison.table["ratio"].notna()].iloc[::-1]
    figure, (axes,) = new_figure(1.3 + 0.42 * max(1, len(table)))
    if not len(table):
        return say_no_runs(figure, axes)
    for position, (column, row) in enumerate(table.iterrows()):
        colour = COLOURS[0] if column == comparison.primary else GREY
        for name, below, marker in (("", 0.0, "o"), ("typical_", -0.2, "D")):
            low, high = row[f"{name}low"], row[f"{name}high"]
            middle = row["typical" if name else "ratio"]
            if not np.isnan(low):
                axes.plot(
                    [low, high], [position + below] * 2, color=colour, linewidth=2.0 if not name else 1.2, zorder=3
                )
            if not name or not np.isnan(low):
                face = "white" if name else colour
                axes.plot(
                    middle, position + below, marker=marker, markersize=5, color=colour, markerfacecolor=face, zorder=4
                )
        if column in comparison.block_ratios:
            each = comparison.block_ratios[column].dropna().to_numpy(float)
            rows = position + 0.26 + 0.05 * (np.arange(len(each)) % 3 - 1)
            axes.plot(each, rows, linestyle="", marker=".", markersize=3.5, color=colour, alpha=0.6, zorder=2)
    a, b = (without_math(name) for name in comparison.names)
    axes.axvline(1.0, color=INK, linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    plain_numbers(axes.xaxis)
    axes.set_yticks(range(len(table)), [_ratio_label(str(column), row, comparison) for column, row in table.iterrows()])
    axes.set_ylim(-0.6, len(table) - 0.4)
    points = "; dots: blocks" if len(comparison.block_ratios) else ""
    axes.set_xlabel(
        f"{wrapped(f'{b} / {a}', 80)}\ncircle: geometric means; diamond: typical runs; lines: intervals{points}"
    )
    style_axes(axes, "x")
    return figure


def _ratio_label(column: str, row: Any, comparison: Comparison) -> str:
    name = f"{column} (primary)" if column == comparison.primary else column
    count = f"n = {row['n']:.0f}" if not np.isnan(row["n"]) else f"n = {row['n_a']} + {row['n_b']}"
    return f"{name}\n{count}" + (f", {row['level']:.4g} %" if not np.isnan(row["level"]) else "")


def forest(comparisons: Sequence[Comparison], column: str | None = None) -> Figure:
    """Draw one column's ratio of each comparison, with its interval. column: by default the first one's primary.

    Raises InvalidRequest for a column that a comparison lacks, or where none was named ahead.
    """
    column = column or (comparisons[0].primary if comparisons else None)
    if comparisons and (column is None or any(column not in each.table.index for each in comparisons)):
        raise InvalidRequest(f"Not every comparison has the column {column!r}.", hint="Name one that all have.")
    figure, (axes,) = new_figure(1.4 + 0.5 * max(1, len(comparisons)))
    rows = [(each, each.table.loc[str(column)]) for each in comparisons]
    drawn = [(each, row) for each, row in rows if not np.isnan(row["ratio"])][::-1]
    if not drawn:
        return say_no_runs(figure, axes)
    for position, (_, row) in enumerate(drawn):
        colour = COLOURS[0] if row["differs"] else GREY
        if not np.isnan(row["low"]):
            axes.plot([row["low"], row["high"]], [position] * 2, color=colour, linewidth=2.0, zorder=3)
        axes.plot(row["ratio"], position, marker="o", markersize=6, color=colour, zorder=4)
    one_base = len({each.names[0] for each, _ in drawn}) == 1
    over = f" over {drawn[0][0].names[0]}" if one_base else ""
    labels = [wrapped(without_math(each.names[1] if one_base else f"{each.names[1]} / {each.names[0]}"), 34)
              for each, _ in drawn]  # fmt: skip
    what = wrapped(without_math(f"ratio of {column}{over}"), 70)
    _finish(
        axes,
        labels,
        f"{what}\ncircle: geometric means; line: interval; coloured: it differs",
    )
    return figure


def _finish(axes: Axes, labels: Sequence[str], below: str) -> None:
    axes.axvline(1.0, color=INK, linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    plain_numbers(axes.xaxis)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(-0.6, len(labels) - 0.4)
    axes.set_xlabel(below)
    style_axes(axes, "x")
