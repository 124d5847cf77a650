"""`make bench-fanout`: broadcast an event to a room; our server beside python-socketio's and JavaScript's socket.io.

Owns the method and the table. Every server has the same client, sends the same bytes and doesn't compress. In each
round every server has its turn, so that other load on the machine affects all of them. A round's figures are the
processor time of the server's process for each delivery, and the latency from the publisher's time stamp to the client;
a row's are medians over the rounds with their range, and its ratios are taken within a round. The row "floor" is a loop
that sends the finished bytes to one socket after the other.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from benchmarks.server.children import Child, python_child
from benchmarks.server.environment import allow_files, format_versions, server_versions
from benchmarks.server.generation import FIRST_TICK, GENERATION, progress
from benchmarks.server.javascript import installed_packages, node_command
from harmonia_lab.bench.report import check_range, format_spread, publish, spread
from harmonia_lab.engines.probes import host
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.protocol.event_codec import encode

__all__ = ["measure", "run", "whole_turn"]

SOCKET_IO = "4.8.4"
DELIVERIES_PER_S = 5000
"""At any number of subscribers: half of what the slowest server can do on one core."""

TURN_S = 1.7
WARM_UP = (40_000, 20_000)
"""Deliveries, and deliveries/s, before the first round: by then V8 has compiled the code."""

ATTEMPTS = 5
"""At a turn. Our server drops progress events when the machine is busy; such a turn is repeated."""

PEERS = ("javascript", "stock", "floor")
COMPRESSED = "stock, compressed"
COMPRESSION = f"off, the client offers none; in {COMPRESSED!r} it offers it as browsers do"
ACCELERATOR = "none: ws without its optional bufferutil and utf-8-validate, as npm installs socket.io"


def run(options: argparse.Namespace) -> int:
    check_range("rounds", options.rounds, 100)
    for count in options.subscribers:
        check_range("subscribers", count, 4000)
    figures = measure(subscribers=options.subscribers, rounds=options.rounds)
    return publish(figures, _table(figures), options.json)


def measure(*, subscribers: Sequence[int], rounds: int) -> dict[str, Any]:
    """Measure `rounds` rounds for each number of subscribers; each server has a turn in each round.

    Raises HarmoniaError if a server can't be started, or loses deliveries in every attempt.
    """
    allow_files(2 * max(subscribers) + 256)
    rows = []
    for count in subscribers:
        rows += _at(count, rounds)
    return {
        "rounds": rounds,
        "deliveries_per_s": DELIVERIES_PER_S,
        "payload": encode(progress(FIRST_TICK))[1],
        "compression": COMPRESSION,
        "javascript_accelerator": ACCELERATOR,
        "rows": rows,
        "date": time.strftime("%Y-%m-%d"),
        "host": host(),
        "versions": server_versions() | {"socket.io": SOCKET_IO, "node": _node_version()},
    }


def _servers() -> dict[str, Callable[[], Child]]:
    module = "benchmarks.server.fanout_servers"
    servers = {"ours": lambda: python_child("server", module, "ours"), "javascript": _javascript}
    servers["stock"] = lambda: python_child("stock server", module, "stock")
    servers[COMPRESSED] = servers["stock"]
    if importlib.util.find_spec("uvloop") is not None:
        servers["stock on uvloop"] = lambda: python_child("stock server on uvloop", module, "stock-uvloop")
    servers["floor"] = lambda: python_child("floor", module, "floor")
    return servers


def _javascript() -> Child:
    packages = installed_packages({"socket.io": SOCKET_IO})
    script = Path(__file__).with_name("fanout_server.cjs")
    environment = os.environ | {"NODE_PATH": str(packages / "node_modules"), "NODE_ENV": "production"}
    return Child("JavaScript server", [*node_command(), str(script)], environment)


class Measured(Protocol):
    name: str

    def turn(self, seconds: float) -> dict[str, Any]: ...


class _MeasuredServer:
    """A server and its subscribers, both running."""

    def __init__(self, name: str, start: Callable[[], Child], stack: ExitStack, count: int) -> None:
        self.name = name
        self._server = stack.enter_context(start())
        self._load = stack.enter_context(python_child("subscribers", "benchmarks.server.subscribers"))
        self._count = count
        self._next_tick = FIRST_TICK

    def warm_up(self) -> None:
        """Connect the subscribers, and publish until the server is as fast as it gets."""
        address, offer = self._server.receive(), self.name == COMPRESSED
        self._load.request(do="connect", generation_id=GENERATION, count=self._count, compression=offer, **address)
        deliveries, per_second = WARM_UP
        self._publish(max(3, deliveries // self._count), self._count / per_second)

    def turn(self, seconds: float) -> dict[str, Any]:
        """Publish for so many seconds; return the processor time and the subscribers' report."""
        gap_s = self._count / DELIVERIES_PER_S
        before = self._server.cpu_s()
        report = self._publish(max(3, round(seconds / gap_s)), gap_s)
        cpu_us = 1e6 * (self._server.cpu_s() - before) / max(1, report["deliveries"])
        return report | {"cpu_us": cpu_us}

    def _publish(self, events: int, gap_s: float) -> dict[str, Any]:
        name, payload = encode(progress(FIRST_TICK))
        first, self._next_tick = self._next_tick, self._next_tick + events
        self._load.request(do="measure")
        self._server.request(name=name, payload=payload, first=first, count=events, gap_s=gap_s)
        return self._load.request(do="report", first=first, count=events)


def _at(count: int, rounds: int) -> list[dict[str, Any]]:
    samples: dict[str, list[dict[str, Any]]] = {}
    repeated: dict[str, int] = {}
    with ExitStack() as stack:
        print(f"{count} subscribers: warming up", file=sys.stderr)
        servers = [_MeasuredServer(name, start, stack, count) for name, start in _servers().items()]
        for server in servers:
            server.warm_up()
        for number in range(rounds):
            print(f"{count} subscribers: round {number + 1} of {rounds}", file=sys.stderr)
            shift = number % len(servers)  # no server always follows the same one
            for server in servers[shift:] + servers[:shift]:
                turn, again = whole_turn(server, TURN_S)
                samples.setdefault(server.name, []).append(turn)
                repeated[server.name] = repeated.get(server.name, 0) + again
    return [_row(name, count, samples) | {"turns_repeated": repeated[name]} for name in samples]


def whole_turn(server: Measured, turn_s: float) -> tuple[dict[str, Any], int]:
    """Return a turn in which everything arrived in order, and the number of turns before it in which it did not."""
    for attempt in range(ATTEMPTS):
        turn = server.turn(turn_s)
        if not turn["missing"] and not turn["disordered"]:
            return turn, attempt
    raise HarmoniaError(
        f"{server.name}: {turn['missing']} deliveries are missing, {turn['disordered']} out of order.",
        hint="Measure on a machine with less to do, or with fewer subscribers.",
    )


def _row(name: str, count: int, samples: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    own = samples[name]
    measured: dict[str, Callable[[dict[str, Any]], float]] = {
        "cpu_us": lambda turn: turn["cpu_us"],
        "p50_ms": lambda turn: turn["latency_ms"]["p50"],
        "p99_ms": lambda turn: turn["latency_ms"]["p99"],
    }
    row: dict[str, Any] = {
        "server": name,
        "subscribers": count,
        "rounds": len(own),
        "deliveries": sum(turn["deliveries"] for turn in own),
        "missing": sum(turn["missing"] for turn in own),
        "disordered": sum(turn["disordered"] for turn in own),
        "payload_bytes": own[0]["payload_bytes"],
    }
    for figure, of in measured.items():
        row[figure] = spread([of(turn) for turn in own])
        row[f"{figure}_ratio"] = {
            peer: spread([of(turn) / of(theirs) for turn, theirs in zip(own, samples[peer], strict=True)])
            for peer in PEERS
            if peer != name
        }
    return row


def _node_version() -> str:
    return subprocess.run(
        [*node_command(), "--version"], capture_output=True, encoding="utf-8", check=True
    ).stdout.strip()


def _table(figures: dict[str, Any]) -> str:
    head = f"{'server':<18}{'subscribers':>12}{'CPU µs/delivery':>22}{'p50 ms':>22}{'p99 ms':>24}"
    lines = [head + f"{'CPU × JavaScript':>20}{'× stock':>18}{'× floor':>20}{'p99 × JavaScript':>20}"]
    for row in figures["rows"]:
        cells = f"{row['server']:<18}{row['subscribers']:>12}"
        cpu, p99 = row["cpu_us_ratio"], row["p99_ms_ratio"]
        spreads = (
            (row["cpu_us"], 22),
            (row["p50_ms"], 22),
            (row["p99_ms"], 24),
            (cpu.get("javascript"), 20),
            (cpu.get("stock"), 18),
            (cpu.get("floor"), 20),
            (p99.get("javascript"), 20),
        )
        cells += "".join(f"{format_spread(figure):>{width}}" for figure, width in spreads)
        lines.append(cells)
    rows, this = figures["rows"], figures["host"]
    counts = {
        name: sum(row[name] for row in rows) for name in ("deliveries", "missing", "disordered", "turns_repeated")
    }
    checked = "{deliveries} deliveries checked, {missing} missing, {disordered} out of order".format(**counts)
    rounds = (
        f"n = {figures['rounds']} interleaved rounds of {figures['deliveries_per_s']} deliveries/s;"
        f" {rows[0]['payload_bytes'][0]} bytes; {checked}; {counts['turns_repeated']} turns repeated"
    )
    software = f"Python {this['python']}, {format_versions(figures['versions'])}"
    lines += [
        "",
        rounds,
        f"compression {figures['compression']}",
        f"accelerator in JavaScript: {figures['javascript_accelerator']}",
        f"{this['cpu']}, {this['cores']} cores; {software}; {figures['date']}",
    ]
    return "\n".join(lines)
