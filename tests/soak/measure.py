"""What a server under a mixed load takes over time: memory, descriptors, rooms, and how soon it answers.

Owns the readings and the slopes. A slope's interval is that of a line fitted by least squares to one value a minute
(Student's t); neighbouring minutes are alike, so it is rather too narrow.
"""

import asyncio
import statistics
import time

from benchmarks.server.children import python_child
from benchmarks.server.subscribers import percentiles
from tests.chaos.kinds import KINDS, Kind
from tests.chaos.run import SETTLE_S, warm_up
from tests.chaos.world import PATIENCE_S, World
from tests.soak.load import Load

READING_S = 5.0
WARM_UP_SHARE = 0.1
"""Of the time, which no slope counts: caches fill, and the allocator finds its size."""

SOAK = Kind("soak", "a mixed load", KINDS["cancelled"].fault)


async def measure(minutes, seed):
    """Return the figures of so many minutes of load on a server of its own."""
    async with World(SOAK) as world:
        await warm_up(world)
        return await measure_in(world, minutes, seed)


async def measure_in(world, minutes, seed):
    """Return the readings, one a few seconds, the latencies of joins, by minute, and what was done and went wrong."""
    load, over = Load(world, seed), asyncio.Event()
    working = asyncio.create_task(load.run(over))
    with python_child("probe", "tests.soak.probe") as probe:
        url, token, song = world.victim.url, world.tokens["bob"], f"calm0-{world.mark}"
        probe.send(url=url, token=token, song=song, seconds=60 * minutes)
        answer = asyncio.create_task(asyncio.to_thread(probe.receive, 60 * minutes + PATIENCE_S))
        readings = await _read_until(world, answer)
        acks = answer.result()["acks"]
    over.set()
    await working
    return {
        "minutes": minutes,
        "readings": readings,
        "ack_ms": [percentiles(part) for part in _by_minute(acks, minutes)],
        "start": _figures(world.base),
        "end": _figures(await _at_rest(world)),
        "counts": dict(load.counts),
        "faults": load.faults + [f"process {pid} is nobody's child" for pid in world.orphans()],
    }


async def _read_until(world, answer):
    """Return a reading a few seconds, until the probe has answered."""
    readings, began = [], time.monotonic()
    while not answer.done():
        readings.append({"at_s": round(time.monotonic() - began, 1), **_figures(await world.ask())})
        await asyncio.wait({answer}, timeout=READING_S)
    return readings


async def _at_rest(world):
    """Return what the server says of itself once the load's sockets have closed."""
    deadline = time.monotonic() + SETTLE_S
    while (state := await world.ask())["rooms"] != world.base["rooms"] and time.monotonic() < deadline:  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.2)
    return state


def _figures(state):
    return {"pss": state["pss"], "descriptors": state["descriptors"], "rooms": state["rooms"]}


def _by_minute(acks, minutes):
    parts = [[] for _ in range(max(1, round(minutes)))]
    for at, ms in acks:
        parts[min(int(at // 60), len(parts) - 1)].append(ms)
    return [part for part in parts if part]


def slopes(figures):
    """Return by name (slope, low, high), a minute, after warm-up: of memory in MB, descriptors, p99 in ms."""
    warm_s = 60 * figures["minutes"] * WARM_UP_SHARE
    late = [reading for reading in figures["readings"] if reading["at_s"] >= warm_s]
    minutes = sorted({int(reading["at_s"] // 60) for reading in late})
    found = {}
    for name, scale in (("pss", 1e-6), ("descriptors", 1.0)):
        values = [statistics.median(r[name] for r in late if int(r["at_s"] // 60) == minute) for minute in minutes]
        found[name] = slope(minutes, [scale * value for value in values])
    p99 = [part["p99"] for part in figures["ack_ms"]]
    first = round(figures["minutes"] * WARM_UP_SHARE)
    found["p99"] = slope(range(first, len(p99)), p99[first:])
    return found


def slope(xs, ys):
    """Return the slope of a line, and the limits of its 95 % interval; None for fewer than four points."""
    xs, n = list(xs), len(ys)
    if n < 4:
        return None
    from scipy.stats import t

    x0, y0 = statistics.fmean(xs), statistics.fmean(ys)
    spread = sum((x - x0) ** 2 for x in xs)
    found = sum((x - x0) * (y - y0) for x, y in zip(xs, ys, strict=True)) / spread
    rest = sum((y - y0 - found * (x - x0)) ** 2 for x, y in zip(xs, ys, strict=True))
    half = t.ppf(0.975, n - 2) * (rest / (n - 2) / spread) ** 0.5
    return found, found - half, found + half
