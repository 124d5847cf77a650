"""The output of `harmonia bench decode`: the table of the loops, and notes on tokens, previews and logits."""

from __future__ import annotations

from typing import Any

from harmonia_lab.bench.report import format_spread

__all__ = ["table"]

HEAD = (
    f"{'loop':<23}{'batch':>5}{'at':>6}{'ms/step':>9}{'(range)':>18}{'steps/s':>9}{'real time':>10}"
    f"{'MB/step':>9}{'GB/s':>7}{'G mul/s':>8}{'floor ms':>9}{'of':>11}{'× floor':>8}"
    f"{'× audiocraft':>21}{'× transformers':>21}"
)
"""MB: 1e6 bytes. real time: seconds of generation per second of audio, for all prompts of a batch together.

GB/s, G mul/s: the bandwidth and the rate of multiply-adds (1e9 a second) measured beside the row, medians. of: the
limit that is the floor.
"""


def table(figures: dict[str, Any]) -> str:
    """Return the text. figures: the content of the JSON file that `bench decode` writes."""
    lines = [line for model in figures["models"] for line in _model(model)]
    device = figures["device"] + (f" (driver {figures['driver']})" if figures["driver"] else "")
    lines.append(
        f"{device}; {figures['host']['cpu']}, {figures['threads']} threads; torch {figures['versions'].get('torch')}; "
        f"{figures['date']}"
    )
    return "\n".join(lines)


def _model(model: dict[str, Any]) -> list[str]:
    read = format_spread(model["bandwidth_gb_per_s"])
    asked = f" of {model['rounds_asked']}" if model["rounds"] < model["rounds_asked"] else ""
    how = f"{model['rounds']}{asked} rounds of {model['steps']} steps"
    load = format_spread(model["load"])
    lines = [f"{model['model']}: {model['dtype']}, {how}, reading {read} GB/s, load {load}", HEAD]
    for row in model["rows"]:
        step = row["step_ms"]
        spread = f"{step['min']:.2f}–{step['max']:.2f}"
        rate = f"{row['multiply_adds_g_per_s']['median']:.1f}" if row["multiply_adds_g_per_s"] else ""
        limit = "arithmetic" if (row["floor_arithmetic_ms"] or 0) > row["floor_bytes_ms"] else "bytes"
        lines.append(
            f"{row['loop']:<23}{row['batch']:>5}{row['position']:>6}{step['median']:>9.2f}{spread:>18}"
            f"{row['steps_per_s']:>9.1f}{row['real_time_factor']:>9.2f}×{row['bytes_per_step'] / 1e6:>9.1f}"
            f"{row['bandwidth_gb_per_s']['median']:>7.1f}{rate:>8}"
            f"{row['floor_ms']:>9.2f}{limit:>11}{row['times_floor']:>8.2f}"
            f"{format_spread(row['faster_than_audiocraft']):>21}{format_spread(row['faster_than_transformers']):>21}"
        )
    return [*lines, "", *_quality(model), ""]


def _quality(model: dict[str, Any]) -> list[str]:
    lines = []
    for compared in model["tokens"]:
        what = f"{compared['loop']}, {compared['rows']} × {compared['frames']} frames, {compared['sampling']}"
        for each in compared["differences"]:
            verdict = "a tie" if compared["same"] else "a difference"
            lines.append(f"{what}: {verdict}, row {each['row']} at step {each['step']}, margin {each['margin']:.1e}")
    same = sum(compared["same"] for compared in model["tokens"])
    if model["tokens"]:
        tokens = sum(compared["tokens"] for compared in model["tokens"])
        lines.append(f"tokens as audiocraft's: {same} of {len(model['tokens'])} comparisons ({tokens} tokens)")
    preview = model["preview"]
    lines.append(
        f"preview, fast: {100 * preview['cost']:.1f} % of the time, first after {preview['first_s']:.2f} s of audio, "
        f"error {preview['relative_error']:.1e}; a second of sound takes {1e3 * preview['pieces_s']:.0f} ms in pieces, "
        f"{1e3 * preview['whole_s']:.0f} ms as a whole"
    )
    return lines + [
        f"logits, {name}: error {cost['rms_error']:.1e} of their deviation (largest {cost['max_error']:.1e}), "
        f"same argmax {100 * cost['argmax_agreement']:.2f} %"
        for name, cost in model["logits"].items()
    ]
