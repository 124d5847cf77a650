"""The benchmarks of `harmonia bench WHAT`. One module per subject, with a function `run`."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path

from harmonia_lab.errors import InvalidRequest

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Run the benchmark and return the exit status. Raise InvalidRequest, also if --json names no existing folder."""
    if options.json and not Path(options.json).absolute().parent.is_dir():
        raise InvalidRequest(f"--json {options.json}: there is no folder {Path(options.json).absolute().parent}.")
    # Imported here, since each subject imports its own engines.
    subject: Callable[[argparse.Namespace], int] = importlib.import_module(f"harmonia_lab.bench.{options.what}").run
    return subject(options)
