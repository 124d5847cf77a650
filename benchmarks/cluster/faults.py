"""What becomes of songs when workers and schedulers are killed and songs are cancelled.

    python -m benchmarks.cluster.faults [--only kills|cancels|schedulers] [--kills 20] [--cancels 50] [--schedulers 5]
                                        [--json FOLDER]

Owns the command, the method of kills, and the data files; `cancels.py` and `schedulers.py` have the other methods.
Kills: MusicGen's tiny shape with random weights, each instrument by itself (`arrangement` stems, `decoder` reference),
by two worker processes. The process that makes the song is killed (SIGKILL) a random moment after a random number of
its stems is finished, once a song. The engine writes down each stem that it finishes (`counted.py`), and the files that
have come home are listed when the lab says that it tries again, so that a stem made twice is counted in both senses.
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
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

import psutil

from benchmarks.cluster.counted import counted_stems, engine_installed
from benchmarks.cluster.dask_processes import living
from harmonia_lab import Lab
from harmonia_lab.audio_engines.musicgen.random_checkpoint import make_checkpoint
from harmonia_lab.engines.probes import host
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.protocol.events import FamilyEvent
from harmonia_lab.protocol.models import Instrument
from harmonia_lab.testing import SONG_METADATA

__all__ = ["SEED", "SONG", "WAIT_S", "about", "end_of", "kills", "main", "orphans", "processes_here", "until"]

SEED = 18
SECONDS = 2.0
WAIT_S = 300.0
LEFT_S = 10.0
"""After which a process that a closed lab's cluster has left is counted as an orphan."""
PARTS = [("piano", "chords"), ("flute", "lead"), ("cello", "bass"), ("strings", "pad")]
SONG = SONG_METADATA.model_copy(update={"instruments": [Instrument(name=name, role=role) for name, role in PARTS]})


def main() -> int:
    from benchmarks.cluster.cancels import cancels  # noqa: PLC0415 - it imports from here
    from benchmarks.cluster.schedulers import scheduler_deaths  # noqa: PLC0415 - as above

    methods: dict[str, Callable[[int], dict[str, Any]]]
    methods = {"kills": kills, "cancels": cancels, "schedulers": scheduler_deaths}
    counts = {"kills": 20, "cancels": 50, "schedulers": 5}
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=methods)
    for name, count in counts.items():
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    for name, method in methods.items():
        if options.only not in (None, name):
            continue
        load = round(os.getloadavg()[0], 1)
        found = about() | {"load_average": load} | method(getattr(options, name))
        print(json.dumps({name: found}, indent=1), flush=True)
        if options.json:
            path = options.json / f"{name}.json"
            path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def about() -> dict[str, Any]:
    """Return what was measured, and where."""
    machine = host()
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": machine["cores"],
        "python": machine["python"],
        "distributed": version("distributed"),
    }


def kills(count: int) -> dict[str, Any]:
    """Make `count` songs, and kill each one's worker once. Return counts."""
    moments, others = random.Random(SEED), processes_here()  # noqa: S311 - no secret
    with tempfile.TemporaryDirectory() as folder, engine_installed(Path(folder) / "site") as lines:
        model = make_checkpoint(Path(folder) / "model", "tiny", seed=1)
        lab = Lab(
            songs=Path(folder) / "songs",
            home=Path(folder) / "home",
            audio="counted",
            audio_model=str(model),
            audio_settings={"arrangement": "stems", "decoder": "reference"},
            cluster="local:2",
        )
        started: set[psutil.Process] = set()
        with lab:
            songs = [_kill_one(lab, number, moments, lines, started) for number in range(count)]
        return _summary(songs) | {"orphans": orphans(started - others), "songs": songs}


def _kill_one(
    lab: Lab, number: int, moments: random.Random, lines: Path, started: set[psutil.Process]
) -> dict[str, Any]:
    title, home = f"Song {number}", set[str]()

    def look(event: FamilyEvent) -> None:
        if event.name == "generation-error":  # before the next attempt begins
            home.update(path.name.removesuffix(".wav.sha256") for path in lab.songs.rglob("*.wav.sha256"))

    end_look = lab.events.subscribe(look)
    job = lab.submit(metadata=SONG.model_copy(update={"title": title}), seconds=SECONDS, seed=number)
    after, pause_s = moments.randrange(len(PARTS)), moments.random() * 0.3

    def of_song(what: str) -> list[tuple[str, int, str, str]]:
        return [line for line in counted_stems(lines) if line[0] == what and line[2] == title]

    until(lambda: job.done or (of_song("began") and len(of_song("kept")) >= after))
    time.sleep(pause_s)
    started |= processes_here()
    killed = not job.done
    if killed:
        os.kill(of_song("began")[-1][1], signal.SIGKILL)
    first = [line[3] for line in of_song("kept")]
    end = end_of(job)
    started |= processes_here()
    end_look()
    finished = Counter(line[3] for line in of_song("finished"))
    return {
        "killed": killed,
        "finished_before": len(first),
        "home_before": len(home),
        "made_twice": sum(finished[stem] > 1 for stem in first),
        "made_twice_though_home": sum(finished[stem] > 1 for stem in home),
        "end": end,
        "attempts": len(of_song("began")),
        "terminal_events": sum(event.ends for event in job.events),
    }


def _summary(songs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "count": len(songs),
        "workers_killed": sum(song["killed"] for song in songs),
        "ends": dict(Counter(song["end"] for song in songs)),
        "terminal_events_a_song": {
            str(events): times for events, times in Counter(song["terminal_events"] for song in songs).items()
        },
        **{
            name: sum(song[name] for song in songs)
            for name in ("finished_before", "home_before", "made_twice", "made_twice_though_home")
        },
    }


def processes_here() -> set[psutil.Process]:
    """Return the processes that this one and its children have started."""
    return set(psutil.Process().children(recursive=True))


def orphans(started: set[psutil.Process]) -> int:
    """Return how many of `started` live on, `LEFT_S` after their lab was closed."""
    deadline = time.monotonic() + LEFT_S
    # Multiprocessing's own live as long as this process.
    own = {forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid}  # type: ignore[attr-defined] # noqa: SLF001
    while (left := [each for each in living(started) if each.pid not in own]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return len(left)


def end_of(job: JobHandle) -> str:
    """Wait for a song, and return "completed" or its error's code."""
    try:
        job.result(WAIT_S)
    except HarmoniaError as error:
        return str(error.code)
    return "completed"


def until(happened: Callable[[], Any]) -> Any:
    """Wait for a true value of `happened()`, and return it. Raises TimeoutError."""
    deadline = time.monotonic() + WAIT_S
    while not (found := happened()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"It has not come about within {WAIT_S:g} s.")
        time.sleep(0.005)
    return found


if __name__ == "__main__":
    sys.exit(main())
