"""`make bench-worst`: what another client notices while one client does its worst, attack by attack.

Owns the method, the table and the goal. A witness joins its generation 40 times a second and measures each answer, with
the attack and without, in turn: before each attack and after it. The server has 100 finished songs of the attacker,
with lyrics of full length; all settings are the defaults.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack, closing
from typing import Any

from benchmarks.server.children import python_child
from benchmarks.server.environment import allow_files, format_versions, server_versions
from benchmarks.server.probe import Probe
from benchmarks.server.subscribers import percentiles
from benchmarks.server.worst_client import ATTACKS, IN_FLIGHT, SOCKETS
from harmonia_lab.bench.report import check_range, publish
from harmonia_lab.engines.probes import host
from harmonia_lab.errors import InvalidRequest

__all__ = ["GOAL_MS", "GOAL_TIMES", "measure", "run"]

GOAL_MS, GOAL_TIMES = 50.0, 3.0
"""Of another client's acknowledgements: p99 in milliseconds, and as a multiple of that without the attack."""

JOINS_PER_S = 40
QUIET_S = 0.3
"""Pause in which what an attack leaves behind is done with."""


def run(options: argparse.Namespace) -> int:
    check_range("seconds", options.seconds, 60)
    check_range("songs", options.songs, 1000)
    chosen = [name for name in ATTACKS if not options.only or any(part in name for part in options.only.split(","))]
    if not chosen:
        raise InvalidRequest(f"--only {options.only}: no attack is called so.", hint=f"Known: {', '.join(ATTACKS)}.")
    figures = measure(attacks=chosen, seconds=options.seconds, songs=options.songs)
    return publish(figures, table(figures), options.json)


def measure(*, attacks: list[str], seconds: float, songs: int) -> dict[str, Any]:
    """Measure each attack for some seconds, and as long without it. Raises HarmoniaError."""
    allow_files(4096)
    rows = []
    with ExitStack() as stack:
        server = stack.enter_context(python_child("server", "benchmarks.server.worst_server"))
        client = stack.enter_context(python_child("client", "benchmarks.server.worst_client"))
        address = server.request(300, do="serve", songs=songs)
        against = {"url": address["url"], "token": address["worst"], "admin": address["admin"], "songs": songs}
        witness = stack.enter_context(closing(Probe(address["url"], address["token"])))
        witness.run(0.5, 1 / JOINS_PER_S)
        quiet = witness.run(seconds / 2, 1 / JOINS_PER_S)
        for name in attacks:
            print(name, file=sys.stderr)
            client.send(name=name, seconds=seconds + 0.5, **against)
            time.sleep(0.25)
            attacked = witness.run(seconds, 1 / JOINS_PER_S)
            done = client.receive(300)
            time.sleep(QUIET_S)
            after = witness.run(seconds / 2, 1 / JOINS_PER_S)
            without = percentiles(quiet["ack_ms"] + after["ack_ms"])
            quiet = after
            with_it = percentiles(attacked["ack_ms"])
            rows.append(
                {
                    "attack": name,
                    "ack_ms": with_it,
                    "without_ms": without,
                    "unanswered": attacked["unanswered"],
                    "per_s": {key: done[key] / done["seconds"] for key in ("sent", "answered", "refused")},
                }
            )
    return {
        "rows": rows,
        "seconds": seconds,
        "songs": songs,
        "sockets": SOCKETS,
        "in_flight": IN_FLIGHT,
        "joins_per_s": JOINS_PER_S,
        "goal": {"p99_ms": GOAL_MS, "times": GOAL_TIMES},
        "date": time.strftime("%Y-%m-%d"),
        "host": host(),
        "versions": server_versions(),
    }


def meets_goal(row: dict[str, Any]) -> bool:
    """Return whether another client was answered in time during an attack."""
    p99, without = row["ack_ms"]["p99"], row["without_ms"]["p99"]
    return not row["unanswered"] and p99 is not None and p99 <= GOAL_MS and p99 <= GOAL_TIMES * without


def table(figures: dict[str, Any]) -> str:
    """Return the figures as text."""
    lines = [f"{'one client':<46}{'another: ack ms':>24}{'without':>9}{'×':>7}{'sent/s':>9}{'refused/s':>11}  goal"]
    lines.append(f"{'':<46}{'p50 / p99 / max':>24}{'p99':>9}")
    for row in figures["rows"]:
        ack, without = row["ack_ms"], row["without_ms"]["p99"]
        three = " / ".join("–" if value is None else f"{value:.1f}" for value in ack.values())
        times = "–" if ack["p99"] is None else f"{ack['p99'] / without:.1f}"
        rates = f"{row['per_s']['sent']:>9.0f}{row['per_s']['refused']:>11.0f}"
        lines.append(
            f"{row['attack']:<46}{three:>24}{without:>9.1f}{times:>7}{rates}  {'met' if meets_goal(row) else 'missed'}"
        )
    met, this = sum(map(meets_goal, figures["rows"])), figures["host"]
    lines.append(
        f"goal: p99 at most {GOAL_MS:g} ms and {GOAL_TIMES:g} × that without the attack: met {met} of"
        f" {len(figures['rows'])} times"
    )
    lines.append(
        f"{figures['sockets']} connections of one user, {figures['in_flight']} requests under way on each,"
        f" {figures['songs']} songs with 20,000 characters of lyrics; {figures['joins_per_s']} joins/s of the other for"
        f" {figures['seconds']:g} s; {this['cpu']}, {this['cores']} cores; Python {this['python']},"
        f" {format_versions(figures['versions'])}; {figures['date']}"
    )
    return "\n".join(lines)
