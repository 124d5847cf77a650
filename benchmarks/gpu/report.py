"""`report`: turns the rows of a measurement into the tables of docs/musicgen.md.

Owns the layout of the tables. The fields of the rows are defined in `rows.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.gpu.rows import Rows

__all__ = ["configure", "report", "run"]

Row = dict[str, Any]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rows", type=Path, help="rows.jsonl, or the folder that holds it")


def run(options: argparse.Namespace) -> int:
    path = options.rows / "rows.jsonl" if options.rows.is_dir() else options.rows
    rows = Rows(path).read()
    print(report(rows) if rows else f"report: there are no rows in {path}")
    return 0 if rows else 1


def report(rows: list[Row]) -> str:
    """Return all tables, in Markdown."""
    rows = _latest(rows)
    sections = (_machine, _speed, _tokens, _agreement, _memory, _cancel, _profile, _codec, _ended)
    return "\n\n".join(text for section in sections if (text := "\n".join(section(rows))))


def _machine(rows: list[Row]) -> Iterable[str]:
    for row in _of(rows, "machine")[-1:]:
        versions = row["versions"]
        yield (
            f"{row['device']}, driver {row['driver']}, torch {versions.get('torch')}, Triton {versions.get('triton')}, "
            f"transformers {versions.get('transformers')}, {row['clocks'].get('clocks.max.sm', '')}"
        )
    for row in _of(rows, "ceiling"):
        yield f"- {row['name']}: {_shown(row['value'], '.4g')} {row['unit']}"
    for row in _of(rows, "missing"):
        yield from (f"- missing: {problem}" for problem in row["problems"])


def _speed(rows: list[Row]) -> Iterable[str]:
    speeds = _of(rows, "speed")
    if not speeds:
        return
    theirs = {(r["model"], r["batch"], r["position"]): r for r in speeds if r["loop"] == "audiocraft"}
    yield "| model | batch | at | loop | ms/step | steps/s | real time | of the floor | × audiocraft | first step, s |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for row in speeds:
        peer = theirs.get((row["model"], row["batch"], row["position"]))
        ratio = f"{peer['step_ms']['median'] / row['step_ms']['median']:.1f}" if peer else ""
        yield (
            f"| {row['model']} | {row['batch']} | {row['position']} | {row['loop']} | {_shown(row['step_ms'], '.3g')} "
            f"| {row['steps_per_s']:.0f} | {row['real_time_factor']:.3f} | {100 * row['share_of_floor']:.0f} % "
            f"| {ratio} | {row['first_step_s']:.1f} |"
        )


def _tokens(rows: list[Row]) -> Iterable[str]:
    for row in _of(rows, "tokens"):
        verdict = "equal" if row["equal"] else "ties only" if row["same"] else "DIFFERENT"
        margins = ", ".join(f"{each['margin']:.1e}" for each in row["differences"])
        piece = f"{row['rows']} × {row['frames']} frames, {row['sampling']}"
        margins = f"; margins {margins}" if margins else ""
        yield f"- {row['model']} {row['dtype']}, {row['loop']}, {piece}: {verdict} ({row['tokens']} tokens){margins}"


def _agreement(rows: list[Row]) -> Iterable[str]:
    found = _of(rows, "agreement")
    if found:
        yield "| float16, rows that agree to the end | sampling | rows | largest margin | logits' error |"
        yield "|---|---|---|---|---|"
    for row in found:
        largest = f"{max(row['margins']):.2g}" if row["margins"] else ""
        yield (
            f"| {row['model']}: {row['pair']} | {row['sampling']} | {row['equal_rows']} of {row['rows']} "
            f"| {largest} | {row['logit_error']:.2g} |"
        )
    repeats = _of(rows, "repeat")
    if repeats:
        yield f"\nThe same seed twice: the same tokens in {sum(r['same'] for r in repeats)} of {len(repeats)}."


def _memory(rows: list[Row]) -> Iterable[str]:
    for row in _of(rows, "song"):
        sizes = {name: row[f"{name}_peak"] for name in ("allocated", "reserved", "used", "watched")}
        sizes_text = ", ".join(f"{name} {size / 2**20:.0f}" for name, size in sizes.items() if size is not None)
        rate = f"{row['steps_per_second']:.0f} steps/s, " if row["steps_per_second"] else ""
        first = row["time_to_first_audio_s"]
        yield (
            f"- song {row['number']}: {row['seconds']:.2f} s, {rate}first sound after "
            f"{'?' if first is None else f'{first:.2f}'} s; peaks in MiB: {sizes_text or 'none'}"
            f"{'; ' + ' '.join(row['recovered']) if row['recovered'] else ''}"
        )
    for row in _of(rows, "memory"):
        size = "?" if row["bytes"] is None else f"{row['bytes'] / 2**20:.0f} MiB"
        yield f"- {row['name']}: {size} ({row['note']})"


def _cancel(rows: list[Row]) -> Iterable[str]:
    for row in _of(rows, "cancel"):
        grown = (row["allocated_after"] - row["allocated_before"]) / 2**20
        yield (
            f"- cancel, {row['phase']}: took effect after {_shown(row['heard_ms'], '.3g')} ms (n = {row['n']}, "
            f"{row['late']} came too late), memory {grown:+.1f} MiB"
        )


def _profile(rows: list[Row]) -> Iterable[str]:
    for row in _of(rows, "profile"):
        top = "; ".join(f"{t['kernel'][:60]} {t['us_per_step']:.0f} µs in {t['per_step']:.0f}" for t in row["top"])
        yield (
            f"- {row['model']} at {row['position']}: a step {row['step_ms']:.3f} ms, busy {row['busy_ms']:.3f}, floor "
            f"{row['floor_ms']:.3f}, {row['kernels_per_step']:.0f} kernels; {top}"
        )


def _codec(rows: list[Row]) -> Iterable[str]:
    for row in _of(rows, "codec"):
        yield f"- {row['what']}: {_shown(row['audio_seconds_per_second'], '.4g')} seconds of audio a second"


def _ended(rows: list[Row]) -> Iterable[str]:
    for row in _of(rows, "part"):
        yield f"- part {row['part']}: {row['status']} after {row['seconds']:.1f} of {row['limit_s']:g} s {row['why']}"
    lines = [f"- not reached in {row['part']}: {row['what']}: {row['why']}" for row in _of(rows, "unreached")]
    yield from dict.fromkeys(lines)  # each once


def _of(rows: list[Row], kind: str) -> list[Row]:
    return [row for row in rows if row["kind"] == kind]


def _latest(rows: list[Row]) -> list[Row]:
    """Return the rows of each part's last run: a repeated part replaces its earlier rows."""
    runs: dict[str, list[Row]] = {}
    for row in rows:
        run = runs.setdefault(row["part"], [])
        if run and run[-1]["kind"] == "part":  # the last row of a run
            run.clear()
        run.append(row)
    return [row for run in runs.values() for row in run]


def _shown(spread: dict[str, float], form: str) -> str:
    return f"{spread['median']:{form}} ({spread['min']:{form}}–{spread['max']:{form}})"
