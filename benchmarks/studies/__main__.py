"""`python -m benchmarks.studies equal | planted --out DIR`: studies whose answer is known, made for real.

Owns the two designs, and the planted factor that the second one's songs had. Run again, a study goes on.
"""

from __future__ import annotations

import argparse
import math
import signal
import statistics
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from benchmarks.studies.extra_work import ExtraWork
from harmonia_lab.audio_engines.sketch.engine import SketchEngine
from harmonia_lab.errors import HarmoniaError, InvalidRequest
from harmonia_lab.lab import Lab
from harmonia_lab.store.run_log import RunLabels
from harmonia_lab.study import StudyReport
from harmonia_lab.testing import SONG_METADATA

EXTRA_SHARE = 0.1
"""Planted work, as a share of the processor time that a song takes."""

COMMON: dict[str, Any] = {
    "stories": [SONG_METADATA],
    "lengths": [10],
    "primary": "cpu_s",
    "audio": "sketch",
    "keep_songs": False,
}


def main(given: Sequence[str]) -> int:
    """Make one study, print its result, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies", description=__doc__)
    parser.add_argument("what", choices=("equal", "planted"), help="the same twice; or one with work added")
    parser.add_argument("--out", required=True, metavar="DIR", help="the study's folder")
    parser.add_argument("--blocks", type=int, default=40, help="songs of each configuration (default 40)")
    parser.add_argument("--extra", type=float, metavar="SECONDS", help="of processor time (default: a tenth of a song)")
    options = parser.parse_args(given)
    try:
        with Lab(metadata="embedded", songs=options.out) as lab:
            if options.what == "equal":
                configurations: dict[str, dict[str, Any]] = {"sketch": {}, "sketch again": {}}
            else:
                slower = ExtraWork(SketchEngine(), options.extra or _extra_of(options.out) or _tenth_of_a_song())
                configurations = {"sketch": {}, "sketch and a tenth": {"audio": slower}}
            design = COMMON | {"name": options.what, "seeds": options.blocks, "configurations": configurations}
            report = lab.study(design, options.out)
    except HarmoniaError as error:
        print(error, error.hint, file=sys.stderr)
        return 2 if isinstance(error, InvalidRequest) else 1
    except KeyboardInterrupt:
        return 130
    print(report)
    if options.what == "planted":
        print(f"\nPlanted: {planted_factor(report):.4f}")
    return 0


def _extra_of(out: str) -> float | None:
    """Return the seconds that were planted in a study that goes on; None for a new one."""
    try:
        report = StudyReport(out)
    except HarmoniaError:
        return None
    return float(report.record.engines[report.configurations[1]]["audio"]["settings"]["cpu_s"])


def _tenth_of_a_song() -> float:
    """Return a tenth of the processor time that a song takes here, in seconds, rounded to milliseconds."""
    with tempfile.TemporaryDirectory(prefix="harmonia-bench-") as scratch:
        lab = Lab(metadata="embedded", audio="sketch", songs=scratch, home=scratch, labels=RunLabels("bench"))
        with lab:
            for seed in range(4):
                lab.submit(metadata=SONG_METADATA, seconds=COMMON["lengths"][0], seed=seed).result()
        return float(round(EXTRA_SHARE * statistics.median(row["cpu_s"] for row in lab.log.rows()[1:]), 3))


def planted_factor(report: StudyReport) -> float:
    """Return the factor that was planted: the geometric mean, over the slower songs, of their processor time over the
    same without the work that was added."""
    slower = report.configurations[1]
    extra = _extra_of(str(report.folder.path)) or 0.0
    rows = report.folder.rows().rows()
    times = [row["cpu_s"] for row in rows if row["configuration"] == slower and row["status"] == "completed"
             and row["block"] is not None]  # fmt: skip
    return math.exp(statistics.fmean(math.log(time / (time - extra)) for time in times))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a time limit ends it as an interrupt does: cleanly
    sys.exit(main(sys.argv[1:]))
