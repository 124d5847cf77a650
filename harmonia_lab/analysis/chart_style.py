"""How charts look: colours that colour-blind readers can tell apart (Okabe & Ito 2008), markers, hatches, axes.

Hatches and markers stay visible in greyscale. Owns what all charts share; `charts.py` draws them. Nothing uses
matplotlib's global state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS", "FAINT", "GREY", "HATCHES", "INK", "from_zero", "new_figure", "plain_numbers", "say_no_runs",
    "style_axes", "styles", "without_math",
]  # fmt: skip

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#666666")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":")
HATCHES = ("", "///", "", "...", "", "\\\\\\", "", "xxx")
INK, GREY, FAINT = "#1c2026", "#666666", "#d5dae0"
WIDTH_IN, DPI = 7.2, 150
"""Width in inches, that of a page's text; dots per inch in a notebook (a PDF has vectors)."""


def styles(count: int) -> list[tuple[str, str, str]]:
    """Return colour, marker and line style of each of `count` groups; no two alike among the first 64."""
    return [(COLOURS[i % 8], MARKERS[(i + i // 8) % 8], DASHES[(i + i // 8) % 4]) for i in range(count)]


def without_math(text: str) -> str:
    """Escape dollar signs, between which matplotlib would read mathematics."""
    return text.replace("$", r"\$")


def new_figure(height_in: float, *, columns: int = 1) -> tuple[Figure, list[Axes]]:
    from harmonia_lab.analysis.chart_figure import Chart  # noqa: PLC0415 - takes half a second, which others need not

    figure = Chart(figsize=(WIDTH_IN, height_in), dpi=DPI, layout="constrained")
    return figure, list(figure.subplots(1, columns, sharey=True, squeeze=False)[0])


def say_no_runs(figure: Figure, axes: Axes) -> Figure:
    axes.axis("off")
    axes.text(0.5, 0.5, "no completed runs", transform=axes.transAxes, ha="center", color=INK)
    return figure


def from_zero(axes: Axes) -> None:
    """Begin the axis at 0, with room for a whole marker above the highest value."""
    axes.set_ylim(0, 1.08 * axes.dataLim.y1 or 1)


def style_axes(axes: Axes, grid: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color=FAINT, linewidth=0.6)  # type: ignore[arg-type] # "x", "y" or "both"
    axes.set_axisbelow(True)
    axes.tick_params(which="both", labelsize=8)


def plain_numbers(axis: Axis) -> None:
    """Label a logarithmic axis with round numbers, also where it spans less than a power of ten."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator  # noqa: PLC0415 - as in `new_figure`

    low, high = axis.get_view_interval()
    axis.set_major_formatter("{x:g}")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 4 * low else MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.set_minor_locator(NullLocator())
