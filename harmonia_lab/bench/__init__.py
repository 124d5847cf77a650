"""Benchmarks: what the machine can do, measured the same way everywhere. One module per subject."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path

from harmonia_lab.errors import InvalidRequest

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """`harmonia bench WHAT`. Raises InvalidRequest, also for a file that has no folder: before minutes of measuring."""
    if options.json and not Path(options.json).absolute().parent.is_dir():
        raise InvalidRequest(f"--json {options.json}: there is no folder {Path(options.json).absolute().parent}.")
    # A subject brings its engines, so it loads when it is chosen.
    subject: Callable[[argparse.Namespace], int] = importlib.import_module(f"harmonia_lab.bench.{options.what}").run
    return subject(options)
