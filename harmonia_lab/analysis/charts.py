"""Charts of the run log: which steps take the time, how it grows, how much runs differ, and how much memory they use.

Owns the looks: colours that colour-blind readers can tell apart (Okabe & Ito 2008), hatches and markers that stay
visible in greyscale, units on each axis, n in each legend. Each function returns a figure, which a notebook shows and
`savefig` writes; none uses matplotlib's global state. Failed and cancelled runs are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonia_lab.analysis.frames import work_frame
from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest
from harmonia_lab.generation.artifacts import read_record

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["event_latency", "memory_over_time", "real_time_factor", "spread", "stage_latency"]

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#666666")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":")
HATCHES = ("", "///", "", "...", "", "\\\\\\", "", "xxx")
INK, FAINT = "#1c2026", "#d5dae0"
WIDTH_IN, DPI = 7.2, 150
"""Width in inches, that of a page's text; dots per inch in a notebook (a PDF has vectors)."""

STYLES = tuple(zip(COLOURS, MARKERS, 2 * DASHES, strict=True))
"""Colour, marker and line style of each group."""

MEMORY_LABELS = ("host: resident, children included", "GPU: in use by everybody (NVML)")

STEPS = (
    ("loading the language model", "metadata_load_s"),
    ("writing the lyrics", "metadata_work_s"),
    ("composing", "plan_s"),
    ("loading the audio engine", "audio_load_s"),
    ("rendering", "render_work_s"),
    ("mixing", "mix_s"),
    ("writing the files", "write_s"),
    ("everything else", "rest_s"),
)
"""Label and column of the steps in which a song is made, in order. They add up to `total_s`."""


def stage_latency(frame: pd.DataFrame, by: str = "audio_engine") -> Figure:
    """Draw mean seconds by step, stacked, one bar for each value of `by`, with a line from fastest to slowest run."""
    runs = work_frame(_completed(frame))
    runs["render_work_s"] = runs["render_s"] - runs["audio_load_s"].fillna(0.0)
    known = [column for _, column in STEPS[:-1]]
    runs["rest_s"] = (runs["total_s"] - runs[known].fillna(0.0).sum(axis=1)).clip(lower=0.0)
    groups = list(_groups(runs, by))
    figure, (axes,) = _figure(1.5 + 0.55 * max(1, len(groups)))
    if not groups:
        return _no_runs(figure, axes)
    lefts = np.zeros(len(groups))
    for index, (label, column) in enumerate(STEPS):
        widths = np.array([float(group[column].fillna(0.0).mean()) for _, group in groups])
        if widths.max() > 0:
            axes.barh(
                range(len(groups)), widths, 0.62, left=lefts, label=label, color=COLOURS[index], hatch=HATCHES[index],
                edgecolor="white", linewidth=0.5,
            )  # fmt: skip
        lefts += widths
    for position, (_, group) in enumerate(groups):
        total = group["total_s"].astype(float)
        axes.plot([total.min(), total.max()], [position, position], color=INK, linewidth=1.2, marker="|", markersize=7)
    axes.set_yticks(range(len(groups)), [f"{name}\nn = {len(group)}" for name, group in groups])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds a song: mean of each step; line: fastest to slowest run")
    _style_axes(axes, "x")
    figure.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=8)
    return figure


def real_time_factor(frame: pd.DataFrame, by: str = "audio_engine") -> Figure:
    """Draw the real-time factor of stage 2 without loading, against the song's length and the stems rendered at once.

    Under 1 is faster than playing. An engine that renders one stem after the other counts as a batch of one.
    """
    runs = work_frame(_completed(frame))
    runs = runs[runs["audio_work_real_time_factor"].notna() & (runs["audio_work_real_time_factor"] > 0)]
    figure, panels = _figure(3.4, columns=2)
    against = (
        ("length of the song, s", runs["audio_seconds"]),
        ("stems rendered at once", runs["audio_batch"].fillna(1)),
    )
    if not len(runs):
        panels[1].set_visible(False)
        return _no_runs(figure, panels[0])
    for panel, (axis, values) in zip(panels, against, strict=True):
        for (name, group), (colour, marker, dash) in zip(_groups(runs, by), cycle(STYLES), strict=False):
            x = values.loc[group.index].to_numpy(float)
            y = group["audio_work_real_time_factor"].to_numpy(float)
            label = f"{name} (n = {len(group)})" if panel is panels[0] else None
            panel.scatter(
                x, y, s=26, color=colour, marker=marker, alpha=0.75, edgecolor="white", linewidth=0.5, label=label
            )
            positions = np.unique(x)
            medians = [np.median(y[x == position]) for position in positions]
            panel.plot(positions, medians, color=colour, linewidth=1.2, linestyle=dash)
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
        panel.axhline(1.0, color=INK, linewidth=0.8, linestyle=":")
        panel.set_xlabel(axis)
        _style_axes(panel, "both")
    panels[0].set_xlim(left=0)
    panels[1].set_xticks(np.unique(against[1][1].to_numpy(float)))
    panels[1].margins(x=0.15)
    panels[0].set_ylabel("real-time factor (lines: medians)")
    panels[0].text(0.99, 1.0, "as fast as playing", transform=panels[0].get_yaxis_transform(), ha="right", va="bottom",
                   fontsize=8, color=INK)  # fmt: skip
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    return figure


def spread(frame: pd.DataFrame, column: str = "total_s", by: str = "audio_engine") -> Figure:
    """Draw `column` of every run in the order of the runs, grouped by `by`, with median and interquartile band.

    Raises InvalidRequest for an unknown column.
    """
    runs = work_frame(_completed(frame))
    if column not in runs:
        raise InvalidRequest(f"There is no column {column!r}.", hint="See `frame.columns`.")
    unit = runs.attrs["units"].get(column, "")
    scale, unit = (2**-20, "MiB") if unit == "bytes" else (1.0, unit)
    groups = list(_groups(runs[runs[column].notna()], by))
    figure, (axes,) = _figure(3.2)
    if not groups:
        return _no_runs(figure, axes)
    start = 0
    ticks, labels = [], []
    for (name, group), (colour, marker, _) in zip(groups, cycle(STYLES), strict=False):
        values = group[column].to_numpy(float) * scale
        positions = np.arange(start, start + len(values))
        low, middle, high = np.percentile(values, [25, 50, 75])
        ends = [start - 0.5, start + len(values) - 0.5]
        axes.fill_between(ends, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(ends, [middle, middle], color=colour, linewidth=1.5)
        axes.scatter(positions, values, s=22, color=colour, marker=marker, zorder=3)
        deviation = f"{values.std(ddof=1) / values.mean():.1%}" if len(values) > 1 and values.mean() else "–"
        ticks.append(float(np.mean(ends)))
        labels.append(f"{name}\nn = {len(values)}, CV {deviation}")
        start += len(values) + 1
    axes.set_xticks(ticks, labels)
    axes.tick_params(axis="x", length=0)
    _from_zero(axes)
    axes.set_ylabel(f"{column}{f', {unit}' if unit else ''}")
    axes.set_xlabel("runs in order; line: median; band: middle half; CV: standard deviation over mean")
    _style_axes(axes, "y")
    return figure


def event_latency(latencies: Mapping[str, Sequence[float]]) -> Figure:
    """Draw the cumulative distribution of events over their latency. latencies: name of a group → seconds."""
    figure, (axes,) = _figure(3.2)
    drawn = {name: np.sort(np.asarray(values, float)) * 1000 for name, values in latencies.items() if len(values)}
    if not drawn:
        return _no_runs(figure, axes)
    for (name, values), (colour, marker, dash) in zip(drawn.items(), cycle(STYLES), strict=False):
        values = values.clip(min=0.01)  # noqa: PLW2901 - a millisecond clock may give 0, which a log axis can't show
        shares = np.arange(1, len(values) + 1) / len(values)
        half, most = (float(np.percentile(values, p, method="inverted_cdf")) for p in (50, 99))
        label = f"{_without_math(name)}: p50 {half:.3g} ms, p99 {most:.3g} ms, n = {len(values):,}"
        axes.step(values, shares, where="post", color=colour, linestyle=dash, label=label)
        axes.plot([half, most], [0.5, 0.99], linestyle="", marker=marker, color=colour)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(0, 1.02)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel("milliseconds from the event to its receiver")
    axes.set_ylabel("events that had arrived")
    _style_axes(axes, "both")
    figure.legend(loc="outside upper left", frameon=False, fontsize=8)
    return figure


def memory_over_time(folder: Path | str) -> Figure:
    """Draw a song's memory over time: of this process with its children, and of the whole GPU if there is one.

    folder: the song's folder, whose `run.json` has the samples. Raises HarmoniaError (NOT_FOUND) if it has none.
    """
    record = read_record(Path(folder))
    memory: Mapping[str, Any] = record.get("memory") or {}
    if not memory:
        raise HarmoniaError(
            f"{folder} was made before memory was recorded over time.", code=ErrorCode.NOT_FOUND, hint="Make it again."
        )
    figure, (axes,) = _figure(3.2)
    names = {"metadata": "stage 1: lyrics", "audio": "stage 2: music"}
    end = 0.0
    for index, (stage, found) in enumerate(memory.items()):
        samples = np.array([[float("nan") if v is None else v for v in sample] for sample in found["samples"]])
        seconds = samples[:, 0] + found["began"]
        end = max(end, float(seconds[-1]))
        axes.axvspan(float(seconds[0]), float(seconds[-1]), color=COLOURS[index], alpha=0.10, linewidth=0)
        middle = float(seconds[0] + seconds[-1]) / 2
        axes.text(middle, 1.01, names.get(stage, stage), transform=axes.get_xaxis_transform(), ha="center", fontsize=8,
                  color=INK)  # fmt: skip
        # Both stages' lines have one legend entry.
        host, gpu = MEMORY_LABELS if index == 0 else (None, None)
        axes.plot(seconds, samples[:, 1] / 2**30, color=COLOURS[0], label=host)
        if not np.isnan(samples[:, 2]).all():
            axes.plot(seconds, samples[:, 2] / 2**30, color=COLOURS[4], linestyle="--", label=gpu)
    axes.set_xlim(0, max(end, 0.1))
    _from_zero(axes)
    axes.set_xlabel("seconds since the first stage began")
    axes.set_ylabel("memory, GiB")
    _style_axes(axes, "y")
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=8)
    return figure


def _completed(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["status"] == "completed"]


def _groups(runs: pd.DataFrame, by: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the runs by `by`, as (name, runs), in the order of their first runs. Raises InvalidRequest."""
    if by not in runs:
        raise InvalidRequest(f"There is no column {by!r}.", hint="See `frame.columns`.")
    unit = runs.attrs.get("units", {}).get(by, "")
    for value, group in runs.groupby(by, sort=False, dropna=False):
        name = f"{value:g} {unit}".rstrip() if isinstance(value, float) else str(value)
        yield _without_math(name), group


def _without_math(text: str) -> str:
    """Escape dollar signs, between which matplotlib would read mathematics."""
    return text.replace("$", r"\$")


def _figure(height_in: float, *, columns: int = 1) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure  # noqa: PLC0415 - takes half a second, which other commands need not wait for

    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, layout="constrained")
    return figure, list(figure.subplots(1, columns, sharey=True, squeeze=False)[0])


def _no_runs(figure: Figure, axes: Axes) -> Figure:
    axes.axis("off")
    axes.text(0.5, 0.5, "no completed runs", transform=axes.transAxes, ha="center", color=INK)
    return figure


def _from_zero(axes: Axes) -> None:
    """Begin the axis at 0, with room for a whole marker above the highest value."""
    axes.set_ylim(0, 1.08 * axes.dataLim.y1 or 1)


def _style_axes(axes: Axes, grid: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color=FAINT, linewidth=0.6)  # type: ignore[arg-type] # "x", "y" or "both"
    axes.set_axisbelow(True)
    axes.tick_params(which="both", labelsize=8)
