"""`make chaos`: every kind of fault so many times, and the crash points; writes `benchmarks/chaos.json` and
`docs/chaos.md` when all was run, and prints the table.

A run that was stopped goes on where it was, from the rows in `--rows`; without that file, it begins anew.
"""

import argparse
import asyncio
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.server.children import ROOT
from harmonia_lab.child_process import python_command
from harmonia_lab.storage import package_environment
from tests.chaos.data import Rows, write
from tests.chaos.kinds import KINDS
from tests.chaos.page import PAGE, page, summary, table
from tests.chaos.run import runs_of
from tests.chaos.world import NoSmallDisk


def main(given):
    options = _parser().parse_args(given)
    rows = Rows(options.rows, options.seed)
    only = [part.strip() for part in options.only.split(",")] if options.only else [""]
    chosen = [kind for kind in KINDS.values() if any(part in kind.name for part in only)]
    asyncio.run(_all(chosen, rows, options))
    if {"points", ""} & {*only}:
        _crash(rows, "points", options.points - sum(row["points"] for row in rows.of("story")), options.seed)
    if {"kills", ""} & {*only}:
        _crash(rows, "kills", options.kills - len(rows.of("kill")), options.seed)
    data = rows.summary()
    print(table(data["runs"]), summary(data), sep="\n\n")
    whole = not options.only and (options.runs, options.points, options.kills) >= (20, 10_000, 200)
    if whole or options.write:
        write(data)
        PAGE.write_text(page(data))
    return int(any(row["broken"] for row in rows.rows))


async def _all(kinds, rows, options):
    """Run what is left of each kind, some kinds at a time: they mostly wait."""
    places = asyncio.Semaphore(options.jobs)

    async def left_of(kind):
        done = {row["run"] for row in rows.of("kind") if row["kind"] == kind.name}
        todo = [number for number in range(options.runs) if number not in done]
        async with places:
            try:
                await runs_of(kind, todo, options.seed, lambda row: _told(rows, row))
            except NoSmallDisk as error:
                print(f"{kind.name}: not run. {error}", file=sys.stderr)

    await asyncio.gather(*map(left_of, kinds))


def _told(rows, row):
    rows.add(row)
    print(
        f"{row['kind']} {row['run']}: {row['outcome']}, {row['seconds']:.1f} s",
        *row["broken"],
        sep="\n  ",
        file=sys.stderr,
    )


def _crash(rows, what, count, seed):
    """Run crash points in a process of their own: an audit hook can't be taken away, and only one thread may fork."""
    if count <= 0:
        return
    begun = len(rows.of("story" if what == "points" else "kill"))
    command = python_command("tests.chaos.crash_run", what, str(count), f"{seed}/{begun}")
    environment = package_environment() | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout:
            rows.add(json.loads(line))
    assert process.returncode == 0, f"{what} ended with status {process.returncode}"
    print(f"{count} {what}", file=sys.stderr)


def _parser():
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.partition(":")[0])
    parser.add_argument("--only", metavar="PART,PART", help="kinds with one of these in their name; points, kills")
    parser.add_argument("--runs", type=int, default=20, metavar="N", help="of each kind (default 20)")
    parser.add_argument("--points", type=int, default=10_000, metavar="N", help="crash points (default 10,000)")
    parser.add_argument(
        "--kills", type=int, default=200, metavar="N", help="processes that kill themselves (default 200)"
    )
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="kinds at a time (default 2)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default 1)")
    parser.add_argument("--rows", type=Path, default=Path("build/chaos.jsonl"), metavar="FILE", help="the rows so far")
    parser.add_argument("--write", action="store_true", help="write data and page, whatever was run")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
