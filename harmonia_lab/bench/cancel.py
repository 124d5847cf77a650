"""`harmonia bench cancel`: how long a cancel takes, from a client's command to `generation-cancelled`.

Owns the method. A song, made when the engines have loaded, shows how long each stage takes. Then songs are cancelled
over a real socket, at moments drawn uniformly from a stage. Client and server share the process, so the figures include
both. Memory and child processes that the cancelled songs leave are counted afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from harmonia_lab.bench.pipeline import STORY
from harmonia_lab.bench.report import check_range, circumstances, publish
from harmonia_lab.client import Client
from harmonia_lab.lab import Lab
from harmonia_lab.protocol.events import AudioGenerationComplete, GenerationCancelled
from harmonia_lab.protocol.models import SongMetadata
from harmonia_lab.server.settings import RateLimits, ServerSettings
from harmonia_lab.store.run_log import RunLabels

__all__ = ["measure", "run"]


def run(options: argparse.Namespace) -> int:
    check_range("runs", options.runs, 1000)
    check_range("seconds", options.seconds, 600)
    figures = measure(runs=options.runs, seconds=options.seconds)
    return publish(figures, _table(figures), options.json)


def measure(*, runs: int, seconds: float) -> dict[str, Any]:
    """Cancel `runs` songs of `seconds` s in each stage. Return milliseconds by stage, and what the songs left."""
    with (
        tempfile.TemporaryDirectory(prefix="harmonia-bench-") as scratch,
        Lab(
            metadata="embedded",
            audio="sketch",
            songs=Path(scratch) / "songs",
            home=scratch,
            labels=RunLabels("bench"),
        ) as lab,
    ):
        server = lab.serve(ServerSettings(port=0, rates=RateLimits(starts=(1000.0, 1000))))
        stages = asyncio.run(_measure(server.url, server.token(), lab, runs, seconds))
        left = [path.name for path in lab.songs.iterdir() if "partial" in path.name]
    return {
        "runs": runs,
        "seconds": seconds,
        "stages": stages,
        "partial_folders_left": len(left),
        **circumstances(),
    }


async def _measure(url: str, token: str, lab: Lab, runs: int, seconds: float) -> dict[str, Any]:
    async with Client(url) as client:
        await client.connect(token)
        await lab.submit(STORY, seconds=seconds, seed=0)  # engines load, and the first samples are slower
        song = await lab.submit(STORY, seconds=seconds, seed=1)
        asked: dict[str, tuple[str, SongMetadata | None]] = {"metadata": (STORY, None), "audio": ("", song.metadata)}
        figures = {}
        for stage, (story, metadata) in asked.items():
            moments = random.Random(0)  # noqa: S311 - not a secret
            stage_s = song.timings[stage]
            before = _footprint()
            latencies = []
            for number in range(runs):
                request = {"metadata": metadata, "seconds": seconds, "seed": number}
                latencies.append(await _cancel(client, moments.uniform(0, stage_s), story, request))
                print(f"{stage}: {number + 1} of {runs}", file=sys.stderr)
            after = _footprint()
            cancelled = [latency for latency in latencies if latency is not None]
            figures[stage] = {
                "n": len(cancelled),
                "ended_before": runs - len(cancelled),
                "stage_s": stage_s,
                **{f"p{p}_ms": _percentile(cancelled, p) for p in (50, 95, 100)},
                "memory_mib": {"before": before[0], "after": after[0]},
                "children": {"before": before[1], "after": after[1]},
            }
        return figures


async def _cancel(client: Client, after_s: float, story: str, request: dict[str, Any]) -> float | None:
    """Return milliseconds from the command to the event; None if the song was done before the command."""
    events = client.events()
    ack = await client.start(story, **request)
    await asyncio.sleep(after_s)
    asked = time.perf_counter()
    cancelling = asyncio.create_task(client.cancel(ack.generation_id))
    async for event in events:
        if (
            isinstance(event, GenerationCancelled | AudioGenerationComplete)
            and event.generation_id == ack.generation_id
        ):
            latency = (time.perf_counter() - asked) * 1000
            break
    events.close()
    await asyncio.wait([cancelling])
    cancelling.exception()  # retrieved, since the server refuses to cancel a song that is done
    return latency if isinstance(event, GenerationCancelled) else None


def _footprint() -> tuple[float, int]:
    """Return the resident memory (MiB) of this process and its children, and the number of children."""
    this = psutil.Process()
    children = this.children(recursive=True)
    return round(sum(process.memory_info().rss for process in [this, *children]) / 2**20, 1), len(children)


def _percentile(values: list[float], percent: float) -> float | None:
    """Return the smallest of the values that `percent` % of them do not exceed; None without values."""
    return round(float(np.percentile(values, percent, method="inverted_cdf")), 1) if values else None


def _shown(milliseconds: float | None) -> str:
    return "–" if milliseconds is None else f"{milliseconds:g}"


def _table(figures: dict[str, Any]) -> str:
    lines = [f"{'cancelled in':<14}{'n':>5}{'p50':>9}{'p95':>9}{'max':>9}  ms   memory, children: before → after"]
    for stage, values in figures["stages"].items():
        cells = "".join(f"{_shown(values[key]):>9}" for key in ("p50_ms", "p95_ms", "p100_ms"))
        memory, children = values["memory_mib"], values["children"]
        lines.append(
            f"{stage:<14}{values['n']:>5}{cells}       {memory['before']:g} → {memory['after']:g} MiB, "
            f"{children['before']} → {children['after']}"
        )
    this = figures["host"]
    lines.append(f"songs of {figures['seconds']:g} s; {this['cpu']}, {this['cores']} cores")
    return "\n".join(lines)
