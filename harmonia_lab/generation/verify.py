"""Checks a song's folder against its record, and the record of a second run against that of the first.

Owns the comparison. What an edited record contradicts is found by `record_checks.py`; `rerun.py` makes the song again.

What this is worth: it finds accidents, such as an edit, a bad copy or a failing disk. Who wants to deceive can write
another record with another digest; a signature (`export/credentials.py`) is what stops that.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from harmonia_lab.engines.base import CancelToken
from harmonia_lab.generation.artifacts import REPEATABLE, file_digest, read_record
from harmonia_lab.generation.record_schema import DIGEST, file_inside, first_difference, record_digest

__all__ = ["Finding", "Verification", "check_folder", "compare_records", "song_folders"]

_MOST_BYTES = 2**32
"""Of a file that is read. Ten minutes of eight stems have a quarter of it together."""

_MOST_EXTRA = 10
"""Files beyond the record that are named; of more, the number is said."""


@dataclass(frozen=True)
class Finding:
    """One file that differs from the record. second: first second of audio that differs, from 0; None if unknown.

    Of the record itself, `run.json`, there may be several: each is one value that can't have been recorded so.
    """

    file: str
    what: str
    second: int | None = None

    def __str__(self) -> str:
        where = "" if self.second is None else f", from second {self.second}"
        return f"{self.file}: {self.what}{where}"


@dataclass
class Verification:
    """checked: names of the files compared. notes: sentences that explain or limit the result."""

    folder: Path
    checked: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.findings

    @property
    def differing(self) -> list[str]:
        """Names of the files with findings, each once."""
        return list(dict.fromkeys(finding.file for finding in self.findings))


def song_folders(path: Path) -> list[Path]:
    """Return the songs' folders: `path` itself if it is one, else those below it, such as a batch's, by name.

    Left out are folders that a song's making left unfinished (`*.partial-*`), and those that a batch has moved to
    `replaced`. Links to folders aren't followed.
    """
    if (path / "run.json").exists() or not path.is_dir():
        return [path]
    found = []
    for folder, below, files in os.walk(path):
        below[:] = sorted(name for name in below if ".partial-" not in name and name != "replaced")
        if "run.json" in files:
            found.append(Path(folder))
            below.clear()
    return sorted(found)


def check_folder(folder: Path) -> Verification:
    """Compare every file with its SHA-256 in `run.json`, altered audio second by second, and the record with its own.

    Raises HarmoniaError: NOT_FOUND if the folder has no record, RECORD_DAMAGED if that can't be read.
    """
    record = read_record(folder)
    report = Verification(folder)
    for name, entry in sorted(record["files"].items()):
        report.checked.append(name)
        try:
            finding = _compared(folder, name, entry, record["seconds"].get(name))
        except OSError as error:
            finding = Finding(name, f"cannot be read: {(error.strerror or str(error)).lower()}")
        if finding is not None:
            report.findings.append(finding)
    extra = _not_recorded(folder, record)
    _check_record(record, report, extra)
    report.notes.extend(f"{name} is not in the record." for name in extra[:_MOST_EXTRA])
    if len(extra) > _MOST_EXTRA:
        report.notes.append(f"{len(extra) - _MOST_EXTRA} more files are not in the record.")
    return report


def _compared(folder: Path, name: str, entry: dict[str, Any], seconds: list[str] | None) -> Finding | None:
    path = file_inside(folder, name)
    if path is None:
        return Finding(name, "is a link that leads out of the folder")
    if not path.exists():
        return Finding(name, "missing")
    if not path.is_file():
        return Finding(name, "is no regular file")
    if path.stat().st_size < _MOST_BYTES and file_digest(path) == entry["sha256"]:
        return None
    return _altered(path, name, entry, seconds)


def _check_record(record: dict[str, Any], report: Verification, extra: list[str]) -> None:
    """Compare the record with its digest. Where that differs, or an old record has none, look for contradictions."""
    signed = record.get(DIGEST)
    if signed == record_digest(record):
        report.checked.append("run.json")
        return
    from harmonia_lab.generation.record_checks import contradictions  # noqa: PLC0415 - numpy loads for it

    told = contradictions(record, report.folder, altered={finding.file for finding in report.findings}, extra=extra)
    if record["recordVersion"] < 2 and signed is None:
        report.notes.append(
            "The record is of version 1, which had no digest of itself: only what contradicts the files is found."
        )
        report.checked.extend(["run.json"] if told else [])
    else:
        report.checked.append("run.json")
        what = "differs from its own digest: it was edited or damaged after the song was made"
        report.findings.append(Finding("run.json", what if signed else "has lost its own digest"))
        if not told:
            report.notes.append(
                "Which value of the record was changed can't be told: none contradicts the files. Times, versions, "
                "models and settings stand in the record alone."
            )
    report.findings.extend(Finding("run.json", what) for what in told)


def _not_recorded(folder: Path, record: dict[str, Any]) -> list[str]:
    """Return the names of files in the folder, pipes and links included, that the record doesn't name."""
    known = {*record["files"], "run.json"}
    found = (Path(where, name) for where, _, files in os.walk(folder) for name in files)
    return sorted(name for path in found if (name := path.relative_to(folder).as_posix()) not in known)


def compare_records(
    first: dict[str, Any], second: dict[str, Any], folder: Path, again: Path | None = None
) -> Verification:
    """Return which files a second run made differently; those that hold times (transcript, record) are left out.

    folder, again: of the first and the second run's files; with the latter, metadata may differ in its warnings.
    """
    report = Verification(folder)
    for name in sorted({*first["files"], *second["files"]}):
        if not any(PurePosixPath(name).match(pattern) for pattern in REPEATABLE):
            continue
        report.checked.append(name)
        before, after = first["files"].get(name), second["files"].get(name)
        if before is None or after is None:
            report.findings.append(Finding(name, "only made " + ("the first time" if after is None else "now")))
        elif before["sha256"] == after["sha256"]:
            continue
        elif name == "metadata.json" and again and _same_but_for_warnings(folder / name, again / name):
            report.notes.append("The warnings differ: they tell of servers and settings as they were at the time.")
        else:
            at = first_difference(first["seconds"].get(name), second["seconds"].get(name))
            report.findings.append(Finding(name, "differs", at))
    if report.findings:
        report.notes.extend(_differences(first, second))
    return report


def _same_but_for_warnings(before: Path, after: Path) -> bool:
    """Return whether two metadata files differ in their warnings, and in nothing else."""
    first, second = (json.loads(path.read_bytes()) for path in (before, after))
    return bool(first | {"warnings": []} == second | {"warnings": []})


def _altered(path: Path, name: str, entry: dict[str, Any], recorded: list[str] | None) -> Finding:
    if recorded is None:
        size = path.stat().st_size
        return Finding(name, "altered" if size == entry["bytes"] else f"altered: {size} bytes, not {entry['bytes']}")
    from harmonia_lab.audio_engines.audiofile import digest_seconds  # noqa: PLC0415 - only for altered audio

    at = first_difference(recorded, digest_seconds(path, CancelToken()))
    return Finding(name, "altered, though it sounds the same (tags or encoding)" if at is None else "altered", at)


def _differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Return notes on versions, machine and engines that may explain a different result."""
    pairs = [("", first.get(area, {}), second.get(area, {})) for area in ("versions", "host")]
    pairs += [
        (f"{stage} engine's ", first["engines"][stage], second["engines"][stage]) for stage in ("metadata", "audio")
    ]
    return [
        f"{owner}{name}: {before.get(name, 'none')} then, {after.get(name, 'none')} now."
        for owner, before, after in pairs
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
