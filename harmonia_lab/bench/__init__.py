"""Benchmarks that need only the package: what this machine can do, measured the same way everywhere.

Owns the choice of the module, one for each benchmark. The servers' benchmarks and the GPU's are in the repository's
`benchmarks/`.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable

from harmonia_lab.bench.report import check_file

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Run `harmonia bench WHAT` and return its exit status. Raises InvalidRequest."""
    check_file(options.json)
    # A benchmark imports its engines, so only the chosen one is imported.
    benchmark: Callable[[argparse.Namespace], int] = importlib.import_module(f"harmonia_lab.bench.{options.what}").run
    return benchmark(options)
