"""`harmonia verify`: compare a song's files with its record, or with the same song made again."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.generation.verify import Verification, check_folder

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    folder = Path(options.folder)
    report = check_folder(folder)
    if options.rerun and report.ok:
        from harmonia_lab.engine_registry import is_repeatable  # noqa: PLC0415 - as below
        from harmonia_lab.lab import Lab  # noqa: PLC0415 - the engines load only for a second run

        recorded = read_record(folder)["engines"]["metadata"]["engine"]
        with Lab(metadata=recorded if is_repeatable(recorded) else "auto") as lab:
            report = lab.verify(folder, rerun=True)
    print(json.dumps(_summary(report, rerun=options.rerun)) if options.json else _text(report, rerun=options.rerun))
    return 0 if report.ok else 1


def _summary(report: Verification, *, rerun: bool) -> dict[str, object]:
    return {
        "directory": str(report.folder),
        "ok": report.ok,
        "rerun": rerun,
        "checked": report.checked,
        "findings": [{"file": f.file, "what": f.what, "second": f.second} for f in report.findings],
        "notes": report.notes,
    }


def _text(report: Verification, *, rerun: bool) -> str:
    if report.ok:
        verdict = (
            f"Bit-exact: {len(report.checked)} files made again, all the same."
            if rerun
            else (f"As recorded: {len(report.checked)} files, all with their SHA-256.")
        )
    else:
        verdict = f"{len(report.findings)} of {len(report.checked)} files differ:"
    return "\n".join([verdict, *(f"  {finding}" for finding in report.findings), *(f"Note: {n}" for n in report.notes)])
