"""`harmonia batch`: a table of stories in, a folder of songs out."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from harmonia_lab.batch import read_rows
from harmonia_lab.lab import Lab

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    table = Path(options.table)
    read_rows(table)  # a table that can't be read must not wait for a language model
    chosen = {name: getattr(options, name) for name in ("arrangement", "device", "decoder")}
    lab = Lab(
        metadata=options.metadata,
        model=options.metadata_model,
        audio=options.audio,
        audio_model=options.audio_model,
        audio_settings={name: value for name, value in chosen.items() if value is not None},
    )
    try:
        with lab:
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
