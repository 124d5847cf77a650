"""A cluster's scheduler that is killed (SIGKILL) while songs are made.

Owns the method: scheduler and two workers as processes of their own, three songs (MusicGen's tiny shape, in stems), so
that one waits; the scheduler is killed a random moment after two of them have begun. Measured is how long each song
takes to its end from then on. Then scheduler and workers are started again, at the same address, and the same lab makes
what was interrupted to its end, and a new song.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.cluster.dask_processes import DaskProcesses, dask_processes, living
from benchmarks.cluster.faults import SEED, SONG, end_of, until
from harmonia_lab import Lab
from harmonia_lab.audio_engines.musicgen.random_checkpoint import make_checkpoint

__all__ = ["scheduler_deaths"]

LONG_S = 30.0
GONE_S = 60.0
"""After which a worker that lost its scheduler should have ended: Dask's rule is 30 s."""


def scheduler_deaths(count: int) -> dict[str, Any]:
    """Kill a scheduler `count` times. Return how the songs ended, and after how many seconds."""
    moments = random.Random(SEED)  # noqa: S311 - no secret
    with tempfile.TemporaryDirectory() as folder:
        model = make_checkpoint(Path(folder) / "model", "tiny", seed=1)
        found = [_kill_once(Path(folder) / f"{number}", model, moments) for number in range(count)]
    songs = [song for each in found for song in each["songs"]]
    return {
        "count": count,
        "songs": len(songs),
        "ends": dict(Counter(song["end"] for song in songs)),
        "terminal_events_a_song": dict(Counter(str(song["terminal_events"]) for song in songs)),
        "slowest_end_s": max(song["s"] for song in songs),
        "after_a_retry": dict(Counter(end for each in found for end in each["retried"])),
        "new_songs": dict(Counter(each["new_song"] for each in found)),
        "orphans": sum(each["left_after_60_s"] for each in found),
        "rounds": found,
    }


def _kill_once(folder: Path, model: Path, moments: random.Random) -> dict[str, Any]:
    folder.mkdir()
    with (
        dask_processes(folder, workers=2) as dask,
        Lab(
            songs=folder / "songs",
            home=folder / "home",
            audio="musicgen",
            audio_model=str(model),
            audio_settings={"arrangement": "stems"},
            cluster=dask.address,
        ) as lab,
    ):
        until(lambda: lab.cluster is not None and lab.cluster.slots == 2)
        jobs = [lab.submit(metadata=SONG, seconds=LONG_S, seed=seed) for seed in range(3)]
        until(lambda: sum(job.progress is not None and job.progress.progress > 0 for job in jobs) == 2)
        time.sleep(moments.random() * 3.0)
        before = dask.processes()
        dask.kill_scheduler()
        began = time.monotonic()
        ends: dict[int, float] = {}

        def all_ended() -> bool:
            for number, job in enumerate(jobs):
                if job.done:
                    ends.setdefault(number, round(time.monotonic() - began, 1))
            return len(ends) == len(jobs)

        until(all_ended)
        songs = [
            {
                "end": end_of(job),
                "s": ends[number],
                "terminal_events": sum(event.ends for event in job.events),
            }
            for number, job in enumerate(jobs)
        ]
        left = _left(before, began)
        retried, new_song = _go_on(dask, lab, [job.id for job in jobs if end_of(job) != "completed"])
    return {"songs": songs, "retried": retried, "new_song": new_song, "left_after_60_s": left}


def _left(processes: list[Any], began: float) -> int:
    while (left := living(set(processes))) and time.monotonic() - began < GONE_S:
        time.sleep(0.2)
    return len(left)


def _go_on(dask: DaskProcesses, lab: Lab, unmade: list[str]) -> tuple[list[str], str]:
    dask.scheduler()
    dask.worker()
    dask.worker()
    retried = [end_of(lab.retry(generation_id)) for generation_id in unmade]
    return retried, end_of(lab.submit(metadata=SONG, seconds=1, seed=9))
