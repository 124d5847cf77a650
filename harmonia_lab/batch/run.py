"""A batch: makes the songs of a table that its folder does not have yet.

Owns the night: the order, the folder's lock, what is printed, and when it stops. `plan.py` decides what is to be made.
The name of a song's folder holds a digest of the request (`identity.py`), or is the row's own, and a song's folder
appears whole or not at all. So the folders alone say which songs are done, also after a run that was killed.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from harmonia_lab import storage
from harmonia_lab.audio_options import known_options
from harmonia_lab.batch.begun import BatchLab, BegunSongs
from harmonia_lab.batch.handle import BatchWatch
from harmonia_lab.batch.identity import digest_of
from harmonia_lab.batch.lines import preview, song_line
from harmonia_lab.batch.listening import write_page
from harmonia_lab.batch.plan import BatchPlan, Task, is_song_of
from harmonia_lab.batch.report import BatchReport, Outcome, Writer
from harmonia_lab.batch.rows import Row, read_rows, refuse_unreadable, rows_of
from harmonia_lab.batch.songs import clear_leftovers, leftovers, song_of
from harmonia_lab.batch.writer import check_required, writer_of
from harmonia_lab.errors import (
    Cancelled,
    ErrorCode,
    HarmoniaError,
    InvalidRequest,
    MetadataError,
    StorageError,
    error_of,
)
from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.protocol.events import MetadataGenerationComplete
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.protocol.text import printable
from harmonia_lab.songs_handle import told
from harmonia_lab.storage import absolute, locked, storage_errors

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


def run_batch(
    lab: BatchLab,
    rows: Rows,
    out: Path | str | None,
    options: BatchOptions,
    *,
    encoding: str | None = None,
    say: PrintLine | None = None,
    watch: BatchWatch | None = None,
) -> BatchReport:
    """Make the songs of a table, as `Lab.batch` says."""
    table = read_rows(Path(rows), encoding) if isinstance(rows, (str, Path)) else rows_of(rows)
    return _run(lab, table, out, options, say or _to_standard_error, watch or BatchWatch())


def run_sweep(
    lab: BatchLab,
    narratives: str | Sequence[str],
    options: BatchOptions,
    *,
    seeds: Iterable[int],
    audio: Sequence[str],
    out: Path | str | None,
    say: PrintLine | None,
    watch: BatchWatch | None = None,
    **fields: Any,
) -> BatchReport:
    """Make every narrative with every seed and audio engine, as `Lab.sweep` says."""
    stories = [narratives] if isinstance(narratives, str) else list(narratives)
    swept = {name: list(values) for name, values in fields.items() if _is_swept(name, values)}
    variants = [dict(zip(swept, values, strict=True)) for values in itertools.product(*swept.values())]
    table = rows_of(
        {"narrative": story, "seed": seed, "audio": engine, **fields, **variant}
        for seed in list(seeds)
        for story in stories
        for engine in audio
        for variant in variants
    )
    if out is None:
        asked = [(row.audio, row.request.to_wire() if row.request else None) for row in table]
        out = lab.songs / f"sweep-{digest_of(asked)[:12]}"
    return _run(lab, table, out, options, say or _to_standard_error, watch or BatchWatch())


def _is_swept(name: str, values: Any) -> bool:
    """Return whether a field is a setting of an audio engine with several values."""
    return name in known_options() and isinstance(values, Iterable) and not isinstance(values, str)


def _run(
    lab: BatchLab,
    table: list[Row],
    given: Path | str | None,
    options: BatchOptions,
    print_line: PrintLine,
    watch: BatchWatch,
) -> BatchReport:
    if not isinstance(options.stop_after, int) or options.stop_after < 0:
        raise InvalidRequest("stop_after is a number of songs; 0 never stops.", details={"fields": ["stop_after"]})
    writer = writer_of(lab, table)
    check_required(options.require, writer)
    out = absolute(given) if given is not None else None
    if options.check:
        plan = BatchPlan(lab, writer, table, out, remake=options.remake)
        report = BatchReport(out or Path(), plan.outcomes, lab.log, writer)
        report.state = "checked"
        for outcome in report.errors:
            where = "" if outcome.row.unreadable else f"{outcome.row.where}: "
            print_line(f"{where}{printable(str(outcome.error))}")
        for line in preview(plan, writer, report):
            print_line(line)
        return report
    refuse_unreadable(table)
    assert out is not None
    lock = out / ".batch.lock"
    with storage_errors(lock):
        out.mkdir(parents=True, exist_ok=True)
    with locked(lock, f"Another batch is at work in {out}."):
        with contextlib.suppress(StorageError):  # a batch whose songs are all there needs no journal
            lab.journal  # noqa: B018 - it ends the songs of a run that was killed: a whole one comes into its place
        plan = BatchPlan(lab, writer, table, out, remake=options.remake)
        return _Night(lab, plan, out, writer, options, print_line, watch).run()


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
        watch: BatchWatch,
    ) -> None:
        self._lab, self._plan, self._out, self._options, self._print_line = lab, plan, out, options, print_line
        self._watch = watch
        self._outcomes, self._writer = plan.outcomes, writer
        self._report = BatchReport(out, plan.outcomes, lab.log, writer)
        self._songs = BegunSongs(lab, plan, options.require, watch, self._seconds_left)
        self._failures: list[HarmoniaError] = []
        """Of the latest songs in a row, all with one code."""

    def run(self) -> BatchReport:
        """Make what is to be made. An interrupt cancels the song that is being made, and is raised again."""
        report = self._report
        report.state = "running"
        for line in preview(self._plan, self._writer, report):
            self._print_line(line)
        self._watch.planned(report)
        try:
            report.write_if_due()
            for index in range(len(self._outcomes)):
                self._outcomes[index] = self._end(index)
                self._watch.row_ended(index, self._outcomes[index])
                if self._must_stop(index):
                    break
                report.write_if_due()
            report.state = "stopped" if report.stopped else "done"
        finally:  # after an interrupt too, the report lists what was made
            self._songs.stop(STOP_GRACE_S)
            if report.state == "running":
                report.state = "interrupted"
            self._add_finished_songs()
            report.unwritten = None
            try:
                report.write()
                write_page(report, self._tell_encoding)
            except StorageError as error:
                report.unwritten = error
        return report

    def _tell_encoding(self, sounds: int) -> None:
        told = f"encoding {sounds} sounds for listen.html"
        self._print_line(told)
        self._watch.noted(told)

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
            print_line(song_line("kept", outcome.song))
            return outcome
        if outcome.error is None and self._watch.stopped:
            return outcome
        try:
            if outcome.error is not None:
                raise outcome.error
            if self._watch.is_cancelled(index):
                raise Cancelled
            task = self._plan.tasks[index]
            found = None
            if index not in self._songs.ids:
                self._songs.ids[index] = ""
                found = _finished_by_another(task, self._out)
            song = found or self._make(index, print_line)
        except HarmoniaError as error:
            if isinstance(error, Cancelled) and self._watch.stopped:
                return outcome
            print_line(f"failed  [{error.code}] {printable(str(error))}")
            return replace(outcome, status="failed", error=error)
        self._plan.pace.add(song)
        music = f"music   {song['stageSeconds']['audio']:6.1f} s  {task.folder.name}/song.flac"
        print_line(song_line("kept", song) if found else f"{music}{self._time_left(index)}")
        aside = f"replaced/{task.folder.name}-{song['generationId'][:8]}"
        replaced = aside if task.replaces and (self._out / aside).exists() else None
        return replace(outcome, status="kept" if found else "made", song=song, replaced=replaced)

    def _make(self, index: int, print_line: PrintLine) -> dict[str, Any]:
        """Make one song, and return its figures. Raises the HarmoniaError that ended it. An interrupt cancels the song,
        and is raised again."""
        task = self._plan.tasks[index]
        job = self._songs.job_of(index)
        try:
            _follow(job, self._lab, self._watch, print_line, lambda: self._songs.begin_after(index))
            job.result()
        except BaseException:
            job.stop(STOP_GRACE_S)
            raise
        if (song := song_of(task.folder, self._out)) is None:
            raise StorageError(f"{task.folder} was written, and cannot be read again.")
        clear_leftovers(task.folder)  # the lock keeps other batches, whose parts these might be, out
        return song

    def _time_left(self, index: int) -> str:
        left = self._seconds_left(index + 1)
        return f"  {told(left, datetime.now().astimezone())}" if left else ""

    def _seconds_left(self, index: int) -> float | None:
        """Return how long the songs from this row on will take, if that is known."""
        tasks = self._plan.tasks.items()
        left = self._plan.pace.seconds_left(task.asked for i, task in tasks if i >= index)
        return None if left is None else left / self._lab.songs_at_once

    def _must_stop(self, index: int) -> bool:
        """Return whether the batch ends after this row; the report then says why."""
        outcome, report = self._outcomes[index], self._report
        if self._watch.stopped and any(later.status == "waiting" for later in self._outcomes[index:]):
            ended = "What is made is kept: the same call goes on."
            report.stopped = HarmoniaError("The batch was cancelled.", code=ErrorCode.CANCELLED, hint=ended)
            return True
        if index not in self._songs.ids or outcome.same_as is not None or self._watch.is_cancelled(index):
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
        for index, generation_id in self._songs.ids.items():
            outcome = self._outcomes[index]
            if outcome.status == "waiting":
                song = song_of(self._plan.tasks[index].folder, self._out)
                if song is not None and song["generationId"] == generation_id:
                    self._outcomes[index] = replace(outcome, status="made", song=song)


def _finished_by_another(task: Task, out: Path) -> dict[str, Any] | None:
    """Put in place a song that a killed run had finished and not yet moved there. Return its figures, if there is one.

    Raises StorageError.
    """
    if task.replaces:
        return None
    for part in leftovers(task.folder):
        if song_of(part, out) is not None and is_song_of(part, task.identity):
            storage.move(part, task.folder)
            clear_leftovers(task.folder)
            return song_of(task.folder, out)
    return None


def _follow(
    job: JobHandle, lab: BatchLab, watch: BatchWatch, print_line: PrintLine, meanwhile: Callable[[], None]
) -> None:
    """Print a line for stage 1 when it is done, until the job has ended; call `meanwhile` now and then.

    Raises Cancelled when the batch is to end.
    """
    seen = 0
    while True:
        meanwhile()
        ended = job.wait(POLL_S)
        for event in job.events[seen:]:
            seen += 1
            if isinstance(event, MetadataGenerationComplete):
                by = f"({lab.metadata_engine.name})"
                print_line(f"lyrics  {event.duration / 1000:6.1f} s  {printable(event.metadata.title)}  {by}")
        if ended:
            return
        if watch.stopped:
            raise Cancelled


def _to_standard_error(line: str) -> None:
    # A terminal that was closed, or a log on a full disk, must not end the night.
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - the default of `Lab.batch`
