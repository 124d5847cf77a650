"""A study's songs: makes what its folder does not have yet, block by block, in the order that was drawn.

Owns which song comes next, warm-ups, how long the rest takes, and when a configuration is given up. Every configuration
has a lab of its own, so that none uses another's loaded model or cache. A song is done when its row stands in the
study's `rows.jsonl`.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from harmonia_lab import storage
from harmonia_lab.errors import Cancelled, HarmoniaError, InvalidRequest, StorageError
from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.songs_handle import told as told_left
from harmonia_lab.storage import expanded, locked, storage_errors
from harmonia_lab.store.run_log import RunLabels, RunLog
from harmonia_lab.study.design import StudyBlock, StudyDesign
from harmonia_lab.study.folder import StudyFolder, StudyLog, StudyRecord, differences, new_id
from harmonia_lab.study.handle import PlannedSong, StudyWatch
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

    def with_checked_options(self, request: SongRequest) -> SongRequest: ...

    def submit_request(self, request: SongRequest, *, out: Any, here: bool, labels: RunLabels) -> JobHandle: ...

    def unload(self) -> None: ...

    def close(self) -> None: ...


_Began = Callable[[JobHandle], None]

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
    watch: StudyWatch | None = None,
) -> StudyReport:
    """Make a study, as `Lab.study` says. run_log: gets the rows too. common: parameters of `Lab` for every
    configuration that has no others."""
    say, watch = say or _to_standard_error, watch or StudyWatch()
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
        run = _Run(folder, record, design, labs, log, say, watch)
        run.make_all()
    report = StudyReport(folder.path, run.missing)
    if page and not watch.stopped:  # a person who cancels doesn't wait for pictures, and the next call writes it
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
        watch: StudyWatch,
    ) -> None:
        self._folder, self._record, self._design = folder, record, design
        self._labs, self._log, self._say, self._watch = labs, log, say, watch
        self.missing: list[MissingSong] = []
        self._failures: defaultdict[str, list[HarmoniaError]] = defaultdict(list)
        """Configuration → the errors of its songs since one was made."""
        self._wall_s: defaultdict[tuple[str, float], list[float]] = defaultdict(list)
        """Configuration and length → seconds that its songs took."""

    def make_all(self) -> None:
        """Make every song that has no row yet. An interrupt cancels the song that is being made, and is raised."""
        songs = self._planned_songs()
        waiting = [index for index, song in enumerate(songs) if song.row is None]
        self._watch.planned(self._folder.path, songs)
        if not waiting:
            return
        for caution in self._design.cautions():
            self._say(f"Caution: {caution}")
        self._warm_up([name for name in self._labs if any(songs[index].configuration == name for index in waiting)])
        told = set[str]()
        for place, index in enumerate(waiting):
            if self._watch.stopped:
                break
            block, name = songs[index].block, songs[index].configuration
            head = f"{len(songs) - len(waiting) + place + 1:>{len(str(len(songs)))}}/{len(songs)}"
            head = f"{head}  block {block.number}  {name}"
            later = [songs[other] for other in waiting[place:]]
            given_up = None if self._possible(name) else self._not_tried(name)
            error = given_up or self._make_of_block(index, later)
            if error is None:
                left = self._seconds_left(later[1:])
                until = f"  {told_left(left, datetime.now().astimezone())}" if left else ""
                self._say(f"{head}: {self._wall_s[name, block.seconds][-1]:.1f} s{until}")
            elif not self._watch.stopped:
                self.missing.append(MissingSong(block.number, name, error))
                self._watch.song_missing(index, error)
                if given_up is None or name not in told:
                    self._say(f"{head}: [{error.code}] {error.message}")
                told |= {name} if given_up else set()

    def _planned_songs(self) -> list[PlannedSong]:
        """Return the songs of the study in the drawn order, each with its row if it has one."""
        rows = {
            (row["block"], row["configuration"]): row
            for row in self._folder.rows().rows()
            if row["status"] == "completed" and row["block"] is not None
        }
        found = []
        for block in self._record.blocks:
            story = self._design.stories[block.story - 1]
            words = story.narrative or (story.metadata.title if story.metadata is not None else "")
            for name in block.order:
                row = rows.get((block.number, name))
                found.append(PlannedSong(block, name, words, row))
                if row is not None and row.get("total_s"):
                    self._wall_s[name, block.seconds].append(row["total_s"])
        return found

    def _warm_up(self, names: Sequence[str]) -> None:
        for number, request in enumerate(self._design.warm_up_requests(), 1):
            for name in names:
                if self._watch.stopped:
                    return
                self._watch.warms_up(f"warm-up {number} of {self._design.warm_up}, {name}")
                error = self._make(name, request, None) if self._possible(name) else None
                self._say(f"warm-up {number}  {name}: {f'[{error.code}] {error.message}' if error else 'done'}")
        self._watch.warms_up("")

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

    def _make_of_block(self, index: int, later: Sequence[PlannedSong]) -> HarmoniaError | None:
        """Make the first of `later`, and return the error that ended it, if one did. index: its place in the study."""
        block, name = later[0].block, later[0].configuration
        if self._watch.is_cancelled(index):
            return Cancelled()
        error = self._make(
            name,
            self._design.request(block),
            block,
            lambda job: self._watch.song_began(index, job, self._seconds_left(later)),
        )
        if error is None:
            folder = self._song_folder(name, block)
            self._watch.song_made(index, self._log.last, folder if self._design.keep_songs else None)
        return error

    def _song_folder(self, name: str, block: StudyBlock | None) -> Path:
        return self._folder.song(block.number if block else None, self._record.configurations.index(name) + 1, name)

    def _make(
        self,
        name: str,
        request: SongRequest,
        block: StudyBlock | None,
        began: Callable[[JobHandle], None] | None = None,
    ) -> HarmoniaError | None:
        """Make one song, and return the error that ended it, if one did. began: gets its job."""
        folder = self._song_folder(name, block)
        _clear(folder)
        self._log.last = {}
        start = time.monotonic()
        try:
            labels = RunLabels("study", self._record.id, block.number if block else None, name)
            job = self._labs[name].submit_request(request, out=folder, here=True, labels=labels)
            if began is not None:
                began(job)
            _finish(job, self._watch)
            if self._log.last.get("status") != "completed":
                raise StorageError(f"The row of {folder.name} could not be written to {self._folder.rows_path}.")
        except Cancelled as error:  # what its user did not want says nothing of the next song
            return error
        except HarmoniaError as error:
            self._failures[name].append(error)
            return error
        finally:
            if not self._design.keep_loaded:
                self._labs[name].unload()
        self._failures[name].clear()
        if block is not None:
            self._wall_s[name, block.seconds].append(time.monotonic() - start)
        if block is None or not self._design.keep_songs:
            storage.remove_tree(folder)
        return None

    def _seconds_left(self, waiting: Sequence[PlannedSong]) -> float | None:
        """Return how long these songs will take, from those that were made; None as long as there are none."""
        by_name: defaultdict[str, list[float]] = defaultdict(list)
        for (name, _), took in self._wall_s.items():
            by_name[name] += took
        every = [seconds for each in by_name.values() for seconds in each]
        if not every:
            return None
        return sum(
            fmean(
                self._wall_s.get((song.configuration, song.block.seconds)) or by_name.get(song.configuration) or every
            )
            for song in waiting
        )


def _read(source: DesignSource, common: Mapping[str, Any]) -> _Source:
    if isinstance(source, StudyDesign):
        return _Source(source)
    if isinstance(source, Mapping):
        return _Source(design_of(source, common))
    path = expanded(source)
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
            for story in filter(lambda story: story.audio_options, design.stories):
                labs[name].with_checked_options(story)
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
        storage.remove_tree(part)
    storage.remove_tree(folder)


def _finish(job: JobHandle, watch: StudyWatch) -> None:
    """Wait for the song, which is cancelled when the study is to end. Raises the HarmoniaError that ended it. An
    interrupt cancels it, and is raised again."""
    try:
        while not job.wait(POLL_S):
            if watch.stopped:
                job.stop(STOP_GRACE_S)
        job.result()
    except BaseException:
        job.stop(STOP_GRACE_S)
        raise


def _to_standard_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - the default of `Lab.study`
