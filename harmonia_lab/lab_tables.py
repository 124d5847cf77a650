"""`LabTables`: many songs at once, of a table, a sweep or a study; waited for, or in the background.

Owns what a call shows meanwhile: lines, or a panel in a notebook's page. `batch/` and `study/` make the songs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from harmonia_lab.analysis.frames import BenchmarkLog
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.events.fanout import Fanout
from harmonia_lab.lab_core import LabCore
from harmonia_lab.parameters import as_list, as_names, as_numbers
from harmonia_lab.protocol.models import SongRequest

if TYPE_CHECKING:
    from harmonia_lab.batch import BatchHandle, BatchReport
    from harmonia_lab.batch.run import BatchOptions, Rows
    from harmonia_lab.songs_handle import SongsHandle
    from harmonia_lab.study import DesignSource, StudyHandle, StudyReport

__all__ = ["LabTables"]

_Result = TypeVar("_Result")


class LabTables(LabCore):
    """The tables of a `Lab`: `batch`, `sweep`, `study`."""

    @overload
    def batch(
        self,
        rows: Rows,
        out: Path | str | None,
        *,
        check: bool = ...,
        remake: bool = ...,
        require: str | None = ...,
        stop_after: int = ...,
        encoding: str | None = ...,
        say: Callable[[str], None] | None = ...,
        wait: Literal[True] = ...,
    ) -> BatchReport: ...

    @overload
    def batch(
        self,
        rows: Rows,
        out: Path | str | None,
        *,
        remake: bool = ...,
        require: str | None = ...,
        stop_after: int = ...,
        encoding: str | None = ...,
        say: Callable[[str], None] | None = ...,
        wait: Literal[False],
    ) -> BatchHandle: ...

    def batch(
        self,
        rows: Rows | Mapping[str, Any] | SongRequest,
        out: Path | str | None,
        *,
        check: bool = False,
        remake: bool = False,
        require: str | None = None,
        stop_after: int = 5,
        encoding: str | None = None,
        say: Callable[[str], None] | None = None,
        wait: bool = True,
    ) -> BatchReport | BatchHandle:
        """Make the songs of a table in `out`, one after the other. Songs that `out` has already are kept; a song that
        fails stops no other. `out` gets `report.json`, also while the songs are made, and `listen.html` to compare
        variants by ear.

        rows: a .csv, .tsv, .jsonl or .json file, or one mapping or several; columns as `harmonia_lab.batch.COLUMNS`.
        encoding: of the file; None: UTF-8, or what its byte-order mark says. say: gets one line for each stage
        (default: standard error, or a live panel in a notebook's page).
        check: make nothing, and report which rows can't be made; out: None takes no song as made.
        remake: make a song again that is damaged, or whose words another engine wrote than "auto" means now; the old
        one is moved to `out`/replaced when the new one is whole. require: the engine of stage 1 without which the batch
        neither begins nor goes on. stop_after: so many songs in a row that fail with one error code; 0: never.
        wait: False: return when the table is read, with a `BatchHandle`, and make the songs in the background until
        the lab is closed; Jupyter shows the handle's panel, and its `result()` is the report.

        Raises InvalidRequest for a table that can't be read, MetadataError if the required engine isn't there,
        StorageError if `out` can't be written or another batch is writing to it. An interrupt cancels the song that is
        being made, and is raised again.
        """
        from harmonia_lab.batch.run import BatchOptions, run_batch  # noqa: PLC0415 - loads for batches alone

        options = BatchOptions(check, remake, require, stop_after)
        if isinstance(rows, Mapping | SongRequest):
            rows = [rows]
        return self._run_batch(partial(run_batch, self, rows, out, options, encoding=encoding), options, say, wait=wait)

    def _run_batch(
        self, run: Callable[..., BatchReport], options: BatchOptions, say: Callable[[str], None] | None, *, wait: bool
    ) -> BatchReport | BatchHandle:
        if options.check and not wait:
            raise InvalidRequest("check=True makes nothing to wait for.", hint="Leave wait=False out.")
        if options.check:
            return run(say=say)
        from harmonia_lab.batch.handle import BatchHandle  # noqa: PLC0415 - loads for batches alone

        batch: BatchReport | BatchHandle = self._in_background(BatchHandle, run, self.events, say, wait=wait)
        return batch

    def _in_background(
        self,
        handle: Callable[..., SongsHandle[_Result]],
        run: Callable[..., _Result],
        events: Fanout,
        say: Callable[[str], None] | None,
        *,
        wait: bool,
    ) -> Any:
        """Make many songs, with lines or a panel. events: of the labs that make them. Return the result, or for
        wait=False the handle."""
        from harmonia_lab.widgets.batch_panel import present_batch, shows_batches, watch_batch  # noqa: PLC0415 - as above

        live = shows_batches()
        if wait and (say is not None or not live):
            return run(say=say)
        told = say or (_ignore if live else _print_line)  # a panel says it all
        songs = handle(lambda watch: run(say=told, watch=watch), partial(present_batch, events=events)).start()
        self._batches.add(songs)
        return watch_batch(songs, events) if wait else songs

    @overload
    def sweep(self, narratives: str | Sequence[str], *, wait: Literal[True] = ..., **options: Any) -> BatchReport: ...

    @overload
    def sweep(self, narratives: str | Sequence[str], *, wait: Literal[False], **options: Any) -> BatchHandle: ...

    def sweep(
        self,
        narratives: str | Sequence[str],
        *,
        seeds: int | str | Iterable[int] = range(5),
        audio: str | Sequence[str] = ("auto",),
        out: Path | str | None = None,
        check: bool = False,
        remake: bool = False,
        require: str | None = None,
        stop_after: int = 5,
        say: Callable[[str], None] | None = None,
        wait: bool = True,
        **fields: Any,
    ) -> BatchReport | BatchHandle:
        """Make a batch of every narrative with every seed and audio engine. fields: the other columns, equal for
        all; several values of a setting of the audio engine make a song each (`cfg_coef=[1.5, 3, 6]`).

        narratives, seeds, audio: one or several; also as papermill's command line gives several, "7, 8, 9".
        out: by default a folder in `songs` named after the table's digest, so that a cell that runs again continues.
        The other options are those of `batch`.
        """
        from harmonia_lab.batch.run import BatchOptions, run_sweep  # noqa: PLC0415 - as above

        options = BatchOptions(check, remake, require, stop_after)
        stories, engines = as_list(narratives), as_names(audio) or ["auto"]
        run = partial(run_sweep, self, stories, options, seeds=as_numbers(seeds), audio=engines, out=out, **fields)
        return self._run_batch(run, options, say, wait=wait)

    @overload
    def study(
        self,
        design: DesignSource,
        out: Path | str,
        *,
        say: Callable[[str], None] | None = ...,
        page: bool = ...,
        wait: Literal[True] = ...,
    ) -> StudyReport: ...

    @overload
    def study(
        self,
        design: DesignSource,
        out: Path | str,
        *,
        say: Callable[[str], None] | None = ...,
        page: bool = ...,
        wait: Literal[False],
    ) -> StudyHandle: ...

    def study(
        self,
        design: DesignSource,
        out: Path | str,
        *,
        say: Callable[[str], None] | None = None,
        page: bool = True,
        wait: bool = True,
    ) -> StudyReport | StudyHandle:
        """Compare configurations: make the same songs with each, in blocks and in a drawn order, and keep all that
        somebody else needs to make them again in `out`. The same call goes on where a study was stopped.

        design: a .toml or .json file or a mapping (fields: `harmonia_lab.study.StudyDesign`), or the folder of a study,
        which is made again. A configuration has the parameters of `Lab` in which it differs from this lab. say: gets a
        line for each song (default: standard error, or a live panel in a notebook's page). page: whether to write
        `study.html` at the end. wait: False: return before the first song, with a `StudyHandle`, and make the songs in
        the background until the lab is closed; Jupyter shows the handle's panel, and its `result()` is the report.

        A song that fails stops no other. Raises InvalidRequest for a design that can't be used, with all its faults, or
        that is not the one that `out` has; StorageError if `out` can't be written or another process makes its study.
        An interrupt cancels the song that is being made, and is raised again.
        """
        from harmonia_lab.study import StudyHandle, run_study  # noqa: PLC0415 - loads for studies alone

        events = Fanout()
        make_lab = partial(self._like_this, events=events)
        run = partial(run_study, make_lab, self.log, self._arguments, design, out, page=page)
        found: StudyReport | StudyHandle = self._in_background(StudyHandle, run, events, say, wait=wait)
        return found

    def check_study(self, design: DesignSource) -> str:
        """Return what a study would make, in a few lines, and make nothing. Raises InvalidRequest as `study`."""
        from harmonia_lab.study import check_study  # noqa: PLC0415 - as above

        return check_study(self._like_this, self._arguments, design)

    def _like_this(
        self, parameters: Mapping[str, Any], log: BenchmarkLog | None, events: Fanout | None = None
    ) -> LabTables:
        """Return a lab of other engines with the same home. events: gets its songs' events."""
        raise NotImplementedError


def _ignore(_line: str) -> None:
    """Print nothing."""


def _print_line(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # a closed terminal must not end the night
        print(line, flush=True)  # noqa: T201 - the lines of a batch in the background
