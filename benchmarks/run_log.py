"""What reading the run log costs: `python -m benchmarks.run_log [--rows 100000] [--json FILE]`.

Owns the method: a log with a value in every column that songs without a GPU fill; each way of reading it in a fresh
process, whose processor time is counted after its imports, and whose peak memory is that of the whole process, pandas
included.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harmonia_lab.analysis.frames import BenchmarkLog
from harmonia_lab.engines.process_tree import peak_rss_bytes
from harmonia_lab.generation.progress import LEARNT_COLUMNS, LEARNT_ROWS
from harmonia_lab.store.run_log import COLUMNS

EIGHT = [
    "run_id", "status", "seed", "started_at", "audio_engine", "total_s", "audio_s", "audio_rss_peak_bytes",
]  # fmt: skip

WAYS: dict[str, Callable[[BenchmarkLog], Any]] = {
    "the last 500 rows, as a song reads them": lambda log: log.latest(LEARNT_ROWS, LEARNT_COLUMNS),
    "frame of eight columns": lambda log: log.frame(EIGHT),
    "frame of all columns": lambda log: log.frame(),
    "rows() as dicts": lambda log: log.rows(),
}


def write_log(path: Path, rows: int) -> None:
    """Write `rows` rows with a value in every column that a song without a GPU fills, 2.5 kB each."""
    random.seed(1)
    texts = {
        "status": "completed", "stage": "done", "purpose": "song", "version": "0.1.0", "git_commit": "0" * 40,
        "host": "laboratory", "platform": "Linux-6.1.0-x86_64-with-glibc2.36", "python": "3.11.7",
        "cpu": "A processor with a name of some length @ 2.80GHz", "metadata_engine": "embedded",
        "metadata_model": "smollm2:135m", "metadata_digest": "0" * 64, "metadata_strategy": "stepwise",
        "audio_engine": "sketch", "audio_model": "TimGM6mb.sf2",
        "gpu_reason": "no engine on this machine uses torch; NVML: driver not loaded",
    }  # fmt: skip
    without = {
        "error_code",
        "cancel_reason",
        "study",
        "block",
        "configuration",
        "torch",
        "audio_batch",
        "worker",
        "threads",
    }
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            row: dict[str, Any] = {}
            for name, column in COLUMNS.items():
                if name in without or "gpu" in name or "recoveries" in name:
                    row[name] = texts.get(name)
                elif column.dtype == "Float64":
                    row[name] = round(random.lognormvariate(1, 0.3), 6)
                elif column.dtype == "Int64":
                    row[name] = random.randrange(2**30)  # noqa: S311
                else:
                    row[name] = texts.get(name)
            identity = f"{number:012x}"
            row |= {
                "schema": 2,
                "run_id": f"{identity}-1",
                "generation_id": identity,
                "started_at": f"2026-01-01T{number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d}.000Z",
                "directory": f"/home/somebody/songs/harbour-light-{identity}",
                "checksum": f"{random.getrandbits(256):064x}",
                "instrument_s": {name: round(random.random(), 6) for name in ("piano", "bass", "drums", "flute")},  # noqa: S311
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def measure(path: Path, way: str) -> dict[str, float]:
    """Read the log in this process. Return seconds of processor time, and MiB of the whole process at its peak."""
    import msgspec  # noqa: F401, PLC0415 - before the clock starts, as pandas
    import pandas as pd  # noqa: PLC0415

    pd.array(["warm"], dtype="string")
    before = _peak_mib()
    began, wall = time.process_time(), time.perf_counter()
    found = WAYS[way](BenchmarkLog(path))
    return {
        "cpu_s": round(time.process_time() - began, 4),
        "wall_s": round(time.perf_counter() - wall, 4),
        "peak_mib": _peak_mib(),
        "imports_mib": before,
        "rows": len(found),
    }


def _peak_mib() -> float:
    return round(peak_rss_bytes() / 2**20, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--read", nargs=2, metavar=("FILE", "WAY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        print(json.dumps(measure(Path(options.read[0]), options.read[1])))
        return
    figures = {}
    with tempfile.TemporaryDirectory(prefix="harmonia-run-log-") as scratch:
        path = Path(scratch) / "runs.jsonl"
        write_log(path, options.rows)
        print(f"{options.rows} rows, {path.stat().st_size / 2**20:.0f} MiB")
        for way in WAYS:
            command = [sys.executable, "-m", "benchmarks.run_log", "--read", str(path), way]
            done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
            figures[way] = json.loads(done.stdout)
            print(
                f"{way:42}{figures[way]['cpu_s']:8.3f} s of processor time, peak {figures[way]['peak_mib']:.0f} MiB"
                f" ({figures[way]['imports_mib']:.0f} of it before), {figures[way]['rows']} rows"
            )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
