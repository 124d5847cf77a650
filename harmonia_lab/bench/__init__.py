"""Benchmarks: what the machine can do, measured the same way everywhere. One module per subject."""

from __future__ import annotations

import argparse

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """`harmonia bench WHAT`."""
    # A subject brings its engines, so it loads when it is chosen.
    if options.what == "decode":
        from harmonia_lab.bench import decode as subject  # noqa: PLC0415
    elif options.what == "cancel":
        from harmonia_lab.bench import cancel as subject  # type: ignore[no-redef] # noqa: PLC0415
    elif options.what == "fanout":
        from harmonia_lab.bench import fanout as subject  # type: ignore[no-redef] # noqa: PLC0415
    elif options.what == "kernel":
        from harmonia_lab.bench import kernel as subject  # type: ignore[no-redef] # noqa: PLC0415
    else:
        from harmonia_lab.bench import pipeline as subject  # type: ignore[no-redef] # noqa: PLC0415
    return subject.run(options)
