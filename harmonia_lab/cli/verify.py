"""`harmonia verify`: compare songs' files with their records, or with the same songs made again."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harmonia_lab.cli.quoting import quoted
from harmonia_lab.errors import Cancelled, HarmoniaError
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.generation.verify import Finding, Verification, check_folder, song_folders
from harmonia_lab.protocol.text import printable

if TYPE_CHECKING:
    from harmonia_lab.lab import Lab

__all__ = ["run"]

_WORTH = "Digests find accidents, not forgery: who changes a song can write its record anew."


def run(options: argparse.Namespace) -> int:
    asked = [Path(name) for name in options.folders]
    found = {path: song_folders(path) or [path] for path in asked}
    songs = list(dict.fromkeys(song for below in found.values() for song in below))
    alone = songs == asked
    verdicts: Counter[str] = Counter()
    with ExitStack() as stack:
        labs: dict[str, Lab] = {}
        for song in songs:
            try:
                report = _credentials(song, options) if song.is_file() else _checked(song, labs, stack, options)
            except HarmoniaError as error:
                if (alone and len(songs) == 1) or isinstance(error, Cancelled):
                    raise
                verdicts["can't be checked"] += 1
                _show_error(song, error, as_json=options.json)
            else:
                verdicts["as recorded" if report.ok else "differ"] += 1
                _show(report, rerun=options.rerun, as_json=options.json)
    for path in set(asked) - {*songs}:
        if (batch := _against_batch(path, found[path])) is not None:
            verdicts["differ"] += bool(batch.findings)
            _show(batch, rerun=False, as_json=options.json)
    done = verdicts.total() == verdicts["as recorded"]
    if len(songs) > 1 and not options.json:
        said = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items() if count)
        print(f"{len(songs)} songs: {said}.")
    if done and not options.rerun and not options.json and any(song.is_dir() for song in songs):
        print(_WORTH)
    return 0 if done else 1


def _credentials(path: Path, options: argparse.Namespace) -> Verification:
    from harmonia_lab.export.credentials import check_credentials  # noqa: PLC0415 - an optional package

    return check_credentials(path, Path(options.trust) if options.trust else None)


def _checked(folder: Path, labs: dict[str, Lab], stack: ExitStack, options: argparse.Namespace) -> Verification:
    """labs: by metadata engine; made when a song is made again, and closed by `stack`."""
    report = check_folder(folder)
    if not (options.rerun and report.ok):
        return report
    from harmonia_lab.engine_registry import is_repeatable  # noqa: PLC0415 - the engines load only for a second run
    from harmonia_lab.lab import Lab  # noqa: PLC0415 - as above

    recorded = read_record(folder)["engines"]["metadata"]["engine"]
    engine = recorded if is_repeatable(recorded) else "auto"
    if engine not in labs:
        labs[engine] = stack.enter_context(Lab(metadata=engine))
    return labs[engine].verify(folder, rerun=True)


def _against_batch(path: Path, songs: list[Path]) -> Verification | None:
    """Compare a batch's folder with its `report.json`, if it has one: songs that were made may be gone."""
    try:
        rows = json.loads((path / "report.json").read_bytes())["rows"]
        named = {path / row["directory"] for row in rows if row.get("directory")}
        failed = sum(row.get("status") == "failed" for row in rows)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    gone = sorted(named - {*songs})
    report = Verification(path, ["report.json"])
    report.findings = [
        Finding(str(song.relative_to(path)), "report.json names this song, and it is gone") for song in gone
    ]
    if failed:
        report.notes.append(f"{failed} of the {len(rows)} rows in report.json failed, and have no song.")
    return report if gone or failed else None


def _show(report: Verification, *, rerun: bool, as_json: bool) -> None:
    print(json.dumps(_summary(report, rerun=rerun)) if as_json else _text(report, rerun=rerun), flush=True)


def _show_error(folder: Path, error: HarmoniaError, *, as_json: bool) -> None:
    if as_json:
        body: dict[str, Any] = {"code": error.code, "message": error.message, "hint": error.hint}
        print(json.dumps({"directory": str(folder), "ok": False, "error": body}), flush=True)
    else:
        print(f"Can't be checked: {quoted(folder)}\n  {error.message} [{error.code}]", flush=True)


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
    count = len(report.checked)
    files = f"{count} file{'' if count == 1 else 's'}"
    if not report.ok:
        verdict, what = "Differs", f" ({len(report.differing)} of {files})"
    elif report.folder.is_file():
        verdict, what = "Signed", ""
    elif rerun:
        verdict, what = "Bit-exact", f" ({files} made again, all the same)"
    else:
        verdict, what = "As recorded", f" ({files})"
    lines = [f"{verdict}: {quoted(report.folder)}{what}"]
    for finding in report.findings:
        where = "" if finding.second is None else f", from second {finding.second}"
        lines.append(f"  {quoted(report.folder / finding.file)}: {printable(finding.what)}{where}")
    return "\n".join([*lines, *(f"  Note: {printable(note)}" for note in report.notes)])
