"""`harmonia bench decode`: MusicGen's decode loops side by side: audiocraft's, transformers', ours.

Owns the method and the table. Rounds in which every loop takes some steps in turn, so that a busy moment hits all of
them; a round's figure is the median of its steps, the table's the median over the rounds, with their range; ratios are
taken within a round. Beside each loop stands its floor: the bytes that a step must read (weights as this loop holds
them, keys and values) over the memory bandwidth measured in the same rounds. Runs on a CPU and, unchanged, on a GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from harmonia_lab.bench.decode_loops import Audiocraft, Loop, Ours, Stopwatch, Transformers
from harmonia_lab.bench.decode_quality import compare_logits, compare_tokens
from harmonia_lab.engines.musicgen.audiocraft_standins import load_audiocraft
from harmonia_lab.engines.musicgen.decoder import Decoder
from harmonia_lab.engines.musicgen.kv_cache import cache_bytes
from harmonia_lab.engines.musicgen.random_checkpoint import make_checkpoint
from harmonia_lab.engines.probes import host
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.pipeline.artifacts import package_versions
from harmonia_lab.storage import storage_errors

__all__ = ["measure", "run"]

TEXTS = ["a calm piano melody over rain", "epic strings and brass", "lofi hip hop drums", "solo violin lament"]
WARM_UP = 4
"""Steps of each run that don't count."""


def run(options: argparse.Namespace) -> int:
    if not 1 <= options.runs <= 100:
        raise InvalidRequest(f"--runs {options.runs} is out of range.", hint="Choose 1 to 100.")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    musicgen_class = load_audiocraft().models.MusicGen
    with ExitStack() as stack:
        folder = options.model
        if folder is None:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="harmonia-bench-"))
            print(f"making a {options.size} model with random weights", file=sys.stderr)
            folder = make_checkpoint(Path(scratch) / "model", options.size)
        musicgen = musicgen_class.get_pretrained(str(folder), device=device)
    how = {"rounds": options.runs, "positions": options.positions, "batches": options.batches, "steps": options.steps}
    figures = measure(musicgen, **how)
    figures["model"] = str(options.model or f"{options.size}, random weights")
    print(_table(figures))
    if options.json:
        path = Path(options.json)
        with storage_errors(path):
            path.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def measure(
    musicgen: Any, *, rounds: int, positions: list[int], batches: list[int], steps: int | None = None
) -> dict[str, Any]:
    """One round that does not count, then `rounds`. steps: that count, in each run; by default 12, on a GPU 192."""
    lm, device = musicgen.lm, musicgen.device
    steps = steps or (192 if device.type == "cuda" else 12)
    loops = _loops(musicgen)
    times: dict[tuple[str, int, int], list[float]] = {}
    bandwidth: dict[tuple[int, int], list[float]] = {}
    for number in range(rounds + 1):
        print(f"round {number} of {rounds}{' (warm-up, not counted)' if number == 0 else ''}", file=sys.stderr)
        for position in positions:
            for batch in batches:
                read = _bandwidth(device)
                for loop in loops:
                    watch = Stopwatch(device, WARM_UP)
                    loop.run(TEXTS[:batch], position, steps + WARM_UP, watch)
                    if number:
                        times.setdefault((loop.name, position, batch), []).append(statistics.median(watch.steps_s))
                if number:
                    bandwidth.setdefault((position, batch), []).append(read)
    rows = []
    for (name, position, batch), medians in times.items():
        loop = next(loop for loop in loops if loop.name == name)
        bytes_read = loop.weight_bytes + _cache_read(lm, 2 * batch, position + WARM_UP + steps // 2)
        floors = [bytes_read / read for read in bandwidth[position, batch]]  # of each round
        rows.append(
            {
                "loop": name,
                "position": position,
                "batch": batch,
                "step_ms": _spread([1e3 * s for s in medians]),
                "steps_per_s": 1 / statistics.median(medians),
                "real_time_factor": statistics.median(medians) * musicgen.frame_rate,
                "floor_ms": 1e3 * statistics.median(floors),
                "times_floor": statistics.median(s / floor for s, floor in zip(medians, floors, strict=True)),
                **{
                    f"faster_than_{peer}": _ratio(times, peer, name, position, batch)
                    for peer in ("audiocraft", "transformers")
                },
            }
        )
    return {
        "rounds": rounds,
        "steps": steps,
        "bandwidth_gb_per_s": _spread([read / 1e9 for reads in bandwidth.values() for read in reads]),
        "rows": rows,
        "tokens": _tokens(musicgen, loops),
        "logits": {
            loop.name: compare_logits(musicgen, loop.decoder, TEXTS[:2], frames=40)
            for loop in loops
            if isinstance(loop, Ours)
        },
        "shape": {"dim": lm.dim, "layers": len(lm.transformer.layers), "codebooks": lm.n_q, "card": lm.card},
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "dtype": str(lm.emb[0].weight.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "date": time.strftime("%Y-%m-%d"),
        "host": host(),
        "versions": package_versions(),
    }


def _loops(musicgen: Any) -> list[Loop]:
    lm = musicgen.lm
    loops: list[Loop] = [Audiocraft(musicgen)]
    if len(lm.fuser.fuse2cond["cross"]) > 0:  # transformers has the melody models in another class
        loops.append(Transformers(musicgen))
    loops.append(Ours("fast", musicgen, Decoder(lm, "fast")))
    if musicgen.device.type == "cpu":
        # What a checkpoint gets whose weights are no float16 numbers.
        loops.append(Ours("fast, float32 weights", musicgen, Decoder(lm, "fast", packing="onednn")))
        loops.append(Ours("int8", musicgen, Decoder(lm, "int8")))
    return loops


def _tokens(musicgen: Any, loops: list[Loop]) -> list[dict[str, Any]]:
    """The exact loops against audiocraft's: greedy and drawn, one and four, from nothing and from a prompt."""
    exact = [loop for loop in loops if isinstance(loop, Ours) and loop.name != "int8"]
    return [
        {"loop": loop.name}
        | compare_tokens(musicgen, loop.decoder, TEXTS[:rows], frames=24, prompt_frames=prompt, greedy=greedy)
        for loop in exact
        for rows in ((1, 4) if loop is exact[0] else (1,))
        for prompt in (0, 12)
        for greedy in (True, False)
    ]


def _bandwidth(device: torch.device) -> float:
    """Bytes per second that this device reads, in the best of some operations that do little else."""
    data = torch.ones(2**28 if device.type == "cuda" else 2**26, device=device)  # 1 GB, 256 MB

    def seconds(read: Any) -> float:
        begin = time.perf_counter()
        read()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    matrix = data.view(-1, 4096)
    vector = data[:4096]
    reads = (data.sum, data.norm, lambda: torch.mv(matrix, vector))
    return data.numel() * 4 / min(seconds(read) for read in reads for _ in range(4))


def _cache_read(lm: Any, rows: int, seen: int) -> int:
    layers, dtype = len(lm.transformer.layers), lm.emb[0].weight.dtype
    return cache_bytes(layers=layers, rows=rows, width=lm.dim, positions=seen, dtype=dtype)


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def _ratio(
    times: dict[tuple[str, int, int], list[float]], peer: str, name: str, position: int, batch: int
) -> dict[str, float] | None:
    """How many times as fast as the peer, round by round."""
    theirs = times.get((peer, position, batch))
    if theirs is None or peer == name:
        return None
    return _spread([t / o for t, o in zip(theirs, times[name, position, batch], strict=True)])


def _table(figures: dict[str, Any]) -> str:
    head = f"{'loop':<23}{'batch':>5}{'at':>6}{'ms/step':>9}{'(range)':>16}{'steps/s':>9}{'floor ms':>9}{'× floor':>8}"
    lines = [head + f"{'× audiocraft':>19}{'× transformers':>19}"]
    for row in figures["rows"]:
        step = row["step_ms"]
        spread = f"{step['min']:.2f}–{step['max']:.2f}"
        cells = f"{row['loop']:<23}{row['batch']:>5}{row['position']:>6}{step['median']:>9.2f}{spread:>16}"
        cells += f"{row['steps_per_s']:>9.1f}{row['floor_ms']:>9.2f}{row['times_floor']:>8.2f}"
        for peer in ("audiocraft", "transformers"):
            ratio = row[f"faster_than_{peer}"]
            shown = f"{ratio['median']:.2f} ({ratio['min']:.2f}–{ratio['max']:.2f})" if ratio else ""
            cells += f"{shown:>19}"
        lines.append(cells)
    lines.append("")
    lines += [
        f"{row['loop']}: {row['differing']} of {row['tokens']} tokens differ, margin {row['margin']:.1e} ({row})"
        for row in figures["tokens"]
        if row["differing"]
    ]
    same = sum(row["same"] for row in figures["tokens"])
    lines.append(f"tokens as audiocraft's: {same} of {len(figures['tokens'])} comparisons")
    lines += [
        f"logits, {name}: error {cost['rms_error']:.1e} of their deviation (largest {cost['max_error']:.1e}), "
        f"same argmax {100 * cost['argmax_agreement']:.2f} %"
        for name, cost in figures["logits"].items()
    ]
    this, read = figures["host"], figures["bandwidth_gb_per_s"]
    lines.append(
        f"{figures['model']}; {figures['dtype']} on {figures['device']}; {this['cpu']}, {figures['threads']} threads; "
        f"torch {figures['versions'].get('torch')}; n = {figures['rounds']} rounds of {figures['steps']} steps; "
        f"reading {read['max']:.1f} GB/s (median {read['median']:.1f}); {figures['date']}"
    )
    return "\n".join(lines)
