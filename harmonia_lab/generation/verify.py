"""Checks a song's folder against its record, and the record of a second run against that of the first.

Owns the comparison. `lab.py` makes the song again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from harmonia_lab.engines.base import CancelToken
from harmonia_lab.generation.artifacts import REPEATABLE, file_digest, read_record

__all__ = ["Finding", "Verification", "check_folder", "compare_records"]


@dataclass(frozen=True)
class Finding:
    """One file that differs from the record. second: first second of audio that differs, from 0; None if unknown."""

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


def check_folder(folder: Path) -> Verification:
    """Compare every file with its SHA-256 in `run.json`, and altered audio second by second.

    Raises HarmoniaError (NOT_FOUND) if the folder has no readable record.
    """
    record = read_record(folder)
    report = Verification(folder)
    for name, entry in sorted(record["files"].items()):
        path = folder / name
        report.checked.append(name)
        try:
            if not path.is_file():
                report.findings.append(Finding(name, "missing"))
            elif file_digest(path) != entry["sha256"]:
                report.findings.append(_altered(path, name, record["seconds"].get(name)))
        except OSError as error:
            report.findings.append(Finding(name, f"cannot be read: {(error.strerror or str(error)).lower()}"))
    known = {*record["files"], "run.json"}
    extra = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    report.notes.extend(f"{name} is not in the record." for name in extra if name not in known)
    return report


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
            at = _first_difference(first["seconds"].get(name), second["seconds"].get(name))
            report.findings.append(Finding(name, "differs", at))
    if report.findings:
        report.notes.extend(_differences(first, second))
    return report


def _same_but_for_warnings(before: Path, after: Path) -> bool:
    """Return whether two metadata files differ in their warnings, and in nothing else."""
    first, second = (json.loads(path.read_bytes()) for path in (before, after))
    return bool(first | {"warnings": []} == second | {"warnings": []})


def _altered(path: Path, name: str, recorded: list[str] | None) -> Finding:
    if recorded is None:
        return Finding(name, "altered")
    from harmonia_lab.audio_engines.audiofile import digest_seconds  # noqa: PLC0415 - only for altered audio

    at = _first_difference(recorded, digest_seconds(path, CancelToken()))
    return Finding(name, "altered, though it sounds the same (tags or encoding)" if at is None else "altered", at)


def _first_difference(first: list[str] | None, second: list[str] | None) -> int | None:
    if first is None or second is None or first == second:
        return None
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def _differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Return notes on versions, machine and engines that may explain a different result."""
    pairs = [("", first.get(area, {}), second.get(area, {})) for area in ("versions", "host")]
    pairs += [(f"{stage} engine's ", first["engines"][stage], second["engines"][stage]) for stage in first["engines"]]
    return [
        f"{owner}{name}: {before.get(name, 'none')} then, {after.get(name, 'none')} now."
        for owner, before, after in pairs
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
