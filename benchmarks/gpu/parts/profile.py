"""Part 6: which kernels take a step's time, compared with the floor?

Owns the evaluation of torch's profile of replayed steps. A step's busy time is the union of its kernels' times; the
rest of a step is gaps. The complete table is written to `profile.txt`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from torch.profiler import ProfilerActivity, profile

if TYPE_CHECKING:
    from benchmarks.gpu.bench import Bench

STEPS = 48
SKIP = 17
"""Steps before the profile: the first records the graph, and the CPU may be sixteen steps ahead."""


def run(bench: Bench) -> None:
    for size in ("small", "large"):
        if not bench.time_for(f"profile of {size}", 8):
            continue
        musicgen = bench.build(size, bench.half)
        for position in (50, 1400) if not bench.rehearse else (20,):
            _profile(bench, size, musicgen, position)
        del musicgen
        bench.free()


def _profile(bench: Bench, size: str, musicgen: Any, position: int) -> None:
    from harmonia_lab.audio_engines.musicgen.decoder import Decoder  # noqa: PLC0415
    from harmonia_lab.audio_engines.musicgen.kv_cache import cache_bytes  # noqa: PLC0415
    from harmonia_lab.bench.decode import prompts  # noqa: PLC0415
    from harmonia_lab.bench.decode_limits import bandwidth  # noqa: PLC0415
    from harmonia_lab.bench.decode_loops import DecoderLoop  # noqa: PLC0415

    loop = DecoderLoop("ours", musicgen, Decoder(musicgen.lm, "fast"))
    steps = STEPS if bench.on_gpu else 4
    skip = SKIP if bench.on_gpu else 1
    activity = ProfilerActivity.CUDA if bench.on_gpu else ProfilerActivity.CPU
    profiler = profile(activities=[activity])
    calls = 0

    def watch(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == skip:
            bench.synchronise()
            profiler.start()
        if calls == skip + steps:
            bench.synchronise()
            profiler.stop()

    loop.run(prompts(1), position, steps + skip + 2, watch)
    events: Any = profiler.events
    spans = [
        (event.time_range.start, event.time_range.end, event.name)
        for event in events() or []
        if event.device_type.name == ("CUDA" if bench.on_gpu else "CPU")
    ]
    bytes_read = loop.weight_bytes + cache_bytes(musicgen.lm, 2, position + skip + steps // 2)
    read = bandwidth(bench.device)
    took: Counter[str] = Counter()
    for start, end, name in spans:
        took[name] += end - start
    busy, begun, ended = _union(spans)
    count = Counter(name for _, _, name in spans)
    bench.row(
        "profile",
        model=size,
        loop="ours",
        batch=1,
        position=position,
        kernels_per_step=len(spans) / steps,
        busy_ms=busy / 1e3 / steps,
        step_ms=(ended - begun) / 1e3 / steps,
        floor_ms=1e3 * bytes_read / read,
        top=[
            {"kernel": name[:120], "us_per_step": round(us / steps, 2), "per_step": round(count[name] / steps, 2)}
            for name, us in took.most_common(3)
        ],
    )
    lines = [f"{size}, position {position}, batch 1: µs a step, launches a step, µs each, kernel"]
    lines += [
        f"{us / steps:10.2f} {count[name] / steps:8.2f} {us / count[name]:8.2f}  {name[:150]}"
        for name, us in took.most_common(40)
    ]
    with (bench.out / "profile.txt").open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n\n")


def _union(spans: list[tuple[float, float, str]]) -> tuple[float, float, float]:
    """Return the time covered by any span, the first start and the last end, in the profiler's microseconds."""
    covered, end = 0.0, 0.0
    ordered = sorted(spans)
    for start, stop, _ in ordered:
        covered += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return covered, (ordered[0][0] if ordered else 0.0), end
