"""Tries every kind of folder and cache: `python -m benchmarks.checkpoints measure --json FILE`, then `page`.

Owns the figures' file and `docs/checkpoints.md`, which `page` writes from the trials and the file's seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.checkpoints.folders import Folders
from benchmarks.checkpoints.kinds import KINDS, Kind
from benchmarks.checkpoints.trial import Outcome, attempt
from harmonia_lab.engines.probes import host

__all__ = ["FIGURES", "PAGE", "figures", "page", "trials"]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "checkpoints.md"
FIGURES = Path(__file__).parent / "figures.json"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checkpoints", description=__doc__)
    parser.add_argument("what", choices=("measure", "page"))
    parser.add_argument("--runs", type=int, default=3, help="of each kind (default 3); the median counts")
    options = parser.parse_args(argv)
    if options.what == "page":
        PAGE.write_text(page(trials(), json.loads(FIGURES.read_text(encoding="utf-8"))), encoding="utf-8")
        return 0
    rounds = [trials() for _ in range(1 + options.runs)][1:]  # the first one imports
    FIGURES.write_text(json.dumps(figures(rounds), indent=1) + "\n", encoding="utf-8")
    return 0


def figures(rounds: Sequence[Mapping[Kind, Outcome]]) -> dict[str, Any]:
    """Return the content of the file: machine, its load, runs, and the median seconds of each kind."""
    machine = {key: value for key, value in host().items() if key in ("cpu", "cores", "memory_bytes", "python")}
    seconds = {_key(kind): round(statistics.median(one[kind].seconds for one in rounds), 3) for kind in KINDS}
    return {"machine": machine, "load": round(psutil.getloadavg()[1], 1), "runs": len(rounds), "seconds": seconds}


def trials(kinds: Sequence[Kind] = KINDS, folders: Folders | None = None) -> dict[Kind, Outcome]:
    """Try these kinds, each in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="harmonia-checkpoints-") as scratch:
        root = Path(scratch)
        made = folders or Folders(root)
        return {kind: attempt(kind, made, root / f"kind{number}") for number, kind in enumerate(kinds)}


def page(outcomes: Mapping[Kind, Outcome], measured: Mapping[str, Any]) -> str:
    """Return `docs/checkpoints.md`. measured: the content of the figures' file."""
    loads = sum(outcome.loads for outcome in outcomes.values())
    run = {"runs": measured["runs"], "cpu": measured["machine"]["cpu"], "load": measured["load"]}
    parts = [_HEAD.format(kinds=len(outcomes), loads=loads, **run)]
    for group in dict.fromkeys(kind.group for kind in outcomes):
        parts.append(f"## {group}\n\n| what it is | what happens | seconds |\n|---|---|---|")
        parts += [_row(kind, outcome, measured) for kind, outcome in outcomes.items() if kind.group == group]
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


_HEAD = """# MusicGen checkpoints: kinds of folders and caches, and what happens with each

Written by `python -m benchmarks.checkpoints page`, which tries all {kinds} with tiny random weights of the real
classes; `make test` tries some of them again and compares, `make stress` all. {loads} load; the others end with the
error that stands here, before anything is rendered. FOLDER, CACHE and BASE stand for paths. "No network" is a hub that
refuses connections: one that doesn't answer costs 10 s, once. No pickle ran a program. Seconds are from the name to the
loaded model or the error, without the import of torch and audiocraft: medians of {runs} runs on one core, {cpu}, load
{load} ([figures](../benchmarks/checkpoints/figures.json)).

What to name: a folder, a hub id, or a released name (`small`, `melody`, `stereo-large`, …). A model that is complete in
the hub's cache (or in AUDIOCRAFT_CACHE_DIR) is used without asking the hub. `harmonia models` lists what is here, and
`harmonia models --fetch small` gets a model with its codec and text encoder.
"""


def _row(kind: Kind, outcome: Outcome, measured: Mapping[str, Any]) -> str:
    if outcome.loads:
        happens = f"**loads**{f': {outcome.said}' if outcome.said else ''}"
    else:
        happens = f"{outcome.code}: {outcome.said} → {outcome.hint}"
    seconds = measured["seconds"].get(_key(kind))
    told = "" if seconds is None else f"{seconds:.2f}"
    return f"| {kind.name} | {happens.replace('|', '/')} | {told} |"


def _key(kind: Kind) -> str:
    return f"{kind.group}: {kind.name}"


if __name__ == "__main__":
    sys.exit(main())
