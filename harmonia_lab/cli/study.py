"""`harmonia study`: compare configurations by songs that are made in blocks, or make a study again."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from harmonia_lab.cli.engine_arguments import lab_parameters
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.lab import Lab
from harmonia_lab.protocol.text import printable_lines
from harmonia_lab.study.reading import read_design

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    source = options.again or options.design
    if (options.again is None) == (options.design is None):
        raise InvalidRequest("Name a design's file, or --again with a study's folder.", hint="harmonia study --help")
    if options.out is None and not options.check:
        raise InvalidRequest("--out is missing: the study's folder.", details={"fields": ["out"]})
    parameters = lab_parameters(options)
    if options.design is not None:
        read_design(Path(options.design), parameters)  # so that the error for a design that can't be read comes at once
    with Lab(**parameters) as lab:
        if options.check:
            text = lab.check_study(source)
            print(json.dumps({"check": text}) if options.json else text)
            return 0
        try:
            report = lab.study(source, options.out)
        except KeyboardInterrupt:
            print(f"What is made is kept in {options.out}; the same command goes on from there.", file=sys.stderr)
            raise
    again = report.against(options.again) if options.again else None
    if options.json:
        print(json.dumps(report.to_json() | ({"again": again.to_json()} if again else {}), ensure_ascii=False))
    else:
        print(printable_lines(str(report)))
        if again:
            print(printable_lines(f"\n{again}"))
        print(f"\n  page     {report.folder.page}\n  rows     {report.folder.rows_path}")
    return 1 if report.incomplete() else 0
