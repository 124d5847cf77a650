"""Songs an hour with two workers of a Dask cluster, against two separate `harmonia batch` processes.

    python -m benchmarks.cluster.throughput [--songs 24] [--seconds 20] [--rounds 5] [--json FILE]

With a FILE that is there, it goes on with the rounds in it.

Owns the method: the same songs (sketch, given metadata), each side as fresh processes, sides in turns within a round
and the first side of a round alternating; wall time from a start to the last exit, the start of Python and of the
cluster included, and beside it the time between the first song's end and the last one's, by the files' times. The
song.flac of both sides are compared, seed by seed.
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
from statistics import median
from typing import Any

from benchmarks.cluster.faults import about
from harmonia_lab.generation.artifacts import file_digest
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
    if options.json and options.json.exists():
        rounds = json.loads(options.json.read_text(encoding="utf-8"))["rounds"]
    for number in range(len(rounds), len(rounds) + options.rounds):
        measured: dict[str, Any] = {"load": round(os.getloadavg()[0], 1)}
        digests: dict[str, dict[int, str]] = {}
        sides = ("cluster", "separate") if number % 2 == 0 else ("separate", "cluster")
        for side in sides:
            with tempfile.TemporaryDirectory() as folder:
                measured[side], digests[side] = _measure(side, Path(folder), options.songs, options.seconds)
        measured["songs_with_the_same_bytes"] = sum(
            digests["cluster"][seed] == digests["separate"][seed] for seed in range(options.songs)
        )
        measured["throughput_ratio"] = round(measured["separate"]["wall_s"] / measured["cluster"]["wall_s"], 3)
        measured["others_ratio"] = round(measured["separate"]["others_s"] / measured["cluster"]["others_s"], 3)
        rounds.append(measured)
        print(json.dumps(measured), flush=True)
        if options.json:
            _write(options, rounds)
    return 0


def _write(options: argparse.Namespace, rounds: list[dict[str, Any]]) -> None:
    asked = {"songs": options.songs, "seconds": options.seconds, "workers": WORKERS}
    ratios = {name: round(median(each[name] for each in rounds), 3) for name in ("throughput_ratio", "others_ratio")}
    same = min(each["songs_with_the_same_bytes"] for each in rounds)
    found = {**about(), **asked, "medians": ratios, "songs_with_the_same_bytes": same, "rounds": rounds}
    options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _measure(side: str, folder: Path, songs: int, seconds: float) -> tuple[dict[str, float], dict[int, str]]:
    """Make the songs. Return seconds (wall_s of everything, first_s until the first song is made, others_s from there
    to the last one, after_s to the last exit), and the SHA-256 of each song's sound by seed."""
    count = 1 if side == "cluster" else WORKERS
    shares = [range(start, songs, count) for start in range(count)]
    began, at, running = time.perf_counter(), time.time(), []
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
    assert len(rows) == songs, "one row for each song"
    made = sorted((Path(row["directory"]) / "run.json").stat().st_mtime for row in rows)
    digests = {row["seed"]: file_digest(Path(row["directory"]) / "song.flac") for row in rows}
    first_s, others_s = made[0] - at, made[-1] - made[0]
    times = {"wall_s": wall_s, "first_s": first_s, "others_s": others_s, "after_s": wall_s - first_s - others_s}
    return {name: round(value, 2) for name, value in times.items()}, digests


if __name__ == "__main__":
    sys.exit(main())
