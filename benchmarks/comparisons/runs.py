"""`runs`: makes songs of one configuration while the machine does other things, and keeps their rows of the run log.

Owns the configuration, and which columns are kept. Songs have given metadata and some seconds, so stage 1 doesn't run
and its columns are missing. Each block is one piece of metadata, seed and length, made twice in a row; the songs'
folders are deleted as they are made. `studies.py` relabels the rows.
"""

from __future__ import annotations

import argparse
import csv
import random
import shutil
import tempfile
from pathlib import Path

import psutil

from harmonia_lab import Lab
from harmonia_lab.music.moods import suggest_features
from harmonia_lab.protocol.models import SongMetadata
from harmonia_lab.protocol.vocabulary import GENRES

__all__ = ["COLUMNS", "configure", "run"]

COLUMNS = (
    "total_s", "cpu_s", "audio_s", "audio_load_s", "plan_s", "render_s", "mix_s", "write_s", "audio_cpu_s",
    "real_time_factor", "audio_rss_peak_bytes", "audio_seconds", "load_1m",
)  # fmt: skip
"""Numbers that are kept. load_1m: the system's load average when the song began."""

KEPT = ("block", "started_at", "status", "host", *COLUMNS)
"""Columns of the file. host is always "one machine"."""

LENGTHS_S = (4, 6, 9)
"""Seconds of song; a block draws one."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="a CSV file; the command continues it")
    parser.add_argument("--blocks", type=int, default=220, help="blocks of two songs that the file shall have")


def run(options: argparse.Namespace) -> int:
    done = _blocks_in(options.file)
    with tempfile.TemporaryDirectory() as scratch, options.file.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, KEPT, extrasaction="ignore", lineterminator="\n")
        if not options.file.stat().st_size:
            writer.writeheader()
        with Lab(audio="sketch", songs=Path(scratch) / "songs", home=Path(scratch) / "home") as lab:
            _song(lab, -1)  # loads the sound bank; not kept
            for block in range(done, options.blocks):
                pair = [_song(lab, block) for _ in range(2)]
                for row in pair:
                    writer.writerow(row)
                file.flush()
                if block % 10 == 9:
                    print(f"{block + 1} blocks", flush=True)
    return 0


def _blocks_in(file: Path) -> int:
    """Return how many whole blocks the file has; half a block at its end is cut off."""
    if not file.exists():
        return 0
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = max(0, (len(lines) - 1) // 2)
    file.write_text("".join(lines[: 1 + 2 * whole]), encoding="utf-8")
    return whole


def _song(lab: Lab, block: int) -> dict[str, object]:
    """Make the song of a block, delete its folder, and return its row."""
    draw = random.Random(block)  # noqa: S311 - no secret
    genre = draw.choice(GENRES)
    features = suggest_features(genre, ["hopeful"], draw.randrange(2**32))
    metadata = SongMetadata(
        title="A test",
        lyrics="[Verse 1]\nThe tide is low, the harbour sleeps,\na lantern swings above the deep.",
        genre=genre,
        mood=["hopeful"],
        bpm=features.bpm,
        key=features.key,
        instruments=list(features.instruments),
    )
    load = psutil.getloadavg()[0]
    lab.submit(metadata=metadata, seconds=draw.choice(LENGTHS_S), seed=draw.randrange(2**32)).result()
    row = lab.log.rows()[-1]
    shutil.rmtree(row["directory"])
    return row | {"block": block, "host": "one machine", "load_1m": row.get("load_1m") or load}
