"""`harmonia batch`: make the songs of a table in one folder."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from harmonia_lab.batch import read_rows
from harmonia_lab.cli.arguments import lab_parameters
from harmonia_lab.lab import Lab

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    table = Path(options.table)
    read_rows(table)  # so that the error for a table that can't be read comes at once
    try:
        with Lab(**lab_parameters(options)) as lab:
            report = lab.batch(table, options.out)
    except KeyboardInterrupt:
        print(f"What is made is kept in {options.out}; the same command goes on from there.", file=sys.stderr)
        raise
    if options.json:
        print(json.dumps(report.to_json(), ensure_ascii=False))
    else:
        print(f"{report}\n\n  report   {report.out / 'report.json'}\n  listen   {report.out / 'listen.html'}")
        print(f"  log      {lab.log.path}")
    return 1 if report.errors else 0
