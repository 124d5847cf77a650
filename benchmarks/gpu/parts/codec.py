"""Part 7: how many seconds of audio per second are decoded, as a whole and in the pieces of previews, and mixed?

Owns these three measurements. The codec is MusicGen's with random weights, the stems are noise.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harmonia_lab.bench.report import spread

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.gpu.bench import Bench
    from harmonia_lab.protocol.vocabulary import Role


def run(bench: Bench) -> None:
    from harmonia_lab.audio_engines.musicgen.encodec_stream import CodecStream  # noqa: PLC0415
    from harmonia_lab.audio_engines.musicgen.stem_sound import PIECE  # noqa: PLC0415

    musicgen = bench.build("small", bench.half)
    codec, rate = musicgen.compression_model, musicgen.frame_rate
    frames = 50 if bench.rehearse else 1500
    shape = (1, musicgen.lm.n_q, frames)
    codes = torch.randint(0, musicgen.lm.card, shape, generator=torch.Generator().manual_seed(3)).to(bench.device)

    def whole() -> None:
        with torch.inference_mode():
            codec.decode(codes).cpu()

    def pieces() -> None:
        stream = CodecStream(codec)
        for at in range(0, frames, PIECE):
            stream.push(codes[..., at : at + PIECE], last=at + PIECE >= frames).cpu()

    _measure(bench, "codec, the whole at once", whole, frames / rate)
    _measure(bench, "codec, in pieces of half a second", pieces, frames / rate)
    seconds = 2.0 if bench.rehearse else 30.0
    _measure(bench, "mix of four stems, on the CPU", _mix(seconds), seconds)


def _mix(seconds: float) -> Callable[[], Any]:
    from harmonia_lab.audio_engines.mixing import mix  # noqa: PLC0415
    from harmonia_lab.engines.base import CancelToken, Stem  # noqa: PLC0415

    noise = np.random.default_rng(0)
    roles: dict[str, Role] = {"piano": "chords", "flute": "lead", "bass": "bass", "drums": "drums"}
    stems = [
        Stem(name, role, noise.standard_normal((1, round(seconds * 32000)), dtype=np.float32) / np.float32(10), 32000)
        for name, role in roles.items()
    ]
    return lambda: mix(stems, seconds=seconds, cancel=CancelToken(), progress=lambda _: None)


def _measure(bench: Bench, what: str, work: Callable[[], Any], seconds: float) -> None:
    work()
    rates = []
    for _ in range(2 if bench.rehearse else 4):
        bench.synchronise()
        begin = time.perf_counter()
        work()
        rates.append(seconds / (time.perf_counter() - begin))
    bench.row("codec", what=what, audio_seconds_per_second=spread(rates))
