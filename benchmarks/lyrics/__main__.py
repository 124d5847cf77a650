"""`python -m benchmarks.lyrics compare | table`: stage 1 of two versions beside each other.

Owns the commands, how errors are printed, and the exit status: 0 done, 1 failed, 2 bad usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from benchmarks.lyrics import compare, table
from harmonia_lab.errors import HarmoniaError, InvalidRequest


def main(given: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lyrics", description="Measures the words of songs.")
    commands = parser.add_subparsers(dest="what", required=True, metavar="compare|table")
    compare.configure(commands.add_parser("compare", help="make songs of both versions, and print their table"))
    table.configure(commands.add_parser("table", help="print the table of songs that were made before"))
    options = parser.parse_args(given)
    try:
        return compare.run(options) if options.what == "compare" else table.run(options)
    except HarmoniaError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, InvalidRequest) else 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a time limit ends it as an interrupt does: cleanly
    sys.exit(main(sys.argv[1:]))
