"""A batch: makes the songs of a table that its folder does not have yet.

Owns the night: the order, the folder's lock, what is printed, and when it stops. `plan.py` decides what is to be made.
The name of a song's folder holds a digest of the request (`identity.py`), or is the row's own, and a song's folder
appears whole or not at all. So the folders alone say which songs are done, also after a run that was killed.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from harmonia_lab.analysis.frames import BenchmarkLog
from harmonia_lab.batch.identity import EngineNames, digest_of
from harmonia_lab.batch.listening import write_page
from harmonia_lab.batch.pace import told
from harmonia_lab.batch.plan import BatchPlan, Task, is_song_of
from harmonia_lab.batch.report import BatchReport, Outcome, Writer, printable
from harmonia_lab.batch.rows import Row, read_rows, refuse_unreadable, rows_of
from harmonia_lab.batch.songs import clear_leftovers, leftovers, song_of
from harmonia_lab.engine_registry import METADATA_GROUP, engine_names, metadata_specs
from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest, MetadataError, StorageError, error_of
from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.protocol.events import MetadataGenerationComplete
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.storage import locked, storage_errors

__all__ = ["STOP_AFTER", "BatchOptions", "Rows", "run_batch", "run_sweep"]

Rows = Path | str | Iterable[Mapping[str, Any] | SongRequest]
PrintLine = Callable[[str], None]

POLL_S = 0.1
STOP_GRACE_S = 0.25
STOP_AFTER = 5
"""A model that fails with one story in ten fails five times in a row once in 10⁵ songs; a full disk always does."""

_PASSING = (ErrorCode.METADATA_INVALID, ErrorCode.OLLAMA_BUSY, ErrorCode.OLLAMA_SLOW)
"""Errors of stage 1 that say nothing about the next song."""


@dataclass(frozen=True)
class BatchOptions:
    """As `Lab.batch` says. check: read and report, make nothing."""

    check: bool = False
    remake: bool = False
    require: str | None = None
    stop_after: int = STOP_AFTER


class BatchLab(EngineNames, Protocol):
    """What a batch needs of `lab.Lab`."""

    songs: Path
    log: BenchmarkLog

    @property
    def metadata_engine(self) -> Any: ...

    @property
    def metadata_reason(self) -> str: ...

    def submit_request(
        self, request: SongRequest, *, audio: Any = None, out: Any = None, here: bool = False, replaces: bool = False
    ) -> Any: ...


def run_batch(
    lab: BatchLab,
    rows: Rows,
    out: Path | str | None,
    options: BatchOptions,
    *,
    encoding: str | None = None,
    say: PrintLine | None = None,
) -> BatchReport:
    """Make the songs of a table, as `Lab.batch` says."""
    table = read_rows(Path(rows), encoding) if isinstance(rows, (str, Path)) else rows_of(rows)
    return _run(lab, table, out, options, say or _to_standard_error)


def run_sweep(
    lab: BatchLab,
    narratives: str | Sequence[str],
    options: BatchOptions,
    *,
    seeds: Iterable[int],
    audio: Sequence[str],
    out: Path | str | None,
    say: PrintLine | None,
    **fields: Any,
) -> BatchReport:
    """Make every narrative with every seed and audio engine, as `Lab.sweep` says."""
    stories = [narratives] if isinstance(narratives, str) else list(narratives)
    table = rows_of(
        {"narrative": story, "seed": seed, "audio": engine, **fields}
        for seed in list(seeds)
        for story in stories
        for engine in audio
    )
    if out is None:
        asked = [(row.audio, row.request.to_wire() if row.request else None) for row in table]
        out = lab.songs / f"sweep-{digest_of(asked)[:12]}"
    return _run(lab, table, out, options, say or _to_standard_error)


def _run(
    lab: BatchLab, table: list[Row], given: Path | str | None, options: BatchOptions, print_line: PrintLine
) -> BatchReport:
    if not isinstance(options.stop_after, int) or options.stop_after < 0:
        raise InvalidRequest("stop_after is a number of songs; 0 never stops.", details={"fields": ["stop_after"]})
    writer = _writer(lab, table)
    _check_required(options.require, writer)
    out = Path(given).expanduser().absolute() if given is not None else None
    if options.check:
        plan = BatchPlan(lab, writer, table, out, remake=options.remake)
        report = BatchReport(out or Path(), plan.outcomes, lab.log, writer)
        report.state = "checked"
        for outcome in report.errors:
            where = "" if outcome.row.unreadable else f"{outcome.row.where}: "
            print_line(f"{where}{printable(str(outcome.error))}")
        for line in _preview(plan, writer, report):
            print_line(line)
        return report
    refuse_unreadable(table)
    assert out is not None
    lock = out / ".batch.lock"
    with storage_errors(lock):
        out.mkdir(parents=True, exist_ok=True)
    with locked(lock, f"Another batch is at work in {out}."):
        plan = BatchPlan(lab, writer, table, out, remake=options.remake)
        return _Night(lab, plan, out, writer, options, print_line).run()


def _writer(lab: BatchLab, table: list[Row]) -> Writer | None:
    """Return the engine that writes words, or None if no row needs one: then none is looked for."""
    if all(row.request is None or row.request.metadata is not None for row in table):
        return None
    auto = lab.metadata_choices[0] == "auto"
    try:
        engine = lab.metadata_engine.name
    except MetadataError as error:
        return Writer("none", error.message.rstrip("."), auto, fallback=False, error=error)
    spec = metadata_specs().get(engine)
    return Writer(engine, lab.metadata_reason, auto, fallback=auto and spec is not None and spec.fallback)


def _check_required(required: str | None, writer: Writer | None) -> None:
    """Raise InvalidRequest for an unknown engine, MetadataError if words are to be written and another engine would."""
    names = engine_names(METADATA_GROUP)
    if required is None or (writer and required == writer.engine):
        return
    if required not in names:
        raise InvalidRequest(
            f"There is no metadata engine {required[:40]!r} to require.",
            hint=f"Known: {', '.join(names)}.",
            details={"fields": ["require"]},
        )
    if writer is not None:
        raise MetadataError(
            f"The batch requires {required}, and the words would be by {writer.engine}: {writer.reason}.",
            code=ErrorCode.OLLAMA_UNAVAILABLE,
            hint=f"Start {required}, or leave --require out.",
        )


class _Night:
    """One run over the rows of a plan."""

    def __init__(
        self,
        lab: BatchLab,
        plan: BatchPlan,
        out: Path,
        writer: Writer | None,
        options: BatchOptions,
        print_line: PrintLine,
    ) -> None:
        self._lab, self._plan, self._out, self._options, self._print_line = lab, plan, out, options, print_line
        self._outcomes, self._writer = plan.outcomes, writer
        self._report = BatchReport(out, plan.outcomes, lab.log, writer)
        self._begun: dict[int, str] = {}
        """Index of each row that was tried → its generation's id; "" before it has one."""
        self._failures: list[HarmoniaError] = []
        """Of the latest songs in a row, all with one code."""

    def run(self) -> BatchReport:
        """Make what is to be made. An interrupt cancels the song that is being made, and is raised again."""
        report = self._report
        report.state = "running"
        for line in _preview(self._plan, self._writer, report):
            self._print_line(line)
        try:
            report.write_if_due()
            for index in range(len(self._outcomes)):
                self._outcomes[index] = self._end(index)
                if self._must_stop(index):
                    break
                report.write_if_due()
            report.state = "stopped" if report.stopped else "done"
        finally:  # after an interrupt too, the report lists what was made
            if report.state == "running":
                report.state = "interrupted"
            self._add_finished_songs()
            report.unwritten = None
            try:
                report.write()
                write_page(report)
            except StorageError as error:
                report.unwritten = error
        return report

    def _end(self, index: int) -> Outcome:
        """Return how the row ended, and say so. An error of this song alone becomes its outcome."""
        outcome = self._outcomes[index]
        row, count = outcome.row, len(self._outcomes)

        def print_line(text: str) -> None:
            self._print_line(f"{row.number:>{len(str(count))}}/{count}  {text}")

        if outcome.same_as is not None:
            print_line(f"the same as row {outcome.same_as}")
            return replace(self._outcomes[outcome.same_as - 1], row=row, same_as=outcome.same_as)
        if outcome.song:
            print_line(_told("kept", outcome.song))
            return outcome
        try:
            if outcome.error is not None:
                raise outcome.error
            self._begun[index] = ""
            task = self._plan.tasks[index]
            found = _finished_by_another(task, self._out)
            song = found or self._make(index, print_line)
        except HarmoniaError as error:
            print_line(f"failed  [{error.code}] {printable(str(error))}")
            return replace(outcome, status="failed", error=error)
        self._plan.pace.add(song)
        music = f"music   {song['stageSeconds']['audio']:6.1f} s  {task.folder.name}/song.flac"
        print_line(_told("kept", song) if found else f"{music}{self._time_left(index)}")
        aside = f"replaced/{task.folder.name}-{song['generationId'][:8]}"
        replaced = aside if task.replaces and (self._out / aside).exists() else None
        return replace(outcome, status="kept" if found else "made", song=song, replaced=replaced)

    def _make(self, index: int, print_line: PrintLine) -> dict[str, Any]:
        """Make one song, and return its figures. Raises the HarmoniaError that ended it. An interrupt cancels the song,
        and is raised again."""
        task, audio = self._plan.tasks[index], self._outcomes[index].row.audio
        job = self._lab.submit_request(
            task.identity.request, audio=audio, out=task.folder, here=True, replaces=task.replaces
        )
        self._begun[index] = job.id
        try:
            _watch(job, self._lab, print_line)
            job.result()
        except BaseException:
            job.stop(STOP_GRACE_S)
            raise
        if (song := song_of(task.folder, self._out)) is None:
            raise StorageError(f"{task.folder} was written, and cannot be read again.")
        clear_leftovers(task.folder)  # the lock keeps other batches, whose parts these might be, out
        return song

    def _time_left(self, index: int) -> str:
        left = self._plan.pace.seconds_left(task.asked for i, task in self._plan.tasks.items() if i > index)
        return f"  {told(left, datetime.now().astimezone())}" if left else ""

    def _must_stop(self, index: int) -> bool:
        """Return whether the row's failure ends the batch; the report then says why."""
        outcome, report = self._outcomes[index], self._report
        if index not in self._begun or outcome.same_as is not None:
            return False
        if outcome.error is None:
            self._failures.clear()
            return False
        error = outcome.error
        self._failures = [*(e for e in self._failures if e.code == error.code), error]
        ended = "What is made is kept: when that is mended, the same command goes on."
        if self._options.require and isinstance(error, MetadataError) and error.code not in _PASSING:
            what = f"{self._options.require} is required, and it failed: {error.message}"
            report.stopped = error_of(error.code, what, hint=ended)
        elif 0 < self._options.stop_after <= len(self._failures):
            number = len(self._failures)
            what = f"{number} songs in a row failed with {error.code}" if number > 1 else f"A song failed: {error.code}"
            report.stopped = error_of(error.code, f"{what}: {error.message}", hint=ended)
        return report.stopped is not None

    def _add_finished_songs(self) -> None:
        """Find the songs that were on the disk already when an interrupt came, before their rows said so."""
        for index, generation_id in self._begun.items():
            outcome = self._outcomes[index]
            if outcome.status == "waiting":
                song = song_of(self._plan.tasks[index].folder, self._out)
                if song is not None and song["generationId"] == generation_id:
                    self._outcomes[index] = replace(outcome, status="made", song=song)


def _preview(plan: BatchPlan, writer: Writer | None, report: BatchReport) -> Iterator[str]:
    """Yield what a person who leaves for the night must know before."""
    count, tasks = len(plan.outcomes), plan.tasks.values()
    left = plan.pace.seconds_left(task.asked for task in tasks)
    kept = sum(outcome.status == "kept" for outcome in plan.outcomes)
    twice = sum(outcome.status == "waiting" for outcome in plan.outcomes) - len(tasks)
    time_left = f" ({told(left, datetime.now().astimezone())})" if left else ""
    numbers = [f"{len(tasks)} songs to make{time_left}", f"{kept} kept", f"{len(report.errors)} with errors"]
    if twice:
        numbers.insert(2, f"{twice} the same as others")
    yield f"{count} rows: {', '.join(numbers)}"
    if report.errors and report.state == "running":
        shown = ", ".join(outcome.row.where for outcome in report.errors[:10])
        yield f"These rows can't be made: {shown}{' …' if len(report.errors) > 10 else ''}"
    if report.unused_columns:
        yield f"Columns for the report alone: {printable(', '.join(report.unused_columns))}"
    if writer and any(task.identity.request.metadata is None for task in tasks):
        yield f"Words by {writer.engine} ({writer.reason})"
        if writer.fallback:
            yield (
                f"NOTE: {writer.engine} is the fallback, since there is no better engine. --require ollama "
                "(require='ollama') begins only with Ollama."
            )


def _told(what: str, song: Mapping[str, Any]) -> str:
    by = ", ".join(song["engines"].values())
    return f"{what:<8}{printable(song['title'])}  ({printable(by)})"


def _finished_by_another(task: Task, out: Path) -> dict[str, Any] | None:
    """Put in place a song that a killed run had finished and not yet moved there. Return its figures, if there is one.

    Raises StorageError.
    """
    if task.replaces:
        return None
    for part in leftovers(task.folder):
        if song_of(part, out) is not None and is_song_of(part, task.identity):
            with storage_errors(task.folder):
                part.rename(task.folder)
            clear_leftovers(task.folder)
            return song_of(task.folder, out)
    return None


def _watch(job: JobHandle, lab: BatchLab, print_line: PrintLine) -> None:
    """Print a line for stage 1 when it is done, until the job has ended."""
    seen = 0
    while True:
        ended = job.wait(POLL_S)
        for event in job.events[seen:]:
            seen += 1
            if isinstance(event, MetadataGenerationComplete):
                by = f"({lab.metadata_engine.name})"
                print_line(f"lyrics  {event.duration / 1000:6.1f} s  {printable(event.metadata.title)}  {by}")
        if ended:
            return


def _to_standard_error(line: str) -> None:
    # A terminal that was closed, or a log on a full disk, must not end the night.
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - the default of `Lab.batch`
