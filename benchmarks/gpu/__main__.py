"""`python -m benchmarks.gpu prepare | measure | report | rehearse`.

Owns the table of subcommands. Each names a module with `configure(parser)`, which adds its options, and
`run(options)`, which returns the exit status: 0 done, 1 failed. A module is imported only for its own command, so that
`measure` starts on a machine without pip, and `--help` on one without any package.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence

COMMANDS = {
    "prepare": ("benchmarks.gpu.prepare", "collect what a bare machine lacks (needs a package index)"),
    "measure": ("benchmarks.gpu.measure", "measure on this machine's GPU"),
    "report": ("benchmarks.gpu.report", "make the table from the rows"),
    "rehearse": ("benchmarks.gpu.rehearsal", "run all steps on the CPU, with the packages of a bare machine"),
}


def main(given: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    parsers = {name: commands.add_parser(name, help=text, description=text) for name, (_, text) in COMMANDS.items()}
    if not given or given[0] not in COMMANDS:
        parser.parse_args(given)  # prints the help, or what is wrong, and exits
    try:
        module = importlib.import_module(COMMANDS[given[0]][0])
    except ModuleNotFoundError as error:
        if str(error.name).startswith("benchmarks"):
            raise
        print(f"{sys.executable} has no {error.name}. Use the Python that has torch.", file=sys.stderr)
        return 1
    module.configure(parsers[given[0]])
    return int(module.run(parser.parse_args(given)))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that an outer time limit also ends the child processes
    sys.exit(main(sys.argv[1:]))
