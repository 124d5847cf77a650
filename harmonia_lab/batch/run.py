"""A batch: makes the songs of a table that its folder does not have yet.

Owns which rows ask for the same song, where each song goes, and whether it is kept or made. The name of a song's folder
holds a digest of the request and of the engines that make it, and a song's folder appears whole or not at all. So the
folders alone say which songs are done, also after a run that was killed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from harmonia_lab.analysis.frames import BenchmarkLog
from harmonia_lab.batch.listening import write_page
from harmonia_lab.batch.report import BatchReport, Outcome, printable, song_of
from harmonia_lab.batch.rows import Row, read_rows, rows_of
from harmonia_lab.errors import HarmoniaError, InvalidRequest, StorageError
from harmonia_lab.generation.artifacts import slug
from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.metadata_engines.wishes import with_wished_length
from harmonia_lab.protocol.events import AudioGenerationComplete, MetadataGenerationComplete
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.storage import storage_errors

__all__ = ["Rows", "run_batch", "run_sweep"]

Rows = Path | str | Iterable[Mapping[str, Any] | SongRequest]
PrintLine = Callable[[str], None]

POLL_S = 0.1
STOP_GRACE_S = 0.25


class BatchLab(Protocol):
    """What a batch needs of `lab.Lab`."""

    songs: Path
    log: BenchmarkLog

    def engines_for(self, request: SongRequest, audio: Any = None) -> dict[str, Any]: ...

    def submit_request(
        self, request: SongRequest, *, audio: Any = None, out: Any = None, here: bool = False
    ) -> Any: ...


def run_batch(lab: BatchLab, rows: Rows, out: Path | str, say: PrintLine | None = None) -> BatchReport:
    """Make the songs of a table, as `Lab.batch` says."""
    table = read_rows(Path(rows)) if isinstance(rows, (str, Path)) else rows_of(rows)
    return _run(lab, table, Path(out), say or _to_standard_error)


def run_sweep(
    lab: BatchLab,
    narratives: str | Sequence[str],
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
        out = lab.songs / f"sweep-{_digest(asked)[:12]}"
    return _run(lab, table, Path(out), say or _to_standard_error)


def _run(lab: BatchLab, table: list[Row], out: Path, print_line: PrintLine) -> BatchReport:
    out = out.expanduser().absolute()
    batch = _Batch(lab, table, out, print_line)
    report = BatchReport(out, batch.outcomes, lab.log)
    with _locked(out):
        try:
            for index in range(len(table)):
                batch.outcomes[index] = batch.make_row(index)
        finally:  # after an interrupt too, the report lists what was made
            batch.add_finished_songs()
            report.write()
            write_page(report)
    return report


class _Batch:
    """The rows, and how each ended. outcomes: one a row, in order; "waiting" until the row has been tried."""

    def __init__(self, lab: BatchLab, table: list[Row], out: Path, print_line: PrintLine) -> None:
        self._lab, self._out, self._print_line = lab, out, print_line
        self.outcomes = [Outcome(row) for row in table]
        self._first: dict[str, int] = {}
        """Digest → index of the row that has it first."""
        self._folders: dict[int, Path] = {}
        """Index → folder of the songs that were begun."""

    def make_row(self, index: int) -> Outcome:
        """Make the row's song, unless it is there already. An error of this song alone becomes its outcome."""
        row = self.outcomes[index].row
        count = len(self.outcomes)

        def print_line(text: str) -> None:
            self._print_line(f"{row.number:>{len(str(count))}}/{count}  {text}")

        try:
            if row.error is not None or row.request is None:
                raise row.error or InvalidRequest("There is nothing to make.")
            request, digest = _identified(self._lab, row.request, row.audio)
            if digest in self._first:
                earlier = self.outcomes[self._first[digest]]
                print_line(f"the same as row {earlier.row.number}")
                return replace(earlier, row=row, same_as=earlier.row.number)
            self._first[digest] = index
            title = request.metadata.title if request.metadata else request.narrative
            folder = self._out / f"{slug(title)}-{digest[:12]}"
            if (song := song_of(folder, self._out)) is not None:
                print_line(f"kept    {printable(song['title'])}")
                return Outcome(row, "kept", song=song)
            self._folders[index] = folder
            _make(self._lab, request, row.audio, folder, print_line)
            if (song := song_of(folder, self._out)) is None:
                raise StorageError(f"{folder} was written, and cannot be read again.")
            return Outcome(row, "made", song=song)
        except HarmoniaError as error:
            print_line(f"failed  [{error.code}] {printable(str(error))}")
            return Outcome(row, "failed", error=error)

    def add_finished_songs(self) -> None:
        """Find the songs that were on the disk already when an interrupt came, before their rows said so."""
        for index, folder in self._folders.items():
            outcome = self.outcomes[index]
            if outcome.status == "waiting" and (song := song_of(folder, self._out)) is not None:
                self.outcomes[index] = replace(outcome, status="made", song=song)


def _identified(lab: BatchLab, request: SongRequest, audio: str | None) -> tuple[SongRequest, str]:
    """Return the request with its seed, and the SHA-256 of the request and of the engines that would make it.

    A row without a seed gets one from that digest, so that the same table makes the same songs everywhere.
    Raises InvalidRequest for an unknown engine.
    """
    asked = with_wished_length(request).model_copy(update={"generation_id": None})
    digest = _digest([asked.to_wire(), lab.engines_for(asked, audio)])
    seed = int(digest[:8], 16) if asked.seed is None else asked.seed
    return asked.model_copy(update={"seed": seed}), digest


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _make(lab: BatchLab, request: SongRequest, audio: str | None, folder: Path, print_line: PrintLine) -> None:
    """Make one song. Raises the HarmoniaError that ended it. An interrupt cancels the song, and is raised again."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidRequest(
            f"{folder} is there already, and is no whole song.",
            hint="Rename or remove it; the next run makes the song again.",
        )
    # A killed run, or a row that failed, may have left parts of this song. The lock keeps other batches out.
    for pattern in (f".{folder.name}.partial-*", f"{folder.name}.partial-*"):
        for part in folder.parent.glob(pattern):
            shutil.rmtree(part, ignore_errors=True)
    job = lab.submit_request(request, audio=audio, out=folder, here=True)
    try:
        _watch(job, folder, print_line)
        job.result()
    except BaseException:
        job.stop(STOP_GRACE_S)
        raise


def _watch(job: JobHandle, folder: Path, print_line: PrintLine) -> None:
    """Print a line for each stage that is done, until the job has ended."""
    seen, begun = 0, time.monotonic()
    while True:
        ended = job.wait(POLL_S)
        for event in job.events[seen:]:
            seen += 1
            if isinstance(event, MetadataGenerationComplete):
                print_line(f"lyrics  {event.duration / 1000:6.1f} s  {printable(event.metadata.title)}")
                begun = time.monotonic()
            elif isinstance(event, AudioGenerationComplete):
                print_line(f"music   {time.monotonic() - begun:6.1f} s  {folder.name}/song.flac")
        if ended:
            return


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Make the folder, and keep other batches out of it inside the block.

    Raises StorageError where the folder can't be written, or another batch has it locked.
    """
    lock = out / ".batch.lock"
    with storage_errors(lock):
        out.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system unlocks it when this process ends
        except OSError:
            raise StorageError(
                f"Another batch is at work in {out}.", hint="Wait for its end, or name another folder."
            ) from None
        yield


def _to_standard_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - the default of `Lab.batch`
