"""`compare`: the same narratives and seeds to two versions, turn about, and every song kept.

Owns the order of the songs, the file of results and how it is continued. A block is one narrative with one seed, made
by each version once, in an order that is drawn. `writer.py` makes a song; `table.py` reads the file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.lyrics import table
from benchmarks.server.children import Child
from harmonia_lab.bench.report import check_range, circumstances
from harmonia_lab.errors import HarmoniaError, InvalidRequest

__all__ = ["configure", "read_narratives", "run"]

OWN = Path(__file__).with_name("narratives.jsonl")
ROOT = Path(__file__).parents[2]
SONG_S = 600.0
"""Seconds that one song's stage 1 may take."""

WARM_UP = "A boy counts the trains that pass his window."


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, help="a JSON-lines file; one that exists is continued")
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="the other version's checkout (default: none)")
    parser.add_argument(
        "--narratives", type=Path, nargs="+", default=[OWN], metavar="FILE", help="JSON lines with kind and narrative"
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="songs of each narrative (default 1)")
    parser.add_argument("--first-seed", type=int, default=1, metavar="SEED", help="default 1")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the songs (default 30)")
    parser.add_argument("--for", dest="for_s", type=float, metavar="S", help="start no block after S seconds")
    parser.add_argument("--cold", action="store_true", help="no warm-up song before the first block")
    parser.add_argument("--engine", default="embedded", help="stage 1's engine (default embedded)")
    parser.add_argument("--model", help="its model")


def run(options: argparse.Namespace) -> int:
    check_range("seeds", options.seeds, 1000)
    check_range("seconds", options.seconds, 600)
    stories = [story for file in options.narratives for story in read_narratives(file)]
    checkouts = {"after": ROOT} | ({"before": options.before} if options.before else {})
    done = {_key(row) for row in table.read_rows([options.out])} if options.out.exists() else set()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    # Seed by seed: a run that is stopped has measured as many narratives as it could.
    blocks = [story | {"seed": seed, "seconds": options.seconds} for seed in seeds for story in stories]
    left = [block for block in blocks if _key(block) not in done]
    print(f"{len(left)} of {len(blocks)} blocks to make", file=sys.stderr)
    if left:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        _measure(options, left, checkouts)
    print(table.report(table.read_rows([options.out])))
    return 0


def read_narratives(path: Path) -> list[dict[str, Any]]:
    """Return the file's narratives: kind, narrative, and names and language where it has them.

    Raises InvalidRequest for a file that is missing or holds something else.
    """
    try:
        found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [
            {name: each[name] for name in ("kind", "narrative")}
            | {name: each[name] for name in ("names", "language") if name in each}
            for each in found
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(f"{path} holds no narratives: {error!r}.", hint="One JSON object a line.") from None


def _measure(options: argparse.Namespace, blocks: Sequence[Mapping[str, Any]], checkouts: Mapping[str, Path]) -> None:
    until = time.monotonic() + options.for_s if options.for_s else float("inf")
    draw = random.Random()  # noqa: S311 - the order alone, which must not repeat from run to run
    with _writers(options, checkouts) as writers, options.out.open("a", encoding="utf-8") as file:
        versions = {name: writer.receive(SONG_S) for name, writer in writers.items()}
        about = circumstances()
        about["host"].pop("host", None)  # figures are published: no names of machines
        for name, version in versions.items():
            folder = Path(version.pop("folder"))
            if folder.resolve() != checkouts[name].resolve():
                raise HarmoniaError(f"The writer of {checkouts[name]} imports the package of {folder}.")
        print(json.dumps({"circumstances": about, "versions": versions}), file=file, flush=True)
        if not options.cold:
            for writer in writers.values():
                writer.request(SONG_S, narrative=WARM_UP, seed=0, seconds=options.seconds)
        for number, block in enumerate(blocks, 1):
            if time.monotonic() > until:
                print(f"stopped after {number - 1} blocks; the same command continues", file=sys.stderr)
                break
            order = draw.sample(list(writers), len(writers))
            asked = {name: block[name] for name in ("narrative", "seed", "seconds")}
            load = psutil.getloadavg()[0]
            songs = {name: writers[name].request(SONG_S, **asked) for name in order}
            print(json.dumps(dict(block) | {"order": order, "load": load, "songs": songs}), file=file, flush=True)
            titles = ", ".join(
                f"{name}: {song.get('metadata', {}).get('title', song.get('error'))}" for name, song in songs.items()
            )
            print(f"{number} of {len(blocks)}, {block['kind']}, {titles}", file=sys.stderr)


@contextlib.contextmanager
def _writers(options: argparse.Namespace, checkouts: Mapping[str, Path]) -> Iterator[dict[str, Child]]:
    """Start a writer for each checkout; it stays up until the block ends, with its model loaded."""
    arguments = [options.engine, *([options.model] if options.model else [])]
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(
                Child(
                    f"writer of {name}",
                    [sys.executable, "-P", str(Path(__file__).with_name("writer.py")), *arguments],
                    os.environ | {"PYTHONPATH": str(folder.resolve())},
                )
            )
            for name, folder in checkouts.items()
        }


def _key(row: Mapping[str, Any]) -> tuple[str, int, float]:
    return row["narrative"], row["seed"], row["seconds"]
