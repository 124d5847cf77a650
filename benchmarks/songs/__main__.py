"""`python -m benchmarks.songs measure | table | meter | ten`: songs measured as they sound.

Owns the commands, how errors are printed, and the exit status: 0 done, 1 failed, 2 bad usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence

from benchmarks.songs import measure, meter, table, ten
from harmonia_lab.errors import HarmoniaError, InvalidRequest

Command = tuple[Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int], str]

COMMANDS: dict[str, Command] = {
    "measure": (measure.configure, measure.run, "make songs of all genres and moods, and measure each"),
    "table": (table.configure, table.run, "print the figures of songs that were measured before"),
    "meter": (
        meter.configure,
        meter.run,
        "measure how right the meter is, on songs and on sounds whose truth is known",
    ),
    "ten": (ten.configure, ten.run, "ten songs from ten narratives with wishes: what was asked, what is heard"),
}
"""Name → its options, what it does, and its help."""


def main(given: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.songs", description="Measures how songs sound.")
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
