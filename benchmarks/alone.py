"""`python -m benchmarks.alone OTHER_CHECKOUT`: what one machine without Dask and Redis pays, beside another version.

Owns the method: processes of the two checkouts in turn, each of which imports `Lab`, makes one with engines that need
nothing, and submits a song. Figures are seconds; ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harmonia_lab.bench.report import check_file, check_range, circumstances, format_spread, publish, spread

__all__ = ["main"]

HERE = Path(__file__).parents[1]
WARM_UP = 2
"""Rounds that don't count: the byte code is written in the first one."""

CHILD = """
import json, sys, threading, time
begun = time.perf_counter()
from harmonia_lab import Lab
Lab.compose
imported = time.perf_counter()
from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine
ready = time.perf_counter()
lab = Lab(metadata=FakeMetadataEngine(), audio=FakeAudioEngine(), songs="songs", home="home")
made = time.perf_counter()
first = threading.Event()
lab.events.subscribe(lambda event: first.set())
submitted = time.perf_counter()
job = lab.submit("A small boat goes out at night.", seconds=1)
assert first.wait(60)
heard = time.perf_counter()
found = sorted({name.partition(".")[0] for name in sys.modules} & {"dask", "distributed", "redis"})
print(json.dumps({"import_s": imported - begun, "lab_s": made - ready, "first_event_s": heard - submitted,
                  "all_s": heard - begun, "imported": found}))
job.result(60)
lab.close()
"""

FIGURES = ("import_s", "lab_s", "first_event_s", "all_s")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alone", description=__doc__)
    parser.add_argument("other", help="a checkout of another version")
    parser.add_argument("--rounds", type=int, default=20, help="rounds that count (default 20)")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    check_range("rounds", options.rounds, 1000)
    check_file(options.json)
    trees = {"here": HERE, "other": Path(options.other).absolute()}
    samples: dict[str, list[dict[str, Any]]] = {name: [] for name in trees}
    with tempfile.TemporaryDirectory(prefix="harmonia-bench-") as compiled:
        for number in range(-WARM_UP, options.rounds):
            for name in sorted(trees, reverse=bool(number % 2)):
                sample = _sample(trees[name], compiled)
                if number >= 0:
                    samples[name].append(sample)
    rows = {name: {each: spread([one[each] for one in own]) for each in FIGURES} for name, own in samples.items()}
    ratios = {
        each: spread([one[each] / two[each] for one, two in zip(samples["here"], samples["other"], strict=True)])
        for each in FIGURES
    }
    imported = {name: sorted({module for one in own for module in one["imported"]}) for name, own in samples.items()}
    figures = {"rounds": options.rounds, "rows": rows, "ratios": ratios, "imported": imported}
    figures |= {"load": os.getloadavg(), "date": time.strftime("%Y-%m-%d"), **circumstances()}
    lines = [f"{'':<16}{'here':>24}{'other':>24}{'here / other':>24}"]
    for each in FIGURES:
        cells = (rows["here"][each], rows["other"][each], ratios[each])
        lines.append(f"{each:<16}" + "".join(f"{format_spread(cell):>24}" for cell in cells))
    lines.append(f"imported of dask, distributed, redis: {imported}; n = {options.rounds}")
    return publish(figures, "\n".join(lines), options.json)


def _sample(tree: Path, compiled: str) -> dict[str, Any]:
    """compiled: a folder for byte code, which an ordinary installation has beside its files."""
    with tempfile.TemporaryDirectory(prefix="harmonia-bench-") as folder:
        environment = os.environ | {"PYTHONPATH": str(tree), "HARMONIA_SERVER": "", "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        command = [sys.executable, "-c", CHILD]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=True)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


if __name__ == "__main__":
    sys.exit(main())
