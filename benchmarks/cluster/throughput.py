"""Songs an hour with two workers of a Dask cluster, against two separate `harmonia batch` processes.

    python -m benchmarks.cluster.throughput [--songs 24] [--seconds 20] [--rounds 5] [--json FILE]

Owns the method: the same songs (sketch, given metadata), each side as fresh processes, sides in turns within a round
and the first side of a round alternating; wall time from a start to the last exit, the start of Python and of the
cluster included, and beside it the time between the first song's start and the last one's end, as the log has it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from harmonia_lab.store.run_log import RunLog
from harmonia_lab.testing import SONG_METADATA

WORKERS = 2


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--songs", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rounds: list[dict[str, Any]] = []
    for number in range(options.rounds):
        measured: dict[str, Any] = {"load": round(os.getloadavg()[0], 1)}
        sides = ("cluster", "separate") if number % 2 == 0 else ("separate", "cluster")
        for side in sides:
            with tempfile.TemporaryDirectory() as folder:
                measured[side] = _measure(side, Path(folder), options.songs, options.seconds)
        measured["throughput_ratio"] = round(measured["separate"]["wall_s"] / measured["cluster"]["wall_s"], 3)
        measured["songs_ratio"] = round(measured["separate"]["songs_s"] / measured["cluster"]["songs_s"], 3)
        rounds.append(measured)
        print(json.dumps(measured), flush=True)
    if options.json:
        asked = {"songs": options.songs, "seconds": options.seconds, "cores": len(os.sched_getaffinity(0))}
        options.json.write_text(json.dumps({**asked, "rounds": rounds}, indent=1) + "\n", encoding="utf-8")
    return 0


def _measure(side: str, folder: Path, songs: int, seconds: float) -> dict[str, float]:
    """Make the songs, and return seconds: wall_s of everything, songs_s from the first song's start to the last end."""
    count = 1 if side == "cluster" else WORKERS
    shares = [range(start, songs, count) for start in range(count)]
    began, running = time.perf_counter(), []
    for number, share in enumerate(shares):
        table = folder / f"{number}.jsonl"
        given = SONG_METADATA.model_dump(mode="json", by_alias=True)
        lines = [json.dumps({"metadata": given, "seconds": seconds, "seed": seed}) for seed in share]
        table.write_text("\n".join(lines) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "harmonia_lab", "batch", str(table), "--out", str(folder / f"out{number}")]
        command += ["--audio", "sketch", *(["--cluster", f"local:{WORKERS}"] if side == "cluster" else [])]
        env = os.environ | {"HARMONIA_HOME": str(folder / f"home{number}")}
        running.append(subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    if any(process.wait() for process in running):
        raise SystemExit(f"A batch of the side {side} failed.")
    wall_s = time.perf_counter() - began
    rows = [row for number in range(count) for row in RunLog(folder / f"home{number}" / "runs.jsonl").rows()]
    starts = [datetime.fromisoformat(row["started_at"]).timestamp() for row in rows]
    ends = [start + row["total_s"] for start, row in zip(starts, rows, strict=True)]
    assert len(rows) == songs, "one row for each song"
    return {"wall_s": round(wall_s, 2), "songs_s": round(max(ends) - min(starts), 2)}


if __name__ == "__main__":
    sys.exit(main())
