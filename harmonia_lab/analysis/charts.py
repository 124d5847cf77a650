"""Charts of the run log: which steps take the time, how it grows, how much runs differ, and how much memory they use.

Owns what is drawn: units on each axis, n beside each group, every run as a point; `chart_style.py` owns the looks. Each
function returns a figure, which a notebook shows and `savefig` writes. Failed and cancelled runs are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonia_lab.analysis.chart_names import groups_of, label_below, legend_above, say_left_out, wrapped
from harmonia_lab.analysis.chart_style import (
    COLOURS,
    FAINT,
    HATCHES,
    INK,
    from_zero,
    new_figure,
    plain_numbers,
    say_no_runs,
    style_axes,
    styles,
    without_math,
)
from harmonia_lab.analysis.frames import work_frame
from harmonia_lab.analysis.ratio_charts import forest, ratios
from harmonia_lab.analysis.run_columns import completed, numbers, unit_of
from harmonia_lab.analysis.tables import columns_of, units_for_people
from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest
from harmonia_lab.generation.artifacts import read_record

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = [
    "blocks", "event_latency", "forest", "memory_over_time", "ratios", "real_time_factor", "spread",
    "stage_latency",
]  # fmt: skip

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
    """Draw mean seconds by step, stacked, one bar for each value of `by`, and each run's total time as a point.

    Runs without a stage, as with given metadata, have a bar of their own: a mean counts nothing that is missing as 0.
    """
    runs = _completed(frame)
    _add_steps(runs)
    every = groups_of(runs, by)
    figure, (axes,) = new_figure(1.5)
    groups = [
        (wrapped(name, 30), lacking, members)
        for name, whole in say_left_out(figure, every)
        for lacking, members in _by_missing_steps(whole)
    ]
    lines = max((name.count("\n") + 2 for name, _, _ in groups), default=2)
    figure.set_figheight(1.5 + max(0.6 if len(groups) < 10 else 0.42, 0.17 * lines) * max(1, len(groups)))
    if not groups:
        return say_no_runs(figure, axes)
    lefts = np.zeros(len(groups))
    for index, (label, column) in enumerate(STEPS):
        widths = np.array([_mean_of_known(numbers(members, column)) for _, _, members in groups])
        if widths.max() > 0:
            axes.barh(
                range(len(groups)), widths, 0.62, left=lefts, label=label, color=COLOURS[index], hatch=HATCHES[index],
                edgecolor="white", linewidth=0.5,
            )  # fmt: skip
        lefts += widths
    for position, (_, _, members) in enumerate(groups):
        totals = numbers(members, "total_s")
        rows = position + 0.27 * (np.arange(len(totals)) % 5 - 2) / 2  # apart, so that equal times stay visible
        axes.plot(totals, rows, linestyle="", marker="o", markersize=3.5, color=INK, markerfacecolor="white", zorder=3)
    axes.set_yticks(
        range(len(groups)),
        [f"{name}\n{f'without {lacking}, ' if lacking else ''}n = {len(members)}" for name, lacking, members in groups],
    )
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds a song: mean of each step; circles: each run's total")
    style_axes(axes, "x")
    legend_above(figure, 4)
    return figure


def _add_steps(runs: pd.DataFrame) -> None:
    """Add `render_work_s` (rendering without loading) and `rest_s` (what the other steps leave of the total)."""
    runs["render_work_s"] = numbers(runs, "render_s") - np.nan_to_num(numbers(runs, "audio_load_s"))
    known = sum(np.nan_to_num(numbers(runs, column)) for _, column in STEPS[:-1])
    runs["rest_s"] = (numbers(runs, "total_s") - known).clip(min=0.0)


def _by_missing_steps(runs: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield (steps that the runs lack, runs), the runs with the most steps first. Loading may be missing: none was."""
    steps = [(label, column) for label, column in STEPS[:-1] if not column.endswith("_load_s")]
    missing = np.column_stack([np.isnan(numbers(runs, column)) for _, column in steps])
    for pattern in sorted(set(map(tuple, missing.tolist())), key=sum):
        lacking = [label for (label, _), absent in zip(steps, pattern, strict=True) if absent]
        yield ", ".join(lacking), runs[(missing == pattern).all(axis=1)]


def _mean_of_known(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else 0.0


def real_time_factor(frame: pd.DataFrame, by: str = "audio_engine") -> Figure:
    """Draw the real-time factor of stage 2 without loading, against the song's length and the stems rendered at once.

    Under 1 is faster than playing. An engine that renders one stem after the other counts as a batch of one.
    """
    runs = _completed(frame)
    for needed in ("audio_work_real_time_factor", "audio_seconds"):
        if needed not in runs:
            raise InvalidRequest(f"There is no column {needed!r}.", hint="See `frame.columns`.")
    runs = runs[runs["audio_work_real_time_factor"].notna() & (runs["audio_work_real_time_factor"] > 0)]
    figure, panels = new_figure(3.4, columns=2)
    against = (
        ("length of the song, s", runs["audio_seconds"]),
        (
            "stems rendered at once",
            runs["audio_batch"].fillna(1) if "audio_batch" in runs else runs["audio_seconds"] * 0 + 1,
        ),
    )
    if not len(runs):
        panels[1].set_visible(False)
        return say_no_runs(figure, panels[0])
    groups = say_left_out(figure, groups_of(runs, by))
    for panel, (axis, values) in zip(panels, against, strict=True):
        apart = 0.015 * (float(values.max()) - float(values.min()) or 1.0)  # so that no group hides another
        for index, ((name, group), (colour, marker, dash)) in enumerate(zip(groups, styles(len(groups)), strict=True)):
            x = values.loc[group.index].to_numpy(float)
            y = group["audio_work_real_time_factor"].to_numpy(float)
            label = f"{name} (n = {len(group)})" if panel is panels[0] else None
            aside = x + apart * (index - (len(groups) - 1) / 2)
            panel.scatter(
                aside, y, s=26, color=colour, marker=marker, alpha=0.75, edgecolor="white", linewidth=0.5, label=label
            )
            positions = np.unique(x)
            medians = [np.median(y[x == position]) for position in positions]
            panel.plot(positions, medians, color=colour, linewidth=1.2, linestyle=dash)
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
        panel.axhline(1.0, color=INK, linewidth=0.8, linestyle=":")
        panel.set_xlabel(axis)
        style_axes(panel, "both")
    panels[0].set_xlim(0, 1.06 * float(against[0][1].max()))
    batches = np.unique(against[1][1].to_numpy(float))
    panels[1].set_xticks(batches)
    panels[1].set_xlim(batches[0] - 0.5, batches[-1] + 0.5)
    panels[0].set_ylabel("real-time factor (lines: medians)")
    panels[0].text(0.99, 1.0, "as fast as playing", transform=panels[0].get_yaxis_transform(), ha="right", va="bottom",
                   fontsize=8, color=INK)  # fmt: skip
    legend_above(figure, 3)
    return figure


def spread(frame: pd.DataFrame, column: str = "total_s", by: str = "audio_engine") -> Figure:
    """Draw `column` of every run in the order of the runs, grouped by `by`, with median and interquartile band.

    Raises InvalidRequest for an unknown column.
    """
    runs = _completed(frame)
    [column] = columns_of([runs], [column])
    scale, unit = units_for_people(unit_of(runs, column), _typical(runs, column))
    figure, (axes,) = new_figure(3.2)
    known = [(name, group) for name, group in groups_of(runs, by) if not np.isnan(numbers(group, column)).all()]
    groups = say_left_out(figure, known)
    if not groups:
        return say_no_runs(figure, axes)
    start = 0
    ticks, labels = [], []
    for (name, group), (colour, marker, _) in zip(groups, styles(len(groups)), strict=True):
        every = numbers(group, column) * scale
        values = every[~np.isnan(every)]
        positions = np.arange(start, start + len(values))
        low, middle, high = np.percentile(values, [25, 50, 75])
        ends = [start - 0.5, start + len(values) - 0.5]
        axes.fill_between(ends, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(ends, [middle, middle], color=colour, linewidth=1.5)
        axes.scatter(positions, values, s=22, color=colour, marker=marker, zorder=3)
        deviation = f"{values.std(ddof=1) / values.mean():.1%}" if len(values) > 1 and values.mean() else "–"
        ticks.append(float(np.mean(ends)))
        of = f" of {len(every)}" if len(values) < len(every) else ""
        labels.append(f"{name}\nn = {len(values)}{of}, CV {deviation}")
        start += len(values) + 1
    label_below(axes, ticks, labels)
    axes.tick_params(axis="x", length=0)
    from_zero(axes)
    axes.set_ylabel(f"{column}{f', {unit}' if unit else ''}")
    axes.set_xlabel("runs in order; line: median; band: middle half; CV: standard deviation over mean")
    style_axes(axes, "y")
    return figure


def blocks(frame: pd.DataFrame, column: str = "total_s", by: str = "configuration") -> Figure:
    """Draw `column` of every run of a study, by `by`; lines join the runs of one block, bars are geometric means.

    The axis is logarithmic: lines of equal slope are equal ratios. Raises InvalidRequest for an unknown column, and for
    rows without blocks.
    """
    runs = _completed(frame)
    [column] = columns_of([runs], [column])
    if "block" not in runs or runs["block"].isna().all():
        raise InvalidRequest("These rows have no blocks.", hint="Draw rows of a study, or `charts.spread`.")
    values = numbers(runs, column)
    figure, (axes,) = new_figure(3.6)
    # Over all runs, so that a group has the colour that `lab.chart` gives it.
    every = say_left_out(figure, groups_of(runs, by))
    runs = runs[runs["block"].notna() & (values > 0)]
    known = [
        (name, group[group.index.isin(runs.index)], look)
        for (name, group), look in zip(every, styles(len(every)), strict=True)
    ]
    groups = [(name, group) for name, group, _ in known if len(group)]
    looks = [look for _, group, look in known if len(group)]
    scale, unit = units_for_people(unit_of(runs, column), _typical(runs, column))
    if not groups:
        return say_no_runs(figure, axes)
    studies = runs["study"].astype("string").fillna("") if "study" in runs else runs["block"].astype("string")
    where = {index: position for position, (_, group) in enumerate(groups) for index in group.index}
    for _, block in runs.groupby([studies, runs["block"]], sort=False):
        places = sorted((where[index], value) for index, value in zip(block.index, numbers(block, column), strict=True))
        axes.plot(
            *np.array([(place, value * scale) for place, value in places]).T, color=FAINT, linewidth=1.0, zorder=1
        )
    for position, ((_, group), (colour, marker, _)) in enumerate(zip(groups, looks, strict=True)):
        own = numbers(group, column) * scale
        axes.scatter(np.full(len(own), position), own, s=22, color=colour, marker=marker, zorder=3, alpha=0.8)
        mean = float(np.exp(np.log(own).mean()))
        axes.plot([position - 0.18, position + 0.18], [mean, mean], color=INK, linewidth=1.8, zorder=4)
    axes.set_yscale("log")
    plain_numbers(axes.yaxis)
    label_below(axes, [*map(float, range(len(groups)))], [f"{name}\nn = {len(group)}" for name, group in groups])
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.set_ylabel(f"{column}{f', {unit}' if unit else ''}")
    axes.set_xlabel("lines: runs of one block; bars: geometric means; logarithmic axis")
    style_axes(axes, "y")
    return figure


def event_latency(latencies: Mapping[str, Sequence[float]]) -> Figure:
    """Draw the cumulative distribution of events over their latency. latencies: name of a group → seconds."""
    figure, (axes,) = new_figure(3.2)
    drawn = {name: np.sort(np.asarray(values, float)) * 1000 for name, values in latencies.items() if len(values)}
    if not drawn:
        return say_no_runs(figure, axes)
    for (name, values), (colour, marker, dash) in zip(drawn.items(), styles(len(drawn)), strict=True):
        values = values.clip(min=0.01)  # noqa: PLW2901 - a millisecond clock may give 0, which a log axis can't show
        shares = np.arange(1, len(values) + 1) / len(values)
        half, most = (float(np.percentile(values, p, method="inverted_cdf")) for p in (50, 99))
        label = f"{without_math(name)}: p50 {half:.3g} ms, p99 {most:.3g} ms, n = {len(values):,}"
        axes.step(values, shares, where="post", color=colour, linestyle=dash, label=label)
        axes.plot([half, most], [0.5, 0.99], linestyle="", marker=marker, color=colour)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(0, 1.02)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel("milliseconds from the event to its receiver")
    axes.set_ylabel("events that had arrived")
    style_axes(axes, "both")
    legend_above(figure, 1)
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
    figure, (axes,) = new_figure(3.2)
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
    from_zero(axes)
    axes.set_xlabel("seconds since the first stage began")
    axes.set_ylabel("memory, GiB")
    style_axes(axes, "y")
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=8)
    return figure


def _completed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the completed runs with durations of work, each under an index of its own (frames may be put together)."""
    return work_frame(completed(frame)).reset_index(drop=True)


def _typical(runs: pd.DataFrame, column: str) -> float:
    values = numbers(runs, column)
    return float(np.nanmedian(values)) if not np.isnan(values).all() else 0.0
