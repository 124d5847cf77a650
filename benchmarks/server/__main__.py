"""`python -m benchmarks.server fanout | kernel | servers | worst`: our server beside other programs' servers, in a busy
kernel, beside others that share its Redis, and under a client that does its worst.

Owns the options of the benchmarks, how errors are printed, and the exit status: 0 done, 1 failed, 2 bad usage, 130
interrupted. What is measured is in `fanout.py`, `kernel.py`, `servers.py` and `worst.py`.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from benchmarks.server import fanout, kernel, servers, worst
from harmonia_lab.bench.report import check_file
from harmonia_lab.errors import HarmoniaError, InvalidRequest


def main(given: Sequence[str]) -> int:
    """Run one benchmark and return its exit status."""
    options = _parser().parse_args(given)
    try:
        check_file(options.json)
        run = {"fanout": fanout.run, "kernel": kernel.run, "servers": servers.run, "worst": worst.run}[options.what]
        return run(options)
    except HarmoniaError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, InvalidRequest) else 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server", description="Measures the Socket.IO server.")
    benchmarks = parser.add_subparsers(dest="what", required=True, metavar="fanout|kernel|servers|worst")
    rooms = benchmarks.add_parser("fanout", help="a room's broadcast: ours, python-socketio's, JavaScript's")
    rooms.add_argument("--subscribers", type=_numbers, default=[100, 1000], metavar="N,N", help="default 100,1000")
    rooms.add_argument("--rounds", type=int, default=5, help="rounds that count, after a warm-up (default 5)")
    busy = benchmarks.add_parser("kernel", help="a busy kernel's server: in a thread, and in a process of its own")
    busy.add_argument("--subscribers", type=int, default=100, metavar="N", help="default 100")
    busy.add_argument("--rounds", type=int, default=3, help="turns of each kernel and place (default 3)")
    busy.add_argument("--seconds", type=float, default=3.0, help="of each turn (default 3)")
    shared = benchmarks.add_parser("servers", help="servers that share a Redis: cost of a delivery, and of a cancel")
    shared.add_argument("--subscribers", type=_numbers, default=[100, 1000], metavar="N,N", help="default 100,1000")
    shared.add_argument("--rounds", type=int, default=5, help="rounds that count, after a warm-up (default 5)")
    shared.add_argument("--cancels", type=int, default=50, metavar="N", help="through each server (default 50)")
    attacked = benchmarks.add_parser("worst", help="what others notice while one client does its worst")
    attacked.add_argument("--seconds", type=float, default=3.0, help="of each attack (default 3)")
    attacked.add_argument("--songs", type=int, default=100, metavar="N", help="the attacker's (default 100)")
    attacked.add_argument("--only", metavar="NAME,NAME", help="attacks whose names have one of these in them")
    for each in (rooms, busy, shared, attacked):
        each.add_argument("--json", metavar="FILE", help="also write the figures, with the machine and the versions")
    return parser


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a time limit ends it as an interrupt does: cleanly
    sys.exit(main(sys.argv[1:]))
