"""`python -m benchmarks.songs measure | table | ten`: songs measured as they sound.

Owns the commands, how errors are printed, and the exit status: 0 done, 1 failed, 2 bad usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from benchmarks.songs import measure, table, ten
from harmonia_lab.errors import HarmoniaError, InvalidRequest

COMMANDS = {
    "measure": (measure, "make songs of all genres and moods, and measure each"),
    "table": (table, "print the figures of songs that were measured before"),
    "ten": (ten, "ten songs from ten narratives with wishes: what was asked, what is heard"),
}


def main(given: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.songs", description="Measures how songs sound.")
    commands = parser.add_subparsers(dest="what", required=True, metavar="|".join(COMMANDS))
    for name, (module, described) in COMMANDS.items():
        module.configure(commands.add_parser(name, help=described))
    options = parser.parse_args(given)
    try:
        return COMMANDS[options.what][0].run(options)
    except HarmoniaError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, InvalidRequest) else 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a time limit ends it as an interrupt does: cleanly
    sys.exit(main(sys.argv[1:]))
