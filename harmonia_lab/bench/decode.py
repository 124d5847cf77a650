"""`harmonia bench decode`: compares MusicGen's decode loops: audiocraft's, transformers', ours.

Owns the method. In each round every loop runs some steps in turn, so that a busy moment affects all of them. A round's
figure is the median of its steps; the table shows the median over the rounds, and their range; ratios are taken within
a round. Each loop is compared with its floor, the slower of two limits: the bytes that a step must read (the weights as
this loop stores them, keys and values) over the memory bandwidth, and its multiply-adds over the rate of this loop's
product from the cache, both measured in the same round. Runs on a CPU and, unchanged, on a GPU, where the bytes alone
are the floor.

It measures as many rounds as fit the time that it is given, and keeps what it has after each: `--json FILE` is written
then, and an interrupt ends with the table of the complete rounds.

The loops are in `decode_loops.py`, the limits in `decode_limits.py`, the comparison of tokens in `decode_quality.py`,
the cost of a preview in `decode_preview.py`, the table in `decode_table.py`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from harmonia_lab.audio_engines.musicgen.audiocraft_standins import load_audiocraft
from harmonia_lab.audio_engines.musicgen.decoder import Decoder
from harmonia_lab.audio_engines.musicgen.lm_weights import compute_dtype
from harmonia_lab.audio_engines.musicgen.memory import free_memory
from harmonia_lab.audio_engines.musicgen.models import resolve_device, set_precision
from harmonia_lab.audio_engines.musicgen.packed_weights import Packing, exact_packing
from harmonia_lab.audio_engines.musicgen.random_checkpoint import build_model
from harmonia_lab.audio_engines.musicgen.sampling import Sampling
from harmonia_lab.bench.decode_limits import Work, bandwidth, multiply_add_rate
from harmonia_lab.bench.decode_loops import AudiocraftLoop, DecoderLoop, Loop, Stopwatch, TransformersLoop
from harmonia_lab.bench.decode_preview import PreviewCost
from harmonia_lab.bench.decode_quality import compare_logits, compare_tokens, reference_tokens
from harmonia_lab.bench.decode_table import table
from harmonia_lab.bench.progress import BenchProgress
from harmonia_lab.bench.report import check_range, circumstances, publish, save, spread
from harmonia_lab.engines.load import load_average
from harmonia_lab.engines.probes import gpu_facts
from harmonia_lab.errors import InvalidRequest

__all__ = ["Measurement", "prompts", "run"]

Case = tuple[int, int]
"""The position that a run starts from, and the batch."""

TEXTS = ["a calm piano melody over rain", "epic strings and brass", "lofi hip hop drums", "solo violin lament"]
MOST_PROMPTS = 16
"""Largest batch. TEXTS are repeated for more prompts than there are."""

WARM_UP = 4
"""Steps at the start of each run that don't count."""

WINDOW, PIECE = 30, 50
"""Frames of a window and of a piece for the comparison of tokens: like the 30 s of a real window and a longer song."""

FOR_ROUNDS = 0.75
"""The part of the time that rounds may take. The rest is for the comparison of tokens."""


def run(options: argparse.Namespace) -> int:
    check_range("runs", options.runs, 100)
    check_range("minutes", options.minutes, 600)
    if any(not 1 <= batch <= MOST_PROMPTS for batch in options.batches) or any(at < 0 for at in options.positions):
        raise InvalidRequest(f"--batches go from 1 to {MOST_PROMPTS}, --positions from 0 on.")
    device = resolve_device(options.device)
    least = Stopwatch.GPU_BLOCK if device.type == "cuda" else 1
    if options.steps is not None and options.steps < least:
        raise InvalidRequest(f"--steps {options.steps} is too few.", hint=f"Choose {least} or more.")
    figures: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "driver": gpu_facts()["gpu_driver"] if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "date": time.strftime("%Y-%m-%d"),
        **circumstances(),
        "models": [],
    }
    for name in [options.model] if options.model else options.size.split(","):
        until = time.perf_counter() + 60 * options.minutes
        musicgen, title = _model(name, device, given=bool(options.model))
        measurement = Measurement(musicgen, options.runs, options.positions, options.batches, options.steps)

        def keep(measurement: Measurement = measurement, title: str = title) -> None:
            save(figures | {"models": [*figures["models"], {"model": title} | measurement.figures()]}, options.json)

        try:
            measurement.run(until, keep)
        except KeyboardInterrupt:
            if measurement.rounds:
                figures["models"].append({"model": title} | measurement.figures())
            if figures["models"]:
                publish(figures, table(figures), options.json)
            raise
        figures["models"].append({"model": title} | measurement.figures())
        del musicgen, measurement, keep
        free_memory()
    return publish(figures, table(figures), options.json)


class Measurement:
    """One model's. rounds: the complete ones; each has, by case, the rates, and the seconds a step of each loop."""

    def __init__(
        self, musicgen: Any, rounds: int, positions: list[int], batches: list[int], steps: int | None = None
    ) -> None:
        """rounds: to measure, after one that doesn't count. steps: counted in a run; by default 8, on a GPU 192.

        positions: frames that runs start from. batches: prompts at once, 1 to 16. All batches are measured at the first
        position, and the first batch at all positions.
        """
        self._musicgen, self._rounds = musicgen, rounds
        self._steps = steps or (192 if musicgen.device.type == "cuda" else 8)
        self._cases: list[Case] = [(positions[0], batch) for batch in batches]
        self._cases += [(position, batches[0]) for position in positions[1:]]
        self.rounds: list[dict[Case, _Round]] = []
        self._tokens: list[dict[str, Any]] = []
        self._logits: dict[str, dict[str, float]] = {}
        self._preview = PreviewCost(musicgen)
        self._loops = _loops(musicgen)

    def run(self, until: float, keep: Callable[[], None]) -> None:
        """Measure until all is done, or until the clock (`time.perf_counter`) says so: one round at least.

        keep: called whenever there is more to keep.
        """
        begun = time.perf_counter()
        rounds_until = begun + FOR_ROUNDS * (until - begun)
        one_round = [(case, loop.name) for case in self._cases for loop in self._loops]
        compared = list(self._comparisons())
        warm_up, logits = one_round[: len(self._loops)], [("logits", name) for name in self._decoders()]
        planned = warm_up + self._rounds * one_round + logits + [("tokens", number) for number in range(len(compared))]
        with BenchProgress(planned) as progress:
            self._measure_round(progress, "warm-up", self._cases[:1])
            for number in range(1, self._rounds + 1):
                started = time.perf_counter()
                self.rounds.append(self._measure_round(progress, f"round {number} of {self._rounds}", self._cases))
                keep()
                now = time.perf_counter()
                if now + (now - started) > rounds_until:
                    break
            progress.drop(lambda key: key in one_round)
            for name in self._decoders():
                progress.run(f"logits, {name}", partial(self._compare_logits, name))
            for number, (what, compare) in enumerate(compared):
                started = time.perf_counter()
                progress.run(f"tokens, {what}", compare)
                keep()
                now = time.perf_counter()
                if now + (now - started) > until and number + 1 < len(compared):
                    left = len(compared) - number - 1
                    print(f"{left} comparisons of tokens are left out: the time is up", file=sys.stderr)
                    break

    def figures(self) -> dict[str, Any]:
        """Return what was measured so far, of complete rounds, as plain JSON values.

        Milliseconds, bytes, GB (1e9 bytes) and multiply-adds (1e9) per second; a spread is {"median", "min", "max"}.
        """
        lm = self._musicgen.lm
        fast = [self.rounds[number][self._cases[0]].step_s["fast"] for number in range(len(self.rounds))]
        return {
            "shape": {"dim": lm.dim, "layers": len(lm.transformer.layers), "codebooks": lm.n_q, "card": lm.card},
            "dtype": str(compute_dtype(lm)).removeprefix("torch."),
            "steps": self._steps,
            "rounds": len(self.rounds),
            "rounds_asked": self._rounds,
            "bandwidth_gb_per_s": spread([each.read / 1e9 for of_round in self.rounds for each in of_round.values()]),
            "load": spread([each.load for of_round in self.rounds for each in of_round.values()]),
            "rows": [self._row(case, loop) for case in self._cases for loop in self._loops],
            "preview": self._preview.figures(fast, self._cases[0][1]),
            "tokens": self._tokens,
            "logits": self._logits,
        }

    def _measure_round(self, progress: BenchProgress, what: str, cases: list[Case]) -> dict[Case, _Round]:
        device, found = self._musicgen.device, {}
        for position, batch in cases:
            rates: dict[Packing, float] = {}
            if device.type == "cpu":
                packings = {loop.packing for loop in self._loops}
                rates = {packing: multiply_add_rate(packing, 2 * batch) for packing in packings}
            this = found[position, batch] = _Round(bandwidth(device), rates, {}, load_average() or 0.0)
            for loop in self._loops:

                def run(loop: Loop = loop, this: _Round = this, at: int = position, batch: int = batch) -> None:
                    watch = Stopwatch(device, WARM_UP)
                    loop.run(prompts(batch), at, self._steps + WARM_UP, watch)
                    this.step_s[loop.name] = statistics.median(watch.steps_s)

                progress.run(f"{what}: {loop.name}, {batch} at {position}", run)
        self._preview.round(counts=what != "warm-up")
        return found

    def _row(self, case: Case, loop: Loop) -> dict[str, Any]:
        """Return the figures of one case. Ratios to the floor and to other loops are taken round by round."""
        position, batch = case
        rounds = [of_round[case] for of_round in self.rounds]
        seconds = [each.step_s[loop.name] for each in rounds]
        middle = position + WARM_UP + self._steps // 2
        work = Work.of(self._musicgen.lm, loop.weight_bytes, batch, middle, guided_first=loop.guided_first)
        rates = [each.rates[loop.packing] for each in rounds if loop.packing in each.rates]
        floors = [work.floor_s(each.read, each.rates.get(loop.packing)) for each in rounds]

        def faster_than(peer: str) -> dict[str, float] | None:
            if peer == loop.name or peer not in rounds[0].step_s:
                return None
            return spread([each.step_s[peer] / each.step_s[loop.name] for each in rounds])

        return {
            "loop": loop.name,
            "position": position,
            "batch": batch,
            "step_ms": spread([1e3 * s for s in seconds]),
            "steps_per_s": 1 / statistics.median(seconds),
            "real_time_factor": statistics.median(seconds) * self._musicgen.frame_rate,
            "bytes_per_step": work.bytes_read,
            "multiply_adds_per_step": work.multiply_adds,
            "bandwidth_gb_per_s": spread([each.read / 1e9 for each in rounds]),
            "multiply_adds_g_per_s": spread([rate / 1e9 for rate in rates]) if rates else None,
            "floor_bytes_ms": 1e3 * statistics.median([work.bytes_read / each.read for each in rounds]),
            "floor_arithmetic_ms": 1e3 * statistics.median([work.multiply_adds / rate for rate in rates])
            if rates
            else None,
            "floor_ms": 1e3 * statistics.median(floors),
            "times_floor": statistics.median(s / floor for s, floor in zip(seconds, floors, strict=True)),
            "faster_than_audiocraft": faster_than("audiocraft"),
            "faster_than_transformers": faster_than("transformers"),
        }

    def _decoders(self) -> dict[str, Decoder]:
        return {loop.name: loop.decoder for loop in self._loops if isinstance(loop, DecoderLoop)}

    def _compare_logits(self, name: str) -> None:
        self._logits[name] = compare_logits(self._musicgen, self._decoders()[name], TEXTS[:2], frames=40)

    def _comparisons(self) -> list[tuple[str, Callable[[], None]]]:
        """Return what each comparison of tokens is, and a function that makes it: the exact loops' with audiocraft's.

        Greedy and sampled, one row and three, within and beyond a window, with and without a prompt. Not in half
        precision, which rounds too much; its cost is in the logits.
        """
        if compute_dtype(self._musicgen.lm) != torch.float32:
            return []
        greedy, drawn, nucleus = Sampling(use_sampling=False), Sampling(), Sampling(top_p=0.9)
        alone: dict[str, Any] = {"frames": WINDOW}
        beyond = {"frames": PIECE, "prompt_frames": WINDOW // 5, "window": WINDOW}
        pieces = [(1, greedy, alone), (1, drawn, beyond), (3, drawn, alone), (1, nucleus, beyond), (1, greedy, beyond)]
        pieces += [(1, drawn, alone), (3, nucleus, alone)]
        exact = {name: decoder for name, decoder in self._decoders().items() if name != "int8"}

        def compare(rows: int, sampling: Sampling, piece: dict[str, Any]) -> None:
            how = piece | {"sampling": sampling}
            theirs = reference_tokens(self._musicgen, TEXTS[:rows], **how)
            for name, decoder in list(exact.items())[: 1 if rows > 1 else None]:
                found = compare_tokens(self._musicgen, decoder, TEXTS[:rows], theirs=theirs, **how)
                self._tokens.append({"loop": name} | found)

        return [
            (f"{rows} × {piece['frames']} frames", partial(compare, rows, sampling, piece))
            for rows, sampling, piece in pieces
        ]


@dataclass(frozen=True)
class _Round:
    """One case in one round. read: bytes per second. rates: multiply-adds per second, by packing; empty on a GPU.

    step_s: seconds a step, by the loop's name. load: processes that ran or waited in the last minute, by the system.
    """

    read: float
    rates: dict[Packing, float]
    step_s: dict[str, float]
    load: float


def _model(name: str, device: torch.device, *, given: bool) -> tuple[Any, str]:
    """Return the model in the folder `name`, or one of that size with random weights; and what it is called."""
    dtype = "float16" if device.type == "cuda" else "float32"
    if given:
        musicgen = load_audiocraft().models.MusicGen.get_pretrained(name, device=str(device))
    else:
        print(f"making a {name} model with random weights", file=sys.stderr)
        musicgen = build_model(name, str(device), dtype)  # type: ignore[arg-type]  # it checks the size itself
        for weight in musicgen.lm.parameters():
            weight.data.copy_(weight.data.half())  # float16 numbers, as the released weights are
    set_precision(musicgen, dtype)
    return musicgen, name if given else f"{name}, random weights"


def _loops(musicgen: Any) -> list[Loop]:
    lm = musicgen.lm
    loops: list[Loop] = [AudiocraftLoop(musicgen)]
    if len(lm.fuser.fuse2cond["cross"]) > 0:  # transformers has another class for melody models
        loops.append(TransformersLoop(musicgen))
    loops.append(DecoderLoop("fast", musicgen, Decoder(lm, "fast")))
    if musicgen.device.type == "cpu":
        # The packing for a checkpoint whose weights aren't float16 numbers.
        packing = exact_packing(lm.transformer.layers[0].linear1.weight.detach() * (1 + 2**-20))
        loops.append(DecoderLoop("fast, float32 weights", musicgen, Decoder(lm, "fast", packing=packing)))
        loops.append(DecoderLoop("int8", musicgen, Decoder(lm, "int8")))
    return loops


def prompts(batch: int) -> list[str]:
    return [TEXTS[row % len(TEXTS)] for row in range(batch)]
