"""`harmonia batch`: make the songs of a table in one folder."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path

from harmonia_lab.batch import read_rows
from harmonia_lab.batch.rows import refuse_unreadable
from harmonia_lab.cli.engine_arguments import lab_parameters
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.lab import Lab

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    table = Path(options.table)
    if options.out is None and not options.check:
        raise InvalidRequest("--out is missing.", hint="Name the folder of the songs; only --check goes without one.")
    if not options.check:
        refuse_unreadable(read_rows(table, options.encoding))  # so that this error comes at once
    try:
        with Lab(**lab_parameters(options)) as lab:
            report = lab.batch(
                table,
                options.out,
                check=options.check,
                remake=options.remake,
                require=options.require,
                stop_after=options.stop_after,
                encoding=options.encoding,
                say=print if options.check and not options.json else None,
            )
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):  # the terminal may be gone
            print(f"What is made is kept in {options.out}; the same command goes on from there.", file=sys.stderr)
        raise
    if options.json:
        for note in report.notes:
            print(note, file=sys.stderr)
        print(json.dumps(report.to_json(), ensure_ascii=False))
    elif not options.check:
        print(f"{report}\n\n  report   {report.out / 'report.json'}\n  listen   {report.out / 'listen.html'}")
        print(f"  log      {lab.log.path}")
    if options.check and any(outcome.row.unreadable for outcome in report.outcomes):
        return 2
    return 0 if report.ok else 1
