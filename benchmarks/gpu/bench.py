"""What every part of the measurement uses: the device, the models, the time limit, and the file of rows.

Owns no measurement: these are in `parts/`.
"""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.rows import Rows

__all__ = ["Bench", "four_instruments"]

TINY = {"small": "tiny", "medium": "tiny", "large": "tiny", "melody": "tiny-melody"}


@dataclass
class Bench:
    """The context of one part. limit_s: its time limit. out: the folder of all results. scratch: a temporary folder."""

    part: str
    device: torch.device
    rehearse: bool
    limit_s: float
    out: Path
    scratch: Path
    _rows: Rows = field(init=False)
    _began: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self._rows = Rows(self.out / "rows.jsonl")

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def half(self) -> str:
        """The precision of the measurements: float16; on a CPU, float32."""
        return "float16" if self.on_gpu else "float32"

    def left(self) -> float:
        """Return the seconds of the limit that are left."""
        return self.limit_s - (time.perf_counter() - self._began)

    def row(self, kind: str, **fields: Any) -> None:
        written = self._rows.write(self.part, kind, time.perf_counter() - self._began, **fields)
        print(" ".join(f"{name}={_short(value)}" for name, value in written.items()), flush=True)

    def unreached(self, what: str, why: str) -> None:
        self.row("unreached", what=what, why=why)

    def time_for(self, what: str, seconds: float) -> bool:
        """Return whether `seconds` are left. If not, write a row that `what` was not reached."""
        enough = self.left() > seconds
        if not enough:
            self.unreached(what, f"{self.left():.0f} s were left, about {seconds:.0f} s are needed")
        return enough

    def build(self, size: str, dtype: str) -> Any:
        """Return audiocraft's MusicGen with random weights of that size; of the tiny size in a rehearsal."""
        from harmonia_lab.audio_engines.musicgen.models import set_precision  # noqa: PLC0415
        from harmonia_lab.audio_engines.musicgen.random_checkpoint import build_model  # noqa: PLC0415

        shape: Any = TINY[size] if self.rehearse else size
        musicgen = build_model(shape, str(self.device), dtype)
        set_precision(musicgen, dtype)
        return musicgen

    def synchronise(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def free(self) -> None:
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()


def four_instruments() -> Any:
    """Return a song's metadata, so that stage 1 is skipped."""
    from harmonia_lab.protocol.models import SongMetadata  # noqa: PLC0415

    return SongMetadata(
        title="Harbour Light",
        lyrics="",
        genre="folk",
        mood=["nostalgic"],
        bpm=96,
        key="A minor",
        instruments=[
            {"name": "piano", "role": "chords"},
            {"name": "flute", "role": "lead"},
            {"name": "bass guitar", "role": "bass"},
            {"name": "drums", "role": "drums"},
        ],
    )


def _short(value: Any) -> str:
    if isinstance(value, dict) and value.keys() == {"median", "min", "max"}:
        return f"{value['median']:.4g}[{value['min']:.4g}–{value['max']:.4g}]"
    return f"{value:.5g}" if isinstance(value, float) else str(value)[:400]
