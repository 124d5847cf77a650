"""What becomes of songs when workers are killed and songs are cancelled: `python -m benchmarks.cluster.faults`.

    python -m benchmarks.cluster.faults [--kills 20] [--cancels 50] [--json FILE]

Owns the method. Kills: MusicGen's tiny shape with random weights, arranged in stems, by two worker processes; the one
that makes the song is killed (SIGKILL) at a random moment of stage 2, once a song. Cancels: the same engine, at a
random moment; the time from the call to the song's end.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from harmonia_lab import Lab
from harmonia_lab.audio_engines.musicgen.random_checkpoint import make_checkpoint
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.testing import SONG_METADATA

SEED = 18
SECONDS = 4.0
WAIT_S = 300.0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--cancels", type=int, default=50)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(options.kills, options.cancels)
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(kills: int, cancels: int) -> dict[str, Any]:
    """Return counts and times (ms)."""
    moments = random.Random(SEED)  # noqa: S311 - no secret
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with tempfile.TemporaryDirectory() as folder:
        model = make_checkpoint(Path(folder) / "model", "tiny", seed=1)
        lab = Lab(
            songs=Path(folder) / "songs",
            home=Path(folder) / "home",
            audio="musicgen",
            audio_model=str(model),
            audio_settings={"arrangement": "stems"},
            cluster="local:2",
        )
        with lab:
            found = {"load": round(os.getloadavg()[0], 1), "kills": _kill(lab, kills, moments)}
            found["cancels"] = _cancel(lab, cancels, moments)
    left = {child.pid for child in psutil.Process().children(recursive=True)} - before
    time.sleep(1.0)
    found["orphans"] = sum(psutil.pid_exists(pid) and "spawn_main" in _command(pid) for pid in left)
    return found


def _kill(lab: Lab, count: int, moments: random.Random) -> dict[str, Any]:
    ends: Counter[str] = Counter()
    terminal: Counter[int] = Counter()
    losses = again = 0
    for number in range(count):
        job = _begin(lab, number)
        time.sleep(moments.random() * 1.5)
        pid = _process_of(lab, job)
        if pid is not None and not job.done:
            os.kill(pid, signal.SIGKILL)
            losses += 1
        ends[_end(job)] += 1
        terminal[sum(event.ends for event in job.events)] += 1
        again += sum(event.name == "generation-error" for event in job.events)
    return {
        "songs": count,
        "workers_killed": losses,
        "ends": dict(ends),
        "terminal_events_a_song": {str(events): songs for events, songs in terminal.items()},
        "tried_again": again,
    }


def _cancel(lab: Lab, count: int, moments: random.Random) -> dict[str, Any]:
    ends: Counter[str] = Counter()
    ended_ms = []
    for number in range(count):
        job = _begin(lab, 1000 + number)
        time.sleep(moments.random() * 0.3)
        began = time.perf_counter()
        asked = job.cancel()
        end = _end(job)
        if asked:
            ended_ms.append((time.perf_counter() - began) * 1000)
        ends[end] += 1
    ended_ms.sort()
    middle, late = (ended_ms[min(len(ended_ms) - 1, int(share * len(ended_ms)))] for share in (0.5, 0.95))
    return {"songs": count, "ends": dict(ends), "asked": len(ended_ms), "p50_ms": round(middle), "p95_ms": round(late)}


def _begin(lab: Lab, seed: int) -> JobHandle:
    """Return a song in stage 2."""
    job = lab.submit(metadata=SONG_METADATA, seconds=SECONDS, seed=seed)
    deadline = time.monotonic() + WAIT_S
    while job.progress is None and not job.done and time.monotonic() < deadline:
        time.sleep(0.005)
    return job


def _process_of(lab: Lab, job: JobHandle) -> int | None:
    row = lab.journal.last_attempt(job.id)
    assert lab.cluster is not None
    facts = lab.cluster.facts()
    return next((each["pid"] for each in facts.values() if each.get("worker") == row.get("worker")), None)


def _end(job: JobHandle) -> str:
    try:
        job.result(WAIT_S)
    except HarmoniaError as error:
        return str(error.code)
    return "completed"


def _command(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


if __name__ == "__main__":
    sys.exit(main())
