"""A study's songs: makes what its folder does not have yet, block by block, in the order that was drawn.

Owns which song comes next, warm-ups, and when a configuration is given up. Every configuration has a lab of its own, so
that none uses another's loaded model or cache. A song is done when its row stands in the study's `rows.jsonl`.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from harmonia_lab.errors import HarmoniaError, InvalidRequest, StorageError
from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.storage import locked, storage_errors
from harmonia_lab.store.run_log import RunLabels, RunLog
from harmonia_lab.study.design import StudyBlock, StudyDesign
from harmonia_lab.study.folder import StudyFolder, StudyLog, StudyRecord, differences, new_id
from harmonia_lab.study.reading import Faults, design_of, from_record, read_design
from harmonia_lab.study.report import StudyReport
from harmonia_lab.study.result import MissingSong

__all__ = ["DesignSource", "MakeLab", "StudyLab", "check_study", "run_study"]

DesignSource = Path | str | Mapping[str, Any] | StudyDesign
"""A `.toml` or `.json` file, a mapping, a design, or the folder of a study, which is made again."""

GIVEN_UP_AFTER = 3
"""Failures of one configuration in a row, after which its other songs are not tried in this session."""

POLL_S = 0.1
STOP_GRACE_S = 0.25


class StudyLab(Protocol):
    """What a study needs of `lab.Lab`."""

    def engines_for(self, request: SongRequest) -> dict[str, Any]: ...

    def submit_request(self, request: SongRequest, *, out: Any, here: bool, labels: RunLabels) -> JobHandle: ...

    def unload(self) -> None: ...

    def close(self) -> None: ...


MakeLab = Callable[[Mapping[str, Any], StudyLog | None], StudyLab]
"""Makes a lab from its parameters. The log takes the place of the lab's own."""


@dataclass(frozen=True)
class _Source:
    """A design, and the study that it repeats, if any."""

    design: StudyDesign
    repeated: StudyFolder | None = None


def check_study(make_lab: MakeLab, common: Mapping[str, Any], source: DesignSource) -> str:
    """Return what a study would make, in a few lines. Nothing is made. Raises InvalidRequest that names every fault."""
    design = _read(source, common).design
    with ExitStack() as stack:
        _make_labs(make_lab, design, None, stack)
    blocks = design.blocks()
    songs, warm_ups = len(blocks) * len(design.configurations), design.warm_up * len(design.configurations)
    seconds = sum(block.seconds for block in blocks) * len(design.configurations)
    counts = f"{len(design.stories)} × {len(design.seeds)} × {len(design.lengths)}"
    ratio = "means" if design.claim == "mean" else "typical runs"
    lines = (
        f"{design.name}: {', '.join(design.configurations)}.",
        f"{len(blocks)} blocks (stories × seeds × lengths: {counts}).",
        f"{songs} songs of {seconds:g} s in all, after {warm_ups} to warm up.",
        f"The study is about the ratio of {ratio} of {design.primary}; from {design.smallest_ratio:g} on it matters.",
        *(f"Caution: {caution}" for caution in design.cautions()),
    )
    return "\n".join(lines)


def run_study(
    make_lab: MakeLab,
    run_log: RunLog,
    common: Mapping[str, Any],
    source: DesignSource,
    out: Path | str,
    *,
    say: Callable[[str], None] | None = None,
    page: bool = True,
) -> StudyReport:
    """Make a study, as `Lab.study` says. run_log: gets the rows too. common: parameters of `Lab` for every
    configuration that has no others."""
    say = say or _to_standard_error
    found, folder = _read(source, common), StudyFolder(out)
    design = found.design
    record = folder.record() if folder.begun else None
    with ExitStack() as stack:
        log = StudyLog(run_log.path, folder, record.id if record else new_id(design))
        labs = _make_labs(make_lab, design, log, stack)
        engines = {name: lab.engines_for(design.an_unwritten_story()) for name, lab in labs.items()}
        with storage_errors(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
        stack.enter_context(locked(folder.path / ".study.lock", f"Another process makes the study in {folder.path}."))
        if record is None:
            repeated = found.repeated.record() if found.repeated else None
            record = StudyRecord.new(log.study, design, engines, repeated)
            folder.begin(record, design)
        else:
            _check_unchanged(folder, record, design, engines)
            for change in folder.note_packages():
                say(f"Another version than in the session before: {change}.")
        run = _Run(folder, record, design, labs, log, say)
        run.make_all()
    report = StudyReport(folder.path, run.missing)
    if page:
        report.write_page(report.against(found.repeated.path) if found.repeated else None)
    return report


class _Run:
    """One session of a study. missing: the songs that it could not make."""

    def __init__(
        self,
        folder: StudyFolder,
        record: StudyRecord,
        design: StudyDesign,
        labs: Mapping[str, StudyLab],
        log: StudyLog,
        say: Callable[[str], None],
    ) -> None:
        self._folder, self._record, self._design = folder, record, design
        self._labs, self._log, self._say = labs, log, say
        self.missing: list[MissingSong] = []
        self._failures: defaultdict[str, list[HarmoniaError]] = defaultdict(list)
        """Configuration → the errors of its songs since one was made."""
        self._wall_s: defaultdict[tuple[str, float], list[float]] = defaultdict(list)
        """Configuration and length → seconds that its songs took in this session."""

    def make_all(self) -> None:
        """Make every song that has no row yet. An interrupt cancels the song that is being made, and is raised."""
        done = self._rows_of_songs()
        waiting = [
            (block, name) for block in self._record.blocks for name in block.order if (block.number, name) not in done
        ]
        if not waiting:
            return
        for caution in self._design.cautions():
            self._say(f"Caution: {caution}")
        self._warm_up([name for name in self._labs if any(name == other for _, other in waiting)])
        count, told = len(str(len(done) + len(waiting))), set[str]()
        for index, (block, name) in enumerate(waiting):
            head = f"{len(done) + index + 1:>{count}}/{len(done) + len(waiting)}  block {block.number}  {name}"
            given_up = None if self._possible(name) else self._not_tried(name)
            error = given_up or self._make(name, self._design.request(block), block)
            if error is not None:
                self.missing.append(MissingSong(block.number, name, error))
                if given_up is None or name not in told:
                    self._say(f"{head}: [{error.code}] {error.message}")
                told |= {name} if given_up else set()
            else:
                took = self._wall_s[name, block.seconds][-1]
                self._say(f"{head}: {took:.1f} s{self._remaining(waiting[index + 1 :])}")

    def _rows_of_songs(self) -> set[tuple[int, str]]:
        """Return the block and configuration of each song that has its row."""
        return {
            (row["block"], row["configuration"])
            for row in self._folder.rows().rows()
            if row["status"] == "completed" and row["block"] is not None
        }

    def _warm_up(self, names: Sequence[str]) -> None:
        for number, request in enumerate(self._design.warm_up_requests(), 1):
            for name in names:
                error = self._make(name, request, None) if self._possible(name) else None
                self._say(f"warm-up {number}  {name}: {f'[{error.code}] {error.message}' if error else 'done'}")

    def _possible(self, name: str) -> bool:
        """Return whether the configuration and another one have not been given up."""
        tried = [other for other in self._labs if not self._given_up(other)]
        return name in tried and len(tried) > 1

    def _given_up(self, name: str) -> bool:
        return len(self._failures[name]) >= GIVEN_UP_AFTER

    def _not_tried(self, name: str) -> HarmoniaError:
        given_up = name if self._given_up(name) else next(filter(self._given_up, self._labs))
        last = self._failures[given_up][-1]
        return HarmoniaError(f"Not tried, since {given_up} failed {GIVEN_UP_AFTER} times in a row.", code=last.code)

    def _make(self, name: str, request: SongRequest, block: StudyBlock | None) -> HarmoniaError | None:
        """Make one song, and return the error that ended it, if one did."""
        number = block.number if block else None
        folder = self._folder.song(number, self._record.configurations.index(name) + 1, name)
        _clear(folder)
        self._log.last = {}
        began = time.monotonic()
        try:
            labels = RunLabels("study", self._record.id, number, name)
            _finished(self._labs[name].submit_request(request, out=folder, here=True, labels=labels))
            if self._log.last.get("status") != "completed":
                raise StorageError(f"The row of {folder.name} could not be written to {self._folder.rows_path}.")
        except HarmoniaError as error:
            self._failures[name].append(error)
            return error
        finally:
            if not self._design.keep_loaded:
                self._labs[name].unload()
        self._failures[name].clear()
        if block is not None:
            self._wall_s[name, block.seconds].append(time.monotonic() - began)
        if block is None or not self._design.keep_songs:
            shutil.rmtree(folder, ignore_errors=True)
        return None

    def _remaining(self, waiting: Sequence[tuple[StudyBlock, str]]) -> str:
        """Return how long the songs that wait will take, from those that were made in this session."""
        if not waiting:
            return ""
        by_name: defaultdict[str, list[float]] = defaultdict(list)
        for (name, _), took in self._wall_s.items():
            by_name[name] += took
        known = fmean(took for each in by_name.values() for took in each)
        seconds = sum(
            fmean(self._wall_s.get((name, block.seconds)) or by_name.get(name) or [known]) for block, name in waiting
        )
        return f", {_duration(seconds)} to go"


def _read(source: DesignSource, common: Mapping[str, Any]) -> _Source:
    if isinstance(source, StudyDesign):
        return _Source(source)
    if isinstance(source, Mapping):
        return _Source(design_of(source, common))
    path = Path(source).expanduser()
    if not path.is_dir():
        return _Source(read_design(path, common))
    repeated = StudyFolder(path)
    return _Source(from_record(repeated.record().design, common), repeated)


def _make_labs(make_lab: MakeLab, design: StudyDesign, log: StudyLog | None, stack: ExitStack) -> dict[str, StudyLab]:
    """Return each configuration's lab. Raises InvalidRequest that names each one whose engines can't be had."""
    labs, faults = {}, Faults()
    for name, parameters in design.configurations.items():
        with faults.gathered(f"configurations.{name}"):
            labs[name] = make_lab(parameters, log)
            stack.callback(labs[name].close)
    faults.raise_any("The design")
    return labs


def _check_unchanged(folder: StudyFolder, record: StudyRecord, design: StudyDesign, engines: Mapping[str, Any]) -> None:
    """Raise InvalidRequest if the folder's study has another design, or its engines are others now."""
    before, now = record.design | {"engines": record.engines}, design.to_json() | {"engines": engines}
    if changes := differences(before, now):
        raise InvalidRequest(
            "\n".join([f"{folder.path} has a study of another design:", *(f"  {change}" for change in changes[:20])]),
            hint="Change it back, or name another folder: figures of two designs don't mix.",
            details={"fields": [change.partition(":")[0] for change in changes]},
        )


def _clear(folder: Path) -> None:
    """Delete what a killed session or a failure left of a song that has no row: nothing could be compared with it."""
    for part in (*folder.parent.glob(f".{folder.name}.partial-*"), *folder.parent.glob(f"{folder.name}.partial-*")):
        shutil.rmtree(part, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def _finished(job: JobHandle) -> None:
    """Wait for the song. Raises the HarmoniaError that ended it. An interrupt cancels it, and is raised again."""
    try:
        while not job.wait(POLL_S):
            pass
        job.result()
    except BaseException:
        job.stop(STOP_GRACE_S)
        raise


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _to_standard_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - the default of `Lab.study`
