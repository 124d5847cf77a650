"""Part 5: how soon does a cancel take effect, and is the memory freed?

Owns the moments of the cancels: while steps are replayed, while a step is recorded, and while the codec decodes a
piece. A cancel has taken effect when `render` has raised Cancelled. A cancel after the song's end is late, and not
counted.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.gpu.bench import four_instruments
from harmonia_lab.bench.report import spread

if TYPE_CHECKING:
    from benchmarks.gpu.bench import Bench
    from harmonia_lab.audio_engines.musicgen.engine import MusicGenEngine
    from harmonia_lab.engines.base import AudioProgress

SECONDS = 10.0
CANCELS = 20


def run(bench: Bench) -> None:
    from harmonia_lab.audio_engines.musicgen.engine import MusicGenEngine  # noqa: PLC0415
    from harmonia_lab.audio_engines.musicgen.random_checkpoint import make_checkpoint  # noqa: PLC0415
    from harmonia_lab.audio_engines.musicgen.settings import Settings  # noqa: PLC0415

    folder = make_checkpoint(bench.scratch / "model", "tiny" if bench.rehearse else "small")
    engine = MusicGenEngine(str(folder), Settings(device=str(bench.device)))
    seconds = 4.0 if bench.rehearse else SECONDS
    song = _Song(bench, engine, seconds)
    song.cancelled_when(None)  # loads, compiles, records
    begun = time.perf_counter()
    song.cancelled_when(None)
    lasts = time.perf_counter() - begun
    moments = random.Random(0)  # noqa: S311 - no secret
    # A step is recorded at the song's start if the decoder no longer has the previous song's recording.
    phases: list[tuple[str, Callable[[], tuple[str, float]]]] = [
        ("replay", lambda: ("start", moments.uniform(0.1, 0.9) * lasts)),
        ("recording", lambda: ("start", moments.uniform(0.0, 0.05))),
        ("codec", lambda: ("preview", moments.uniform(0.0, 0.005))),
    ]
    if not bench.on_gpu:
        bench.unreached("cancels during capture and replay", "there is no CUDA device; the steps are run one by one")
    for phase, draw in phases:
        if bench.time_for(f"cancels: {phase}", 5):
            _phase(bench, song, phase, draw)


def _phase(bench: Bench, song: _Song, phase: str, draw: Callable[[], tuple[str, float]]) -> None:
    before = _allocated(bench)
    latencies_ms, late = [], 0
    for _ in range(3 if bench.rehearse else CANCELS):
        if phase == "recording":
            song.release_recording()
        latency = song.cancelled_when(draw())
        if latency is None:
            late += 1
        else:
            latencies_ms.append(1e3 * latency)
    bench.free()
    if not latencies_ms:
        bench.unreached(f"cancels: {phase}", f"all {late} came after the song's end")
        return
    bench.row(
        "cancel",
        phase=phase,
        heard_ms=spread(latencies_ms) | {"all": [round(each, 2) for each in sorted(latencies_ms)]},
        n=len(latencies_ms),
        late=late,
        allocated_before=before,
        allocated_after=_allocated(bench),
    )


class _Song:
    """Renders the same song repeatedly."""

    def __init__(self, bench: Bench, engine: MusicGenEngine, seconds: float) -> None:
        from harmonia_lab.music.composing import compose  # noqa: PLC0415

        self._bench, self._engine = bench, engine
        metadata = four_instruments()
        self._plan: Any = replace(compose(metadata, seconds, 0), metadata=metadata)

    def release_recording(self) -> None:
        """Make the decoder record its step again with the next song."""
        from harmonia_lab.audio_engines.musicgen.models import MODELS  # noqa: PLC0415

        for choice in MODELS.loaded():
            model = MODELS.peek(choice)
            if model is not None:
                model.decoder.release()

    def cancelled_when(self, moment: tuple[str, float] | None) -> float | None:
        """Return the seconds from the cancel to the end of `render`; None if the song ended before the cancel.

        moment: seconds after the start of the generation ("start") or the first preview ("preview"); None: no cancel.
        """
        from harmonia_lab.engines.base import CancelToken  # noqa: PLC0415
        from harmonia_lab.errors import Cancelled  # noqa: PLC0415

        cancel, cancelled_at = CancelToken(), [0.0]

        def cancel_now() -> None:
            cancelled_at[0] = time.perf_counter()
            cancel.cancel()

        timers: list[threading.Timer] = []

        def progress(report: AudioProgress) -> None:
            event = "preview" if report.preview is not None else "start"
            generating = report.status == "Generating..."
            if moment is not None and not timers and generating and event == moment[0]:
                timers.append(threading.Timer(moment[1], cancel_now))
                timers[0].start()

        seeds = {part.name: number for number, part in enumerate(self._plan.parts)}
        try:
            self._engine.render(self._plan.parts, self._plan, seeds, progress, cancel, {})
        except Cancelled:
            return time.perf_counter() - cancelled_at[0]
        finally:
            for timer in timers:
                timer.cancel()
        return None


def _allocated(bench: Bench) -> int:
    return torch.cuda.memory_allocated(bench.device) if bench.on_gpu else 0
