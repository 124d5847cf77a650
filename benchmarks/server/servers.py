"""`python -m benchmarks.server servers`: servers that share a Redis, beside one that is alone.

Owns the method and the table: processor time for each delivery with one server, with one that shares a Redis with a
second one, and with two that have half of the sockets each, in turn in each round; and how long a cancel takes through
the server that makes the song, and through the other one. Needs a redis-server.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.server.children import Child, python_child
from benchmarks.server.environment import allow_files, format_versions, server_versions
from benchmarks.server.fanout import whole_turn
from benchmarks.server.generation import FIRST_TICK, GENERATION
from benchmarks.server.subscribers import percentiles
from benchmarks.server.websocket import LightSocket
from harmonia_lab.bench.report import check_range, format_spread, publish, spread
from harmonia_lab.engines.probes import host
from harmonia_lab.errors import HarmoniaError, InvalidRequest

__all__ = ["run"]

DELIVERIES_PER_S = 10_000
GAP_S = 0.05
"""Least seconds between two events: every 20 ms, servers tell each other the latest progress of each generation."""

TURN_S = 3.0
LEAST_EVENTS = 5
WARM_UP_S = 2.0
CONNECT_S = 300.0
START_S = 20.0

ALONE, NEIGHBOUR, TWO = "one", "one, with Redis", "two, with Redis"
"""The second one has a second server beside it without subscribers, as all others are for a song that nobody follows
there."""


def run(options: argparse.Namespace) -> int:
    check_range("rounds", options.rounds, 100)
    check_range("cancels", options.cancels, 1000)
    for count in options.subscribers:
        check_range("subscribers", count, 5000)
    if shutil.which("redis-server") is None:
        raise InvalidRequest("There is no redis-server.", hint="apt-get install redis-server")
    allow_files(2 * max(options.subscribers) + 256)
    with tempfile.TemporaryDirectory(prefix="harmonia-bench-") as scratch:
        key = str(Path(scratch) / "token.key")
        rows = [row for count in options.subscribers for row in _at(count, options.rounds, key)]
        cancels = _cancels(options.cancels, key)
    versions = server_versions() | {"redis-server": _redis_version()}
    figures = {"rounds": options.rounds, "rows": rows, "cancels": cancels}
    figures |= {"date": time.strftime("%Y-%m-%d"), "host": host(), "versions": versions}
    return publish(figures, _table(figures), options.json)


@contextmanager
def _redis() -> Iterator[tuple[Child, str]]:
    """Yield a redis-server with an append-only file, as docs/deploy/redis.conf has it, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="harmonia-bench-") as folder:
        where = ["--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--logfile", f"{folder}/log"]
        promise = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        with Child("Redis", ["redis-server", *where, *promise]) as child:
            deadline = time.monotonic() + START_S
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise HarmoniaError("The redis-server does not answer.") from None
                    time.sleep(0.02)
            yield child, f"redis://127.0.0.1:{port}/0"


class _Group:
    """Servers, and the subscribers of each. The first one publishes."""

    def __init__(self, name: str, counts: Sequence[int], stack: ExitStack, key: str, *, shared: bool) -> None:
        self.name, self._counts, self._next_tick = name, counts, FIRST_TICK
        self._redis: Child | None = None
        self.servers: list[Child] = []
        self.addresses: list[dict[str, Any]] = []
        self._loads: list[Child] = []
        url = ""
        if shared:
            self._redis, url = stack.enter_context(_redis())
        for _ in counts:
            server = stack.enter_context(python_child("server", "benchmarks.server.sharing_server", key, url))
            self.servers.append(server)
            self.addresses.append(server.receive())
        self._publish(1, 0.0)
        before = self._memory()
        for address, count in zip(self.addresses, counts, strict=True):
            load = stack.enter_context(python_child("subscribers", "benchmarks.server.subscribers"))
            load.request(CONNECT_S, do="connect", generation_id=GENERATION, count=count, **address)
            self._loads.append(load)
        self.socket_kb = (self._memory() - before) / 1024 / sum(counts)

    def turn(self, seconds: float) -> dict[str, Any]:
        """Publish for so many seconds; return the subscribers' report, and processor time in µs: of all servers for
        each delivery, of Redis and of the last server for each event."""
        gap_s = max(GAP_S, sum(self._counts) / DELIVERIES_PER_S)
        events = max(LEAST_EVENTS, round(seconds / gap_s))
        processes = [*self.servers, *([self._redis] if self._redis else [])]
        before = [process.cpu_s() for process in processes]
        first = self._next_tick
        for load in self._loads:
            load.request(do="measure")
        self._publish(events, gap_s)
        reports = [load.request(do="report", first=first, count=events) for load in self._loads]
        spent_us = [1e6 * (process.cpu_s() - one) for process, one in zip(processes, before, strict=True)]
        found: dict[str, Any] = {name: sum(report[name] for report in reports) for name in COUNTED}
        found["cpu_us"] = sum(spent_us[: len(self.servers)]) / max(1, found["deliveries"])
        if self._redis:
            found["redis_event_us"] = spent_us[-1] / events
        if self.name == NEIGHBOUR:  # its share in the deliveries is none: what it costs is told apart
            found["cpu_us"] = spent_us[0] / max(1, found["deliveries"])
            found["neighbour_event_us"] = spent_us[1] / events
        for place, report in zip(("here", "there"), reports, strict=False):
            if report["deliveries"]:
                found |= {f"{place}_{p}_ms": report["latency_ms"][p] for p in ("p50", "p99")}
        return found

    def _publish(self, events: int, gap_s: float) -> None:
        first, self._next_tick = self._next_tick, self._next_tick + events
        self.servers[0].request(CONNECT_S, do="publish", first=first, count=events, gap_s=gap_s)

    def _memory(self) -> int:
        return sum(server.request(do="memory")["bytes"] for server in self.servers)


COUNTED = ("deliveries", "missing", "disordered")


def _at(count: int, rounds: int, key: str) -> list[dict[str, Any]]:
    samples: dict[str, list[dict[str, Any]]] = {}
    with ExitStack() as stack:
        print(f"{count} subscribers: connecting", file=sys.stderr)
        groups = [
            _Group(ALONE, [count], stack, key, shared=False),
            _Group(NEIGHBOUR, [count, 0], stack, key, shared=True),
            _Group(TWO, [count - count // 2, count // 2], stack, key, shared=True),
        ]
        for group in groups:
            group.turn(WARM_UP_S)
        for number in range(rounds):
            print(f"{count} subscribers: round {number + 1} of {rounds}", file=sys.stderr)
            shift = number % len(groups)
            for group in groups[shift:] + groups[:shift]:
                samples.setdefault(group.name, []).append(whole_turn(group, TURN_S)[0])
        return [_row(group, count, samples) for group in groups]


def _row(group: _Group, count: int, samples: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    own = samples[group.name]
    row: dict[str, Any] = {"servers": group.name, "subscribers": count, "socket_kb": round(group.socket_kb, 1)}
    row |= {name: sum(turn[name] for turn in own) for name in COUNTED}
    row |= {name: spread([turn[name] for turn in own]) for name in own[0] if name not in COUNTED}
    ratios = [turn["cpu_us"] / one["cpu_us"] for turn, one in zip(own, samples[ALONE], strict=True)]
    return row | {"cpu_ratio": spread(ratios)}


def _cancels(count: int, key: str) -> dict[str, Any]:
    """Cancel songs in stage 1, turn about through the server that makes them and through the other one. Return
    milliseconds to the acknowledgement, and to the event that says so at the same server."""
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        print(f"{count} cancels through either server", file=sys.stderr)
        group = _Group(TWO, [1, 1], stack, key, shared=True)
        sockets = [LightSocket(address["url"], address["token"]) for address in group.addresses]
        for light in sockets:
            stack.callback(light.close)
        for number in range(2 * count):
            place = ("here", "there")[number % 2]
            acked, heard = _cancel(sockets[0], sockets[number % 2], 3 * number)
            found.setdefault(f"{place}_ack_ms", []).append(acked)
            found.setdefault(f"{place}_event_ms", []).append(heard)
    return {name: _quantiles(values) for name, values in found.items()}


def _cancel(maker: LightSocket, other: LightSocket, number: int) -> tuple[float, float]:
    maker.emit(number, "start-generation", {"narrative": "A song that is never finished.", "seconds": 1})
    answer = json.loads(maker.receive_until(b"43%d[" % number)[-1].partition(b"[")[2][:-1])
    asked = {"generationId": answer["generationId"]}
    other.emit(number + 1, "join-generation", asked | {"afterSeq": 0})
    seen = other.receive_until(b"43%d[" % (number + 1))
    if not any(packet.startswith(STARTED) for packet in seen):
        other.receive_until(STARTED)
    at = time.monotonic()
    other.emit(number + 2, "cancel-generation", asked)
    seen = other.receive_until(b"43%d[" % (number + 2))
    acked = time.monotonic()
    if b'"ok":true' not in seen[-1]:
        raise HarmoniaError(f"A cancel was refused: {seen[-1][:200].decode(errors='replace')}")
    if not any(packet.startswith(CANCELLED) for packet in seen):
        other.receive_until(CANCELLED)
    return 1e3 * (acked - at), 1e3 * (time.monotonic() - at)


STARTED, CANCELLED = b'42["metadata-generation-started"', b'42["generation-cancelled"'


def _quantiles(values: list[float]) -> dict[str, Any]:
    ordered = sorted(values)
    p95 = ordered[-(-len(ordered) * 95 // 100) - 1]
    return {"n": len(values), "p50": percentiles(values)["p50"], "p95": p95, "max": ordered[-1]}


def _redis_version() -> str:
    text = subprocess.run(["redis-server", "--version"], capture_output=True, encoding="utf-8", check=True).stdout
    return text.partition("v=")[2].partition(" ")[0]


def _table(figures: dict[str, Any]) -> str:
    head = f"{'servers':<18}{'subscribers':>12}{'CPU µs/delivery':>24}{'× one':>20}{'p99 ms here':>24}{'there':>24}"
    lines = [head + f"{'Redis µs/event':>24}{'neighbour µs/event':>24}{'kB/socket':>12}"]
    for row in figures["rows"]:
        spreads = (
            ("cpu_us", 24),
            ("cpu_ratio", 20),
            ("here_p99_ms", 24),
            ("there_p99_ms", 24),
            ("redis_event_us", 24),
            ("neighbour_event_us", 24),
        )
        cells = "".join(f"{format_spread(row.get(name)):>{width}}" for name, width in spreads)
        lines.append(f"{row['servers']:<18}{row['subscribers']:>12}{cells}{row['socket_kb']:>12}")
    lines.append("")
    for name, found in figures["cancels"].items():
        lines.append(f"cancel, {name}: p50 {found['p50']:.1f}, p95 {found['p95']:.1f}, max {found['max']:.1f}")
    counts = {name: sum(row[name] for row in figures["rows"]) for name in COUNTED}
    this = figures["host"]
    lines += [
        "{deliveries} deliveries checked, {missing} missing, {disordered} out of order".format(**counts),
        f"{this['cpu']}, {this['cores']} cores; {format_versions(figures['versions'])}; {figures['date']}",
    ]
    return "\n".join(lines)
