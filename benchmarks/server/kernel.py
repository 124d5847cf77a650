"""`make bench-kernel`: the server while the kernel is idle, computes in Python, in torch, or in one long C call.

Owns the method, the table and what it recommends. A song's worker publishes 50 progress events a second to a room, the
server in a thread of the busy process or in a process of its own; subscribers in another process measure each event
from the publisher's stamp, and a client joins 20 times a second and measures its answer and its replay. Rounds in which
every kernel and every place has its turn: an event's p50 and p99 are medians over the rounds, max is the highest; a
join's are of all joins. The last measurement is the time that a shorter switch interval costs the cell.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from contextlib import ExitStack, closing
from typing import Any

from benchmarks.server.children import Child, python_child
from benchmarks.server.environment import allow_files, format_versions, server_versions
from benchmarks.server.generation import FIRST_TICK, GENERATION
from benchmarks.server.probe import Probe
from benchmarks.server.subscribers import percentiles
from harmonia_lab.bench.report import check_range, format_spread, publish, spread
from harmonia_lab.engines.probes import host
from harmonia_lab.server.settings import ServerSettings

__all__ = ["measure", "run"]

EVENTS_PER_S = 50
JOINS_PER_S = 20
LOADS = {"idle": "idle", "python": "pure Python", "torch": "torch", "call": "one long C call"}
QUIET_S = 0.3
HOLD_S = 2.0
"""Approximate length of the long C call, seconds."""

PYTHONS_OWN_S = 0.005
"""CPython's default switch interval, seconds."""

INTERVALS_S = (PYTHONS_OWN_S, 0.002, 0.001, 0.0005)
SLICES, SLICE_S = 20, 0.25
"""Turns of each switch interval, and their seconds."""

ACCEPTED = 1.05
"""A shorter switch interval may take this many times a cell's time, at most."""


def run(options: argparse.Namespace) -> int:
    check_range("subscribers", options.subscribers, 4000)
    check_range("seconds", options.seconds, 60)
    check_range("rounds", options.rounds, 100)
    figures = measure(subscribers=options.subscribers, seconds=options.seconds, rounds=options.rounds)
    return publish(figures, _table(figures), options.json)


def measure(*, subscribers: int, seconds: float, rounds: int) -> dict[str, Any]:
    """Measure everything. seconds: of each turn. Raises HarmoniaError."""
    allow_files(2 * subscribers + 256)
    loads = [load for load in LOADS if load != "torch" or importlib.util.find_spec("torch") is not None]
    others = [interval_s for interval_s in INTERVALS_S if interval_s != ServerSettings().switch_interval_s]
    samples: dict[tuple[str, str, float | None], list[dict[str, Any]]] = {}
    holds = {}
    with ExitStack() as stack:
        places = {name: _Place(name, stack, subscribers) for name in ("thread", "isolated")}
        plan: list[tuple[str, str, float | None]] = [(load, name, None) for load in loads for name in places]
        plan += [("python", "thread", interval_s) for interval_s in others]
        for name, place in places.items():
            for load in loads:
                seen = place.kernel.request(do="prepare", load=load, hold_s=HOLD_S)
                if seen:
                    holds[name] = seen
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            for load, name, interval_s in plan:
                turn = places[name].turn(load, seconds, interval_s)
                samples.setdefault((load, name, interval_s), []).append(turn)
        print("what the switch interval costs", file=sys.stderr)
        costs = places["thread"].costs()
    figures = {
        "subscribers": subscribers,
        "seconds": seconds,
        "rounds": rounds,
        "events_per_s": EVENTS_PER_S,
        "joins_per_s": JOINS_PER_S,
        "published_by": "a thread of the server's process, through journal, fan-out and thread bridge; nothing dropped",
        "compression": "off",
        "rows": [_row(*key, own) for key, own in samples.items()],
        "without": [] if "torch" in loads else ["torch: not installed"],
        "long_c_call": holds,
        "switch_interval": costs,
        "default_switch_interval_ms": 1e3 * (ServerSettings().switch_interval_s or PYTHONS_OWN_S),
        "date": time.strftime("%Y-%m-%d"),
        "host": host(),
        "versions": server_versions(),
    }
    return figures | {"recommended": _recommended(figures)}


class _Place:
    """Where the server runs: in a thread of the kernel, or in its own process, as `harmonia serve --attached` does."""

    def __init__(self, name: str, stack: ExitStack, subscribers: int) -> None:
        def process(what: str) -> Child:
            return stack.enter_context(python_child(what, "benchmarks.server.kernel_process"))

        self.name = name
        self._next_tick = FIRST_TICK
        self.kernel = process("kernel")
        self._server = self.kernel if name == "thread" else process("server")
        self._load = stack.enter_context(python_child("subscribers", "benchmarks.server.subscribers"))
        address = self._server.request(do="serve")
        self._load.request(do="connect", generation_id=GENERATION, count=subscribers, **address)
        self._probe = stack.enter_context(closing(Probe(**address)))

    def turn(self, load: str, seconds: float, switch_s: float | None) -> dict[str, Any]:
        """Load the kernel and measure meanwhile. switch_s: another switch interval than the default, seconds."""
        count = round(seconds * EVENTS_PER_S)
        first, self._next_tick = self._next_tick, self._next_tick + count
        publish: dict[str, Any] = {"first": first, "count": count, "gap_s": 1 / EVENTS_PER_S}
        work: dict[str, Any] = {"do": "work", "load": load, "seconds": seconds}
        self._load.request(do="measure")
        if self._server is self.kernel:
            self.kernel.send(**work, **publish, switch_s=switch_s)
        else:
            self.kernel.send(**work)
            self._server.send(**work | {"load": "idle"}, **publish)
        asked = self._probe.run(seconds, 1 / JOINS_PER_S)
        done = self.kernel.receive()
        if self._server is not self.kernel:
            done = self._server.receive() | {"steps": done["steps"]}
        # What has not arrived by now was dropped: the server drops progress events while the kernel holds the lock.
        report = self._load.request(do="report", first=first, count=count, quiet_s=QUIET_S)
        return {
            "events": count,
            "deliveries": report["deliveries"],
            "thinned_out": report["missing"],
            "disordered": report["disordered"],
            "event_ms": report["latency_ms"],
            "published_late_ms": done["published_late_ms"],
            "kernel_steps": done["steps"],
            **asked,
        }

    def costs(self) -> list[dict[str, Any]]:
        """Return the time of a pure Python loop by switch interval, as a multiple of that under Python's default."""
        events = round(SLICES * len(INTERVALS_S) * SLICE_S * EVENTS_PER_S)
        first, self._next_tick = self._next_tick, self._next_tick + events
        asked: dict[str, Any] = {"intervals_s": INTERVALS_S, "slices": SLICES, "slice_s": SLICE_S}
        turns = self.kernel.request(do="switching", **asked, first=first, gap_s=1 / EVENTS_PER_S)["turns"]
        self._load.request(do="report", first=first, count=0)
        return [
            {"interval_ms": 1e3 * interval_s, "slices": len(own)}
            | {
                clock: spread([o[clock] / t[clock] for o, t in zip(own, turns[0], strict=True)])
                for clock in ("wall", "cpu")
            }
            for interval_s, own in zip(INTERVALS_S, turns, strict=True)
        ]


def _row(load: str, server: str, switch_s: float | None, samples: list[dict[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "kernel": load,
        "server": server,
        "switch_interval_ms": None if switch_s is None else 1e3 * switch_s,
    }
    for name, figure in samples[0].items():
        values = [turn[name] for turn in samples]
        if isinstance(figure, dict):
            row[name] = _over(values)
        elif isinstance(figure, list):
            row[name] = percentiles([value for own in values for value in own])
        else:
            row[name] = sum(values)
    return row


def _over(rounds: list[dict[str, float | None]]) -> dict[str, Any]:
    """Combine the rounds' percentiles. None if nothing arrived in any round."""
    values = {name: [value for own in rounds if (value := own[name]) is not None] for name in ("p50", "p99", "max")}
    middle = {name: statistics.median(own) if own else None for name, own in values.items()}
    return middle | {"max": max(values["max"], default=None), "p99_of_rounds": values["p99"]}


def _recommended(figures: dict[str, Any]) -> dict[str, Any]:
    """Return the shortest switch interval that costs a cell at most `ACCEPTED` times its time."""
    costs = {cost["interval_ms"]: cost["wall"]["median"] for cost in figures["switch_interval"]}
    return {
        "switch_interval_ms": min(interval for interval, cost in costs.items() if cost <= ACCEPTED),
        "accepted": ACCEPTED,
        "isolated": "only where cells hold the interpreter in long C calls: in a thread, everything waits for them",
    }


def _table(figures: dict[str, Any]) -> str:
    columns = {"event_ms": "event ms", "ack_ms": "ack of a join ms", "replay_ms": "its replay ms"}
    lines = [f"{'kernel':<18}{'server':<10}{'switch ms':>10}" + "".join(f"{name:>27}" for name in columns.values())]
    lines[0] += f"{'published late ms':>22}{'joins':>7}{'thinned':>9}"
    lines.append(" " * 38 + f"{'p50 / p99 / max':>27}" * 3 + f"{'p99 / max':>22}")
    for row in figures["rows"]:
        interval = row["switch_interval_ms"]
        shown_interval = f"{interval:g}" if interval else "default" if row["server"] == "thread" else ""
        cells = f"{LOADS[row['kernel']]:<18}{row['server']:<10}{shown_interval:>10}"
        cells += "".join(f"{_three(row[column]):>27}" for column in columns)
        cells += f"{_three(row['published_late_ms'], 'p99', 'max'):>22}{row['joins']:>7}{row['thinned_out']:>9}"
        lines.append(cells)
    lines += ["", "event: from its publishing. published late: how long the song's own thread waited before it could."]
    lines += ["a pure Python loop's time, by switch interval, while events go out:"]
    lines += [
        f"  {cost['interval_ms']:g} ms: {format_spread(cost['wall'])} × that at {1e3 * PYTHONS_OWN_S:g} ms;"
        f" of processor time {format_spread(cost['cpu'])} ×; n = {cost['slices']}"
        for cost in figures["switch_interval"]
    ]
    lines += [
        f"the long C call, {place}: {seen['call_s']:.2f} s, no other thread ran for {100 * seen['held']:.0f} % of it"
        for place, seen in figures["long_c_call"].items()
    ]
    lines += [f"not measured: {reason}" for reason in figures["without"]]
    best, this = figures["recommended"], figures["host"]
    advice = (
        f"recommended: a switch interval of {best['switch_interval_ms']:g} ms, the shortest tried that costs a cell at"
        f" most {best['accepted']:g} × its time (default {figures['default_switch_interval_ms']:g} ms); isolated"
        f" {best['isolated']}"
    )
    circumstances = (
        f"{figures['subscribers']} subscribers × {figures['events_per_s']} events/s, n = {figures['rounds']} rounds of"
        f" {figures['seconds']:g} s, compression {figures['compression']}; {this['cpu']}, {this['cores']} cores;"
        f" Python {this['python']}, {format_versions(figures['versions'])}; {figures['date']}"
    )
    lines += [advice, circumstances]
    return "\n".join(lines)


def _three(figure: dict[str, float | None], *names: str) -> str:
    values = [figure[name] for name in names or ("p50", "p99", "max")]
    return " / ".join("–" if value is None else f"{value:.1f}" for value in values)
