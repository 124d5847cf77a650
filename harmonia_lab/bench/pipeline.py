"""`harmonia bench pipeline`: what each stage of an offline song costs on this machine.

Owns the method: one warm-up that does not count, then `runs` songs of different seeds in one process, medians with
their range. The figures come from the log rows, as every run writes them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from harmonia_lab.bench.report import check_range, circumstances, publish, spread
from harmonia_lab.lab import Lab
from harmonia_lab.store.run_log import COLUMNS, RunLabels

__all__ = ["measure", "run"]

STORY = "Two friends row out at night to see the comet, and one of them tells the other that she is leaving."

MEASURED = (
    "total_s", "metadata_s", "time_to_first_token_s", "tokens", "tokens_per_second", "audio_s", "audio_cpu_s", "plan_s",
    "render_s", "mix_s", "write_s", "real_time_factor", "metadata_pss_peak_bytes", "audio_pss_peak_bytes",
    "metadata_rss_peak_bytes", "audio_rss_peak_bytes",
)  # fmt: skip


def run(options: argparse.Namespace) -> int:
    check_range("runs", options.runs, 100)
    check_range("seconds", options.seconds, 600)
    figures = measure(runs=options.runs, seconds=options.seconds)
    return publish(figures, _table(figures), options.json)


def measure(*, runs: int, seconds: float) -> dict[str, Any]:
    """Make `runs` + 1 songs in a scratch folder. Return {column: {median, min, max}}, with the machine and versions."""
    with (
        tempfile.TemporaryDirectory(prefix="harmonia-bench-") as scratch,
        Lab(
            metadata="embedded",
            audio="sketch",
            songs=Path(scratch) / "songs",
            home=scratch,
            labels=RunLabels("bench"),
        ) as lab,
    ):
        for seed in range(runs + 1):
            print(f"song {seed} of {runs}{' (warm-up, not counted)' if seed == 0 else ''}", file=sys.stderr)
            lab.compose(STORY, seconds=seconds, seed=seed, progress=False)
        rows = lab.log.rows()[1:]
    values = {name: [row[name] for row in rows if row[name] is not None] for name in MEASURED}
    columns = {name: spread(found) for name, found in values.items() if found}  # without PSS where there is none
    return {"runs": runs, "seconds": seconds, "columns": columns, **circumstances()}


def _table(figures: dict[str, Any]) -> str:
    lines = [f"{'':<26}{'median':>12}{'min':>12}{'max':>12}  unit"]
    for name, values in figures["columns"].items():
        unit = COLUMNS[name].unit
        scale, shown = (2**20, "MiB") if unit == "bytes" else (1, unit)
        cells = "".join(f"{values[key] / scale:>12.2f}" for key in ("median", "min", "max"))
        lines.append(f"{name:<26}{cells}  {shown}")
    this = figures["host"]
    lines.append(f"n = {figures['runs']} songs of {figures['seconds']:g} s; {this['cpu']}, {this['cores']} cores")
    return "\n".join(lines)
