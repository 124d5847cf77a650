"""The start of the process that makes songs, in this checkout or another one.

Owns the environment in which `maker.py` finds that checkout's package, and the check that it did.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.server.children import Child
from harmonia_lab.errors import HarmoniaError

__all__ = ["ROOT", "SONG_S", "song_maker"]

ROOT = Path(__file__).parents[2]
SONG_S = 600.0
"""Seconds that one song may take."""


@contextlib.contextmanager
def song_maker(checkout: Path, stage_1: str = "embedded") -> Iterator[tuple[Child, dict[str, Any]]]:
    """Yield the process, and which version it is. Its songs are deleted with it.

    stage_1: the engine for songs from narratives. Raises HarmoniaError if another package is found than the checkout's.
    """
    with tempfile.TemporaryDirectory(prefix="harmonia-songs-") as scratch:
        command = [sys.executable, "-P", str(Path(__file__).with_name("maker.py")), scratch, stage_1]
        environment = os.environ | {"PYTHONPATH": str(checkout.resolve())}
        with Child(f"maker of {checkout}", command, environment) as child:
            version = child.receive(SONG_S)
            folder = Path(version.pop("folder"))
            if folder.resolve() != checkout.resolve():
                raise HarmoniaError(f"The process for {checkout} imports the package of {folder}.")
            yield child, version
