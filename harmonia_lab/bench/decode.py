"""`harmonia bench decode`: compares MusicGen's decode loops: audiocraft's, transformers', ours.

Owns the method. In each round every loop runs some steps in turn, so that a busy moment affects all of them. A round's
figure is the median of its steps; the table shows the median over the rounds, and their range; ratios are taken within
a round. Each loop is compared with its floor: the bytes that a step must read (the weights as this loop stores them,
keys and values) over the memory bandwidth measured in the same rounds. Runs on a CPU and, unchanged, on a GPU.

The loops are in `decode_loops.py`, the comparison of tokens in `decode_quality.py`, the cost of a preview in
`decode_preview.py`, the table in `decode_table.py`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from harmonia_lab.audio_engines.musicgen.audiocraft_standins import load_audiocraft
from harmonia_lab.audio_engines.musicgen.decoder import Decoder
from harmonia_lab.audio_engines.musicgen.kv_cache import cache_bytes
from harmonia_lab.audio_engines.musicgen.lm_weights import compute_dtype
from harmonia_lab.audio_engines.musicgen.memory import free_memory
from harmonia_lab.audio_engines.musicgen.models import resolve_device
from harmonia_lab.audio_engines.musicgen.random_checkpoint import make_checkpoint
from harmonia_lab.audio_engines.musicgen.sampling import Sampling
from harmonia_lab.bench.decode_loops import AudiocraftLoop, DecoderLoop, Loop, Stopwatch, TransformersLoop
from harmonia_lab.bench.decode_preview import PreviewCost
from harmonia_lab.bench.decode_quality import compare_logits, compare_tokens
from harmonia_lab.bench.decode_table import table
from harmonia_lab.bench.report import check_range, circumstances, publish, spread
from harmonia_lab.engines.probes import gpu_facts
from harmonia_lab.errors import InvalidRequest

__all__ = ["bandwidth", "measure", "prompts", "run"]

_Times = dict[tuple[str, int, int], list[float]]
"""Seconds a step, one for each round, by the loop's name, the position and the batch."""

TEXTS = ["a calm piano melody over rain", "epic strings and brass", "lofi hip hop drums", "solo violin lament"]
MOST_PROMPTS = 16
"""Largest batch. TEXTS are repeated for more prompts than there are."""

WARM_UP = 4
"""Steps at the start of each run that don't count."""

WINDOW, PIECE = 30, 50
"""Frames of a window and of a piece for the comparison of tokens: like the 30 s of a real window and a longer song."""


def run(options: argparse.Namespace) -> int:
    check_range("runs", options.runs, 100)
    if any(not 1 <= batch <= MOST_PROMPTS for batch in options.batches) or any(at < 0 for at in options.positions):
        raise InvalidRequest(f"--batches go from 1 to {MOST_PROMPTS}, --positions from 0 on.")
    device = resolve_device(options.device)
    least = Stopwatch.GPU_BLOCK if device.type == "cuda" else 1
    if options.steps is not None and options.steps < least:
        raise InvalidRequest(f"--steps {options.steps} is too few.", hint=f"Choose {least} or more.")
    how = {"rounds": options.runs, "positions": options.positions, "batches": options.batches, "steps": options.steps}
    models = []
    for name in [options.model] if options.model else options.size.split(","):
        with _checkpoint(name, given=bool(options.model)) as folder:
            musicgen = load_audiocraft().models.MusicGen.get_pretrained(str(folder), device=str(device))
        models.append({"model": name if options.model else f"{name}, random weights"} | measure(musicgen, **how))
        del musicgen
        free_memory()
    figures = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "driver": gpu_facts()["gpu_driver"] if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "rounds": options.runs,
        "date": time.strftime("%Y-%m-%d"),
        **circumstances(),
        "models": models,
    }
    return publish(figures, table(figures), options.json)


def measure(
    musicgen: Any, *, rounds: int, positions: list[int], batches: list[int], steps: int | None = None
) -> dict[str, Any]:
    """Measure `rounds` rounds, after one that doesn't count. steps: counted in a run; by default 12, on a GPU 192.

    positions: frames that each run starts from. batches: prompts at once, 1 to 16. Return plain JSON values:
    milliseconds, bytes, GB (1e9 bytes) per second; each spread is {"median", "min", "max"}.
    """
    lm, device = musicgen.lm, musicgen.device
    steps = steps or (192 if device.type == "cuda" else 12)
    loops = _loops(musicgen)
    preview = PreviewCost(musicgen)
    times: _Times = {}
    reads: dict[tuple[int, int], list[float]] = {}  # bytes per second, one for each round
    cases = [(position, batch) for position in positions for batch in batches]
    for number in range(rounds + 1):
        print(f"round {number} of {rounds}{' (warm-up, not counted)' if number == 0 else ''}", file=sys.stderr)
        for position, batch in cases if number else cases[:1]:
            read = bandwidth(device)
            for loop in loops:
                watch = Stopwatch(device, WARM_UP)
                loop.run(prompts(batch), position, steps + WARM_UP, watch)
                if number:
                    times.setdefault((loop.name, position, batch), []).append(statistics.median(watch.steps_s))
            if number:
                reads.setdefault((position, batch), []).append(read)
        preview.round(counts=number > 0)

    return {
        "shape": {"dim": lm.dim, "layers": len(lm.transformer.layers), "codebooks": lm.n_q, "card": lm.card},
        "dtype": str(compute_dtype(lm)).removeprefix("torch."),
        "steps": steps,
        "bandwidth_gb_per_s": spread([read / 1e9 for each in reads.values() for read in each]),
        "rows": [_row(musicgen, loop, *case, steps, times, reads[case]) for case in cases for loop in loops],
        "preview": preview.figures(times["fast", positions[0], batches[0]], batches[0]),
        "tokens": _tokens(musicgen, loops),
        "logits": {
            loop.name: compare_logits(musicgen, loop.decoder, TEXTS[:2], frames=40)
            for loop in loops
            if isinstance(loop, DecoderLoop)
        },
    }


def _row(
    musicgen: Any, loop: Loop, position: int, batch: int, steps: int, times: _Times, reads: list[float]
) -> dict[str, Any]:
    """Return the figures of one case. Ratios to the floor and to other loops are taken round by round."""
    case = (loop.name, position, batch)
    medians = times[case]
    step_s = statistics.median(medians)
    bytes_read = loop.weight_bytes + cache_bytes(musicgen.lm, 2 * batch, position + WARM_UP + steps // 2)
    floors = [bytes_read / read for read in reads]
    return {
        "loop": loop.name,
        "position": position,
        "batch": batch,
        "step_ms": spread([1e3 * s for s in medians]),
        "steps_per_s": 1 / step_s,
        "real_time_factor": step_s * musicgen.frame_rate,
        "bytes_per_step": bytes_read,
        "floor_ms": 1e3 * statistics.median(floors),
        "times_floor": statistics.median(s / floor for s, floor in zip(medians, floors, strict=True)),
        "faster_than_audiocraft": _ratio(times, "audiocraft", case),
        "faster_than_transformers": _ratio(times, "transformers", case),
    }


@contextmanager
def _checkpoint(name: str, *, given: bool) -> Iterator[Path]:
    """Yield the folder of that name, or a temporary one with random weights of that size."""
    if given:
        yield Path(name)
        return
    with tempfile.TemporaryDirectory(prefix="harmonia-bench-") as scratch:
        print(f"making a {name} model with random weights", file=sys.stderr)
        yield make_checkpoint(Path(scratch) / "model", name)  # type: ignore[arg-type]  # it checks the size itself


def _loops(musicgen: Any) -> list[Loop]:
    lm = musicgen.lm
    loops: list[Loop] = [AudiocraftLoop(musicgen)]
    if len(lm.fuser.fuse2cond["cross"]) > 0:  # transformers has another class for melody models
        loops.append(TransformersLoop(musicgen))
    loops.append(DecoderLoop("fast", musicgen, Decoder(lm, "fast")))
    if musicgen.device.type == "cpu":
        # The packing for a checkpoint whose weights aren't float16 numbers.
        loops.append(DecoderLoop("fast, float32 weights", musicgen, Decoder(lm, "fast", packing="onednn")))
        loops.append(DecoderLoop("int8", musicgen, Decoder(lm, "int8")))
    return loops


def _tokens(musicgen: Any, loops: list[Loop]) -> list[dict[str, Any]]:
    """Compare the exact loops' tokens with audiocraft's: greedy and sampled, one and four rows, with and without a
    prompt, within and beyond a window. Not in half precision, which rounds too much; its cost is in the logits."""
    if compute_dtype(musicgen.lm) != torch.float32:
        return []
    greedy, drawn, nucleus = Sampling(use_sampling=False), Sampling(), Sampling(top_p=0.9)
    alone: dict[str, Any] = {"frames": WINDOW}
    beyond = {"frames": PIECE, "prompt_frames": WINDOW // 5, "window": WINDOW}
    exact = [loop for loop in loops if isinstance(loop, DecoderLoop) and loop.name != "int8"]
    return [
        {"loop": loop.name}
        | compare_tokens(musicgen, loop.decoder, TEXTS[:rows], sampling=sampling, **piece)
        for loop in exact
        for rows in ((1, 4) if loop is exact[0] else (1,))
        for sampling, piece in (
            (greedy, alone), (drawn, alone), (greedy, beyond), (drawn, beyond), (nucleus, beyond),
        )
    ]  # fmt: skip


def bandwidth(device: torch.device) -> float:
    """Return the bytes per second that this device reads, in the fastest of some operations that mostly read."""
    on_gpu = device.type == "cuda"
    # 256 MB; on a GPU 4 GB, so that launch times don't matter, or half of the free memory.
    elements = min(2**30, torch.cuda.mem_get_info(device)[0] // 8 // 4096 * 4096) if on_gpu else 2**26
    data = torch.ones(elements, device=device)

    def seconds(read: Any) -> float:
        if on_gpu:
            torch.cuda.synchronize(device)
        begin = time.perf_counter()
        read()
        if on_gpu:
            torch.cuda.synchronize(device)
        return time.perf_counter() - begin

    matrix = data.view(-1, 4096)
    vector = data[:4096]
    reads = (data.sum, data.norm, data.amax, lambda: torch.mv(matrix, vector))
    return data.numel() * 4 / min(seconds(read) for read in reads for _ in range(4))


def prompts(batch: int) -> list[str]:
    return [TEXTS[row % len(TEXTS)] for row in range(batch)]


def _ratio(times: _Times, peer: str, case: tuple[str, int, int]) -> dict[str, float] | None:
    """Return the speed relative to the peer, round by round; None for the peer itself, or if it was not run."""
    name, position, batch = case
    theirs = times.get((peer, position, batch))
    if theirs is None or peer == name:
        return None
    return spread([t / o for t, o in zip(theirs, times[case], strict=True)])
