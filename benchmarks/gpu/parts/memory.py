"""Part 4: is the run log's memory right, does it stay the same from song to song, and what happens when it runs out?

Owns five songs through `Lab` with random weights and the run log; the readings of the device's memory by a second
process; the memory left after `lab.close()`; and one song with so little memory that half its batch fits.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks.gpu.bench import four_instruments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.gpu.bench import Bench
    from harmonia_lab.lab import Lab

SONGS = 5


def run(bench: Bench) -> None:
    from harmonia_lab.audio_engines.musicgen.random_checkpoint import make_checkpoint  # noqa: PLC0415

    folder = make_checkpoint(bench.scratch / "model", "tiny" if bench.rehearse else "small")
    seconds = 2.0 if bench.rehearse else 10.0
    with _watched(bench) as watch:
        before = watch.now()
        bench.row("memory", name="device before", bytes=before, note="whole device, by the second process")
        with _lab(bench, folder) as lab:
            for number in range(1, (2 if bench.rehearse else SONGS) + 1):
                _song(bench, lab, number, seconds, watch)
        time.sleep(0.3)  # so that the second process reads again
        left = watch.now()
        allocated = torch.cuda.memory_allocated(bench.device) if bench.on_gpu else None
        bench.row("memory", name="allocated after close", bytes=allocated, note="torch's, this process")
        reserved = torch.cuda.memory_reserved(bench.device) if bench.on_gpu else None
        bench.row("memory", name="reserved after close", bytes=reserved, note="torch's, this process")
        context = left - before if left is not None and before is not None else None
        bench.row("memory", name="device after close", bytes=context, note="what this process still holds: its context")
        if not bench.on_gpu:
            bench.unreached("memory that runs out", "there is no CUDA device")
        elif bench.time_for("memory that runs out", 12):
            _too_little(bench, folder, watch)


def _song(bench: Bench, lab: Lab, number: int, seconds: float, watch: _Watch) -> None:
    begun = time.monotonic()
    song = lab.compose(metadata=four_instruments(), seconds=seconds, seed=number)
    ended = time.monotonic()
    row = lab.log.rows()[-1]
    bench.row(
        "song",
        number=number,
        seconds=ended - begun,
        audio_s=float(row["audio_s"]),
        steps_per_second=row.get("steps_per_second"),
        time_to_first_audio_s=row.get("time_to_first_audio_s"),
        allocated_peak=row.get("audio_gpu_allocated_peak_bytes"),
        reserved_peak=row.get("audio_gpu_reserved_peak_bytes"),
        used_peak=row.get("audio_gpu_used_peak_bytes"),
        watched_peak=watch.peak(begun, ended),
        recovered=json.loads((Path(song.directory) / "run.json").read_text(encoding="utf-8"))["engines"]["audio"][
            "recovered"
        ],
    )


def _too_little(bench: Bench, folder: Path, watch: _Watch) -> None:
    """Make a song of four stems with memory for the caches of three prompts, so that two at a time fit."""
    from harmonia_lab.audio_engines.musicgen.models import MODELS  # noqa: PLC0415

    seconds = 20.0
    with _lab(bench, folder) as lab:
        lab.compose(metadata=four_instruments(), seconds=1.0, seed=1)  # loads the model before memory is taken away
        (choice,) = MODELS.loaded()
        model = MODELS.peek(choice)
        assert model is not None
        needed = model.cache_bytes(len(four_instruments().instruments), round(seconds * model.frame_rate))
        bench.free()
        free = torch.cuda.mem_get_info(bench.device)[0]
        filler = torch.empty(free - needed * 3 // 4, dtype=torch.uint8, device=bench.device)
        bench.row("memory", name="filler", bytes=filler.numel(), note=f"{needed} bytes are needed for the whole batch")
        try:
            _song(bench, lab, SONGS + 1, seconds, watch)
        finally:
            del filler
            bench.free()


def _lab(bench: Bench, folder: Path) -> Lab:
    from harmonia_lab.lab import Lab  # noqa: PLC0415

    return Lab(
        metadata="ollama",  # never used: the metadata is given
        audio="musicgen",
        audio_model=str(folder),
        audio_settings={"arrangement": "stems", "device": str(bench.device)},
        songs=bench.scratch / "songs",
        home=bench.scratch / "home",
    )


class _Watch:
    """The second process's readings of the whole device, with times of the clock that both processes share."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def now(self) -> int | None:
        readings = self._readings()
        return readings[-1][1] if readings else None

    def peak(self, begin: float, end: float) -> int | None:
        return max((used for at, used in self._readings() if begin <= at <= end), default=None)

    def _readings(self) -> list[tuple[float, int]]:
        if not self._path.exists():
            return []
        lines = [line.split() for line in self._path.read_text(encoding="utf-8").splitlines()]
        return [(float(line[0]), int(line[1])) for line in lines if len(line) == 2]


@contextmanager
def _watched(bench: Bench) -> Iterator[_Watch]:
    path = bench.scratch / "watch.txt"
    with path.open("w", encoding="utf-8") as file:
        child = subprocess.Popen([sys.executable, "-m", "benchmarks.gpu.watch"], stdout=file, stdin=subprocess.PIPE)
    try:
        time.sleep(1.0)
        if child.poll() is not None:
            bench.unreached("the device's memory as a second process sees it", "NVML has no device here")
        yield _Watch(path)
    finally:
        assert child.stdin is not None
        child.stdin.close()  # the process ends when its standard input does
        child.wait(5)
