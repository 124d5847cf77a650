"""`python -m benchmarks.comparisons simulate | runs | studies | table`: how well `compare` tells differences.

Owns the commands, how errors are printed, and the exit status: 0 done, 1 failed, 2 bad usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence

from benchmarks.comparisons import runs, simulations, studies, table
from harmonia_lab.errors import HarmoniaError, InvalidRequest

Command = tuple[Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int], str]

COMMANDS: dict[str, Command] = {
    "simulate": (simulations.configure, simulations.run, "what intervals cover and find, in studies that are drawn"),
    "runs": (runs.configure, runs.run, "make songs of one configuration, and keep their rows"),
    "studies": (studies.configure, studies.run, "studies of such rows, relabelled: how often a difference is claimed"),
    "table": (table.configure, table.run, "print the figures that are kept in results/"),
}
"""Name → its options, what it does, and its help."""


def main(given: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.comparisons", description="Tries `compare`.")
    commands = parser.add_subparsers(dest="what", required=True, metavar="|".join(COMMANDS))
    for name, (configure, _, described) in COMMANDS.items():
        configure(commands.add_parser(name, help=described))
    options = parser.parse_args(given)
    try:
        code: int = COMMANDS[options.what][1](options)
    except HarmoniaError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, InvalidRequest) else 1
    except KeyboardInterrupt:
        return 130
    return code


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a time limit ends it as an interrupt does: cleanly
    sys.exit(main(sys.argv[1:]))
