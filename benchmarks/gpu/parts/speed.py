"""Part 3: how fast is a step, compared with audiocraft, transformers and the time to read its bytes?

Owns the cells (model, loop, batch, position) and their order: those in the README's table come first. A cell is
measured in rounds in which the loops take turns; a round's figure is the median of its steps. The loops and the floor
are those of `harmonia bench decode`. The first step, which records graphs and compiles kernels, is timed separately.
"""

from __future__ import annotations

import gc
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harmonia_lab.bench.report import spread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.gpu.bench import Bench
    from harmonia_lab.bench.decode_loops import Loop

ROUNDS = 3
OURS, EAGER, AUDIOCRAFT, TRANSFORMERS = "ours", "ours, no graphs", "audiocraft", "transformers"
STEPS = {OURS: 64, EAGER: 32, AUDIOCRAFT: 16, TRANSFORMERS: 16}
"""Steps that count in a round. The other programs take tens of milliseconds for one."""


@dataclass(frozen=True)
class Cell:
    batch: int
    position: int
    loops: tuple[str, ...]


def _cells(size: str) -> list[Cell]:
    every = (OURS, AUDIOCRAFT, TRANSFORMERS)
    cells = [Cell(1, 50, (*every, EAGER)), Cell(4, 50, every)]
    late = every if size == "small" else (OURS,)
    cells += [Cell(1, 1400, late), Cell(16, 50, (OURS,)), Cell(1, 500, (OURS,)), Cell(4, 500, (OURS,))]
    return [*cells, Cell(4, 1400, (OURS,)), Cell(16, 500, (OURS,)), Cell(16, 1400, (OURS,))]


def run(bench: Bench) -> None:
    if not bench.on_gpu:
        bench.unreached("steps replayed from graphs", "there is no CUDA device; the steps are run as on any CPU")
    needs = {"small": 30, "medium": 40, "large": 40}
    for number, (size, seconds) in enumerate(needs.items()):
        if not bench.time_for(f"speed of {size}", seconds / 3):
            continue
        # The remaining sizes share the remaining time.
        until = bench.left() - bench.left() / (len(needs) - number)
        musicgen = bench.build(size, bench.half)
        _measure(bench, size, musicgen, until)
        del musicgen
        bench.free()


def _measure(bench: Bench, size: str, musicgen: Any, until: float) -> None:
    """Measure the cells of a size. until: the seconds of the part's limit that must be left at the end."""
    from harmonia_lab.bench.decode_limits import bandwidth  # noqa: PLC0415

    read = bandwidth(bench.device)
    loops = {loop.name: loop for loop in _loops(bench, musicgen)}
    cells = _cells(size)
    if bench.rehearse:
        cells = [Cell(cell.batch, min(cell.position, 20), cell.loops) for cell in cells[:3]]
    for cell in cells:
        if bench.left() < until:
            bench.unreached(f"{size}, batch {cell.batch}, position {cell.position}", "the time for this size was over")
            continue
        for name, figures in _rounds(bench, cell, loops):
            bytes_read = _bytes(musicgen, loops[name], cell, STEPS[name])
            step_s = statistics.median(figures["rounds"])
            floor_s = bytes_read / read
            bench.row(
                "speed",
                model=size,
                dtype=bench.half,
                loop=name,
                batch=cell.batch,
                position=cell.position,
                steps=_steps(bench, name),
                rounds=len(figures["rounds"]),
                step_ms=spread([1e3 * seconds for seconds in figures["rounds"]]),
                steps_per_s=1 / step_s,
                real_time_factor=step_s * musicgen.frame_rate,
                bytes_per_step=bytes_read,
                floor_ms=1e3 * floor_s,
                share_of_floor=floor_s / step_s,
                first_step_s=figures["first_step_s"],
            )


def _rounds(bench: Bench, cell: Cell, loops: dict[str, Loop]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each loop's figures. The loops run once without counting, and then in turns."""
    from harmonia_lab.bench.decode import WARM_UP, prompts  # noqa: PLC0415
    from harmonia_lab.bench.decode_loops import Stopwatch  # noqa: PLC0415

    measured: dict[str, list[float]] = {name: [] for name in cell.loops if name in loops}
    firsts: dict[str, float] = {}
    for number in range((1 if bench.rehearse else ROUNDS) + 1):
        for name, seconds in list(measured.items()):
            steps = _steps(bench, name) if number else 1
            watch = Stopwatch(bench.device, WARM_UP)
            gc.collect()  # not during the steps: with libraries of this size it takes half a second
            gc.disable()
            begun = time.perf_counter()
            try:
                loops[name].run(prompts(cell.batch), cell.position, steps + WARM_UP, watch)
            except Exception as error:  # noqa: BLE001 - a loop that fails costs only its own row
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                bench.unreached(f"{name}, batch {cell.batch}, position {cell.position}", reason)
                del measured[name]
                continue
            finally:
                gc.enable()
            if number:
                seconds.append(statistics.median(watch.steps_s))
            else:
                bench.synchronise()
                firsts[name] = time.perf_counter() - begun
    for name, seconds in measured.items():
        yield name, {"rounds": seconds, "first_step_s": firsts[name]}


def _steps(bench: Bench, name: str) -> int:
    return 3 if bench.rehearse else STEPS[name]


def _loops(bench: Bench, musicgen: Any) -> list[Loop]:
    from harmonia_lab.audio_engines.musicgen.decoder import Decoder  # noqa: PLC0415
    from harmonia_lab.bench.decode_loops import AudiocraftLoop, DecoderLoop, TransformersLoop  # noqa: PLC0415

    lm = musicgen.lm
    loops: list[Loop] = [DecoderLoop(OURS, musicgen, Decoder(lm, "fast")), AudiocraftLoop(musicgen)]
    if bench.on_gpu:
        loops.append(DecoderLoop(EAGER, musicgen, Decoder(lm, "fast", graphs=False)))
    try:
        loops.append(TransformersLoop(musicgen))
    except Exception as error:  # noqa: BLE001 - another program's failure costs only its own rows
        bench.unreached("transformers", f"{type(error).__name__}: {error}")
    return loops


def _bytes(musicgen: Any, loop: Loop, cell: Cell, steps: int) -> int:
    from harmonia_lab.audio_engines.musicgen.kv_cache import cache_bytes  # noqa: PLC0415
    from harmonia_lab.bench.decode import WARM_UP  # noqa: PLC0415

    return loop.weight_bytes + cache_bytes(musicgen.lm, 2 * cell.batch, cell.position + WARM_UP + steps // 2)
