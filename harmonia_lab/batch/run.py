"""Making what a table asks for and the folder does not have yet.

Owns which song is the same as another, where each goes, and what is kept, made again or given up. A row's song has a
folder whose name holds the digest of what was asked for and of the engines that would make it; a song's folder appears
whole or not at all, so the folders alone say what is done: a killed run leaves nothing else to read.
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
from typing import TYPE_CHECKING, Any

from harmonia_lab.batch.listening import write_page
from harmonia_lab.batch.report import BatchReport, Outcome, printable, song_of
from harmonia_lab.batch.rows import Row, read_rows, rows_of
from harmonia_lab.errors import HarmoniaError, InvalidRequest, StorageError
from harmonia_lab.generation.artifacts import slug
from harmonia_lab.protocol.events import AudioGenerationComplete, MetadataGenerationComplete
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.storage import storage_errors

if TYPE_CHECKING:
    from harmonia_lab.generation.handle import JobHandle
    from harmonia_lab.lab import Lab

__all__ = ["Rows", "run_batch", "run_sweep"]

Rows = Path | str | Iterable[Mapping[str, Any] | SongRequest]
Say = Callable[[str], None]

POLL_S = 0.1
STOP_GRACE_S = 0.25


def run_batch(lab: Lab, rows: Rows, out: Path | str, say: Say | None = None) -> BatchReport:
    """`Lab.batch`."""
    table = read_rows(Path(rows)) if isinstance(rows, (str, Path)) else rows_of(rows)
    return _run(lab, table, Path(out), say or _to_standard_error)


def run_sweep(
    lab: Lab,
    narratives: str | Sequence[str],
    *,
    seeds: Iterable[int],
    audio: Sequence[str],
    out: Path | str | None,
    say: Say | None,
    **fields: Any,
) -> BatchReport:
    """`Lab.sweep`."""
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


def _run(lab: Lab, table: list[Row], out: Path, say: Say) -> BatchReport:
    out = out.expanduser().absolute()
    batch = _Batch(lab, table, out, say)
    report = BatchReport(out, batch.outcomes, lab.log)
    with _alone(out):
        try:
            for index in range(len(table)):
                batch.outcomes[index] = batch.row(index)
        finally:  # also when it is interrupted: what is there is told
            batch.note_finished()
            report.write()
            write_page(report)
    return report


class _Batch:
    """Rows that become songs. outcomes: one a row, in order; "waiting" until it is known better."""

    def __init__(self, lab: Lab, table: list[Row], out: Path, say: Say) -> None:
        self._lab, self._out, self._say = lab, out, say
        self.outcomes = [Outcome(row) for row in table]
        self._first: dict[str, int] = {}
        """Digest → index of the row that has it first."""
        self._places: dict[int, Path] = {}
        """Index → folder of the songs that were begun."""

    def row(self, index: int) -> Outcome:
        """Makes it, where it is to be made. Raises no error of the row's own."""
        row = self.outcomes[index].row
        count = len(self.outcomes)

        def tell(text: str) -> None:
            self._say(f"{row.number:>{len(str(count))}}/{count}  {text}")

        try:
            if row.error is not None or row.request is None:
                raise row.error or InvalidRequest("There is nothing to make.")
            request, digest = _identified(self._lab, row.request, row.audio)
            if digest in self._first:
                earlier = self.outcomes[self._first[digest]]
                tell(f"the same as row {earlier.row.number}")
                return replace(earlier, row=row, same_as=earlier.row.number)
            self._first[digest] = index
            title = request.metadata.title if request.metadata else request.narrative
            folder = self._out / f"{slug(title)}-{digest[:12]}"
            if (song := song_of(folder, self._out)) is not None:
                tell(f"kept    {printable(song['title'])}")
                return Outcome(row, "kept", song=song)
            self._places[index] = folder
            _make(self._lab, request, row.audio, folder, tell)
            if (song := song_of(folder, self._out)) is None:
                raise StorageError(f"{folder} was written, and cannot be read again.")
            return Outcome(row, "made", song=song)
        except HarmoniaError as error:
            tell(f"failed  [{error.code}] {printable(str(error))}")
            return Outcome(row, "failed", error=error)

    def note_finished(self) -> None:
        """An interrupt may come when a song is on the disk, and before its row says so."""
        for index, folder in self._places.items():
            outcome = self.outcomes[index]
            if outcome.status == "waiting" and (song := song_of(folder, self._out)) is not None:
                self.outcomes[index] = replace(outcome, status="made", song=song)


def _identified(lab: Lab, request: SongRequest, audio: str | None) -> tuple[SongRequest, str]:
    """The request as it is made, and the SHA-256 of what it asks for and of the engines that it would be made by.

    A row without a seed gets one from that digest, so that the same table makes the same songs everywhere.
    Raises InvalidRequest where there is no such engine.
    """
    asked = request.model_copy(update={"generation_id": None})
    digest = _digest([asked.to_wire(), lab.engines_for(asked, audio)])
    seed = int(digest[:8], 16) if asked.seed is None else asked.seed
    return asked.model_copy(update={"seed": seed}), digest


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _make(lab: Lab, request: SongRequest, audio: str | None, folder: Path, tell: Say) -> None:
    """Raises the HarmoniaError that ended it; an interrupt ends the song, and gets through."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidRequest(
            f"{folder} is there already, and is no whole song.",
            hint="Rename or remove it; the next run makes the song again.",
        )
    # What a killed run, or a row that failed, left of this song: nobody else is at work here.
    for pattern in (f".{folder.name}.partial-*", f"{folder.name}.partial-*"):
        for part in folder.parent.glob(pattern):
            shutil.rmtree(part, ignore_errors=True)
    job = lab.submit_request(request, audio=audio, out=folder, here=True)
    try:
        _watch(job, folder, tell)
        job.result()
    except BaseException:
        job.stop(STOP_GRACE_S)
        raise


def _watch(job: JobHandle, folder: Path, tell: Say) -> None:
    """A line for each stage that is done."""
    told, begun = 0, time.monotonic()
    while True:
        ended = job.wait(POLL_S)
        for event in job.events[told:]:
            told += 1
            if isinstance(event, MetadataGenerationComplete):
                tell(f"lyrics  {event.duration / 1000:6.1f} s  {printable(event.metadata.title)}")
                begun = time.monotonic()
            elif isinstance(event, AudioGenerationComplete):
                tell(f"music   {time.monotonic() - begun:6.1f} s  {folder.name}/song.flac")
        if ended:
            return


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Makes the folder, and keeps a second batch out of it while this one is at work.

    Raises StorageError where it can't be written, or another batch is at work in it.
    """
    lock = out / ".batch.lock"
    with storage_errors(lock):
        out.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # given back by the system when this process dies
        except OSError:
            raise StorageError(
                f"Another batch is at work in {out}.", hint="Wait for its end, or name another folder."
            ) from None
        yield


def _to_standard_error(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
