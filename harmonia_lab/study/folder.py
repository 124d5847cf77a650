"""A study's folder: what somebody else needs to see how its figures came about, and to make them again.

    study.json        design, blocks with the order drawn, engines, code version
    requests.jsonl    the request of each block
    requirements.txt  the installed packages; requirements-2.txt, … where a later session had others
    rows.jsonl        the run log's rows of the study, without names of machines and folders outside
    songs/            <block>-<number>-<configuration>/
    study.html        the result as a page

Owns these files' names and form, what changed between two sessions, and the lock that keeps a second process out.
`report.py` reads the rows, `page.py` writes the page.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harmonia_lab._version import __version__
from harmonia_lab.analysis.frames import BenchmarkLog
from harmonia_lab.engines.probes import git_commit
from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest
from harmonia_lab.generation.artifacts import slug
from harmonia_lab.protocol.models import utc_now
from harmonia_lab.storage import absolute, storage_errors, write_bytes
from harmonia_lab.study.design import StudyBlock, StudyDesign

__all__ = ["STUDY_VERSION", "StudyFolder", "StudyLog", "StudyRecord", "differences", "installed_packages", "new_id"]

STUDY_VERSION = 1


@dataclass(frozen=True)
class StudyRecord:
    """The content of `study.json`.

    id: in the run log's column `study`. design: as `StudyDesign.to_json`. engines: by configuration, what its songs are
    made with. again: id of the study that this one repeats.
    """

    id: str
    design: dict[str, Any]
    blocks: tuple[StudyBlock, ...]
    engines: dict[str, Any]
    created_at: str
    version: str
    git_commit: str | None
    again: str | None = None

    @classmethod
    def new(
        cls, study_id: str, design: StudyDesign, engines: dict[str, Any], repeated: StudyRecord | None = None
    ) -> StudyRecord:
        """Return the record of a study that begins now. repeated: the study whose order it takes."""
        return cls(
            id=study_id,
            design=design.to_json(),
            blocks=repeated.blocks if repeated else tuple(design.blocks()),
            engines=engines,
            created_at=utc_now().isoformat(timespec="seconds").replace("+00:00", "Z"),
            version=__version__,
            git_commit=git_commit(),
            again=repeated.id if repeated else None,
        )

    @property
    def configurations(self) -> list[str]:
        """The names, in the design's order: the first is what the others are compared with."""
        return list(self.design["configurations"])

    def to_json(self) -> dict[str, Any]:
        return {"studyVersion": STUDY_VERSION, **vars(self), "blocks": [block.to_json() for block in self.blocks]}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> StudyRecord:
        """Raises KeyError, TypeError or ValueError for a damaged record."""
        if int(plain["studyVersion"]) > STUDY_VERSION:
            raise ValueError("it was written by a newer Harmonia Lab")
        values = {name: value for name, value in plain.items() if name != "studyVersion"}
        return cls(**values | {"blocks": tuple(map(StudyBlock.from_json, plain["blocks"]))})


def new_id(design: StudyDesign) -> str:
    return f"{slug(design.name)}-{secrets.token_hex(4)}"


class StudyFolder:
    """The files of one study. Methods raise StorageError where they can't be read or written."""

    def __init__(self, path: Path | str) -> None:
        self.path = absolute(path)
        self.songs = self.path / "songs"
        self.rows_path = self.path / "rows.jsonl"
        self.page = self.path / "study.html"

    def song(self, block: int | None, index: int, configuration: str) -> Path:
        """Return where a song goes. block: None for a warm-up, which is deleted when it is done. index: of the
        configuration, since names may differ in nothing that a folder's name can hold."""
        number = "warm-up" if block is None else f"{block:04}"
        return self.songs / f"{number}-{index}-{slug(configuration)}"

    def record(self) -> StudyRecord:
        """Return `study.json`. Raises HarmoniaError (NOT_FOUND) if it is missing or damaged."""
        path = self.path / "study.json"
        try:
            return StudyRecord.from_json(json.loads(path.read_bytes()))
        except FileNotFoundError:
            why = "study.json is missing"
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            why = f"study.json cannot be read ({type(error).__name__}: {error})"
        raise HarmoniaError(
            f"{self.path} is no study's folder: {why}.",
            code=ErrorCode.NOT_FOUND,
            hint="Name the folder that `harmonia study` wrote.",
        )

    @property
    def begun(self) -> bool:
        return (self.path / "study.json").exists()

    def begin(self, record: StudyRecord, design: StudyDesign) -> None:
        """Write the files of a new study; `study.json` comes last. Raises InvalidRequest if the folder has others."""
        known = {".study.lock", "requests.jsonl", "requirements.txt", "rows.jsonl", "study.json.partial"}
        with storage_errors(self.path):
            strange = sorted(found.name for found in self.path.iterdir() if found.name not in known)
        if strange:
            raise InvalidRequest(
                f"{self.path} has other files already ({', '.join(strange[:3])}), and no study.",
                hint="Name a new or an empty folder.",
                details={"fields": ["out"]},
            )
        requests = [{"block": block.number, **design.request(block).to_wire()} for block in record.blocks]
        write_bytes(self.path / "requests.jsonl", "".join(f"{_line(request)}\n" for request in requests).encode())
        write_bytes(self.path / "requirements.txt", _requirements(installed_packages()).encode())
        partial = self.path / "study.json.partial"
        write_bytes(partial, (json.dumps(record.to_json(), ensure_ascii=False, indent=1) + "\n").encode())
        with storage_errors(partial):
            partial.replace(self.path / "study.json")

    def packages(self) -> list[dict[str, str]]:
        """Return the packages of each session that had others than the one before, as {name: version}."""
        found = [self.path / "requirements.txt", *sorted(self.path.glob("requirements-*.txt"), key=_number)]
        try:
            return [_parsed(path.read_text(encoding="utf-8")) for path in found]
        except OSError:
            return []

    def note_packages(self) -> list[str]:
        """Write the packages that are installed now, if they are others than those of the last session. Return how
        they differ, as sentences."""
        sessions, now = self.packages(), installed_packages()
        changes = differences(sessions[-1], now) if sessions else []
        if changes:
            write_bytes(self.path / f"requirements-{len(sessions) + 1}.txt", _requirements(now).encode())
        return changes

    def rows(self) -> BenchmarkLog:
        """Return the study's rows, as a run log of their own."""
        return BenchmarkLog(self.rows_path)


class StudyLog(BenchmarkLog):
    """The run log of a lab, which also writes each row of a study into the study's folder.

    There, a machine's name is a digest that differs from study to study, a song's folder is relative, and recordings
    have no folder.
    """

    def __init__(self, path: Path, folder: StudyFolder, study: str) -> None:
        super().__init__(path)
        self._folder, self.study = folder, study
        self._rows = folder.rows()
        self.last: dict[str, Any] = {}
        """The row that was written last into the study's folder."""

    def append(self, row: dict[str, Any]) -> None:
        try:
            if row.get("study") == self.study:
                self._rows.append(self._shareable(row))
                self.last = row
        finally:
            super().append(row)

    def _shareable(self, row: Mapping[str, Any]) -> dict[str, Any]:
        digest = hashlib.sha256(f"{self.study} {row.get('host')}".encode()).hexdigest()[:8]
        shared = {**row, "host": f"host-{digest}"}
        if row.get("directory"):
            directory = Path(str(row["directory"]))
            inside = directory.is_relative_to(self._folder.path)
            shared["directory"] = directory.relative_to(self._folder.path).as_posix() if inside else None
        if row.get("audio_settings"):
            shared["audio_settings"] = {name: _without_folder(value) for name, value in row["audio_settings"].items()}
        return shared


def _without_folder(value: Any) -> Any:
    """Return the file's name of a recording that a setting names, and any other value as it is."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """Return what differs between two JSON values, as lines such as "seeds.3: 4, now 5"."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = [*before, *(key for key in now if key not in before)]
        return [
            line
            for key in keys
            for line in differences(before.get(key), now.get(key), f"{name}.{key}" if name else str(key))
        ]
    if isinstance(before, list) and isinstance(now, list) and before and len(before) == len(now):
        pairs = enumerate(zip(before, now, strict=True), 1)
        return [line for number, (old, new) in pairs for line in differences(old, new, f"{name}.{number}")]
    return [] if before == now else [f"{name}: {_short(before)}, now {_short(now)}"]


def installed_packages() -> dict[str, str]:
    """Return the version of every package that is installed here, by its normalised name."""
    found: dict[str, str] = {}
    for each in importlib.metadata.distributions():
        # Only the head is read: parsing the whole metadata of 200 packages takes a second.
        head = (each.read_text("METADATA") or each.read_text("PKG-INFO") or "")[:2000]
        name, version = (re.search(rf"^{field}: *(\S+)", head, re.MULTILINE) for field in ("Name", "Version"))
        if name and version:
            found.setdefault(re.sub(r"[-_.]+", "-", name[1]).lower(), version[1])
    return dict(sorted(found.items()))


def _requirements(packages: Mapping[str, str]) -> str:
    return "".join(f"{name}=={version}\n" for name, version in packages.items())


def _parsed(text: str) -> dict[str, str]:
    pairs = (line.partition("==") for line in text.splitlines() if "==" in line and not line.startswith("#"))
    return {name.strip(): version.strip() for name, _, version in pairs}


def _number(path: Path) -> int:
    digits = re.sub(r"\D", "", path.stem)
    return int(digits) if digits else 0


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _short(value: Any) -> str:
    text = "nothing" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"
