"""Part 1: which machine is this, what does it lack, and what are its limits in bytes read and launches per second?

Owns the check whether the other parts can work: exit status 3 if they can't.
"""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import time
from typing import TYPE_CHECKING, Any

import torch

from harmonia_lab.bench.report import spread

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.gpu.bench import Bench

PACKAGES = ("torch", "triton", "transformers", "numpy", "audiocraft", "nvidia-ml-py", "einops", "julius", "omegaconf")
CANT_GO_ON = 3


def run(bench: Bench) -> int:
    problems = _problems()
    bench.row("missing", problems=problems)
    bench.row(
        "machine",
        device=torch.cuda.get_device_name(bench.device) if bench.on_gpu else "cpu",
        driver=_driver(),
        versions=_versions() | {"cuda": str(torch.version.cuda), "python": platform.python_version()},
        host=_host(),
        clocks=_clocks(),
    )
    if problems:
        return CANT_GO_ON
    if not bench.on_gpu and not bench.rehearse:
        bench.row("missing", problems=["torch sees no CUDA device"])
        return CANT_GO_ON
    _read_bandwidth(bench)
    _launches(bench)
    return 0


def _problems() -> list[str]:
    """Return a line for each module that a MusicGen song needs and that can't be imported here."""
    problems = []
    for name in ("harmonia_lab.lab", "harmonia_lab.audio_engines.musicgen.engine", "pynvml"):
        try:
            __import__(name)
        except ImportError as error:
            problems.append(f"{name}: {error}")
    from harmonia_lab.audio_engines.musicgen.audiocraft_standins import load_audiocraft  # noqa: PLC0415
    from harmonia_lab.audio_engines.musicgen.install import missing  # noqa: PLC0415
    from harmonia_lab.errors import HarmoniaError  # noqa: PLC0415

    problems += [f"{name} is not installed" for name in missing()]
    try:
        load_audiocraft()
    except HarmoniaError as error:
        problems.append(str(error))
    return problems


def _read_bandwidth(bench: Bench) -> None:
    from harmonia_lab.bench.decode_limits import bandwidth  # noqa: PLC0415

    rounds = [bandwidth(bench.device) / 1e9 for _ in range(5 if bench.on_gpu else 2)]
    bench.row("ceiling", name="read bandwidth", unit="GB/s", value=spread(rounds))


def _launches(bench: Bench) -> None:
    """Measure launches per second with a minimal kernel, launched one by one and as nodes of a graph."""
    count = 2000 if bench.on_gpu else 50
    one = torch.zeros(1, device=bench.device)

    def eager() -> None:
        for _ in range(count):
            one.add_(1)

    bench.row("ceiling", name="launches", unit="1/s", value=_rate(bench, eager, count))
    if not bench.on_gpu:
        bench.unreached("launches from a graph", "there is no CUDA device")
        return
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        eager()
    bench.row("ceiling", name="launches in a graph", unit="1/s", value=_rate(bench, graph.replay, count))


def _rate(bench: Bench, launch: Callable[[], None], count: int) -> dict[str, float]:
    rates = []
    for number in range(6):
        bench.synchronise()
        begin = time.perf_counter()
        launch()
        bench.synchronise()
        if number:
            rates.append(count / (time.perf_counter() - begin))
    return spread(rates)


def _driver() -> str | None:
    from harmonia_lab.engines.probes import gpu_facts  # noqa: PLC0415

    return gpu_facts()["gpu_driver"]


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _host() -> dict[str, Any]:
    from harmonia_lab.engines.probes import host  # noqa: PLC0415

    return {name: value for name, value in host().items() if name != "host"}


def _clocks() -> dict[str, str]:
    """Return nvidia-smi's readings, in its units; none without nvidia-smi."""
    fields = "clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.draw,power.limit,temperature.gpu,pstate"
    try:
        output = subprocess.run(
            ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"],
            capture_output=True, encoding="utf-8", timeout=10, check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return {}
    first = next(iter(output.splitlines()), "")
    return dict(zip(fields.split(","), (value.strip() for value in first.split(",")), strict=False))
