"""A job's progress as a bar on a terminal or in a notebook cell, and as plain lines where output is piped.

Owns the looks. It draws in the thread that waits for the job, from the job's latest progress event.
"""

from __future__ import annotations

import sys
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.protocol.events import AudioGenerationProgress, MetadataGenerationProgress, ProgressEvent
from harmonia_lab.protocol.text import printable

__all__ = ["watch"]

REDRAW_S = 0.1


def watch(job: JobHandle, file: TextIO | None = None) -> None:
    """Show the progress of `job` on `file`, by default standard error, until the job has ended."""
    file = file or sys.stderr
    console = Console(file=file)
    if console.is_terminal or console.is_jupyter:
        _bar(job, console)
    else:
        _lines(job, file)


def _bar(job: JobHandle, console: Console) -> None:
    columns = (
        TextColumn("{task.fields[stage]}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[eta]}"),
        TextColumn("{task.fields[status]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task("song", total=100.0, stage="", status="Starting...", eta="")
        while not job.wait(REDRAW_S):
            event = job.progress
            if event is not None:
                eta = "" if event.eta_seconds is None else f"{event.eta_seconds:4.0f} s left"
                progress.update(
                    task, completed=event.overall_progress, stage=_stage(event), status=_status(event), eta=eta
                )
            progress.refresh()


def _lines(job: JobHandle, file: TextIO) -> None:
    shown, ended = 0, False
    while not ended:
        ended = job.wait(REDRAW_S)
        for event in job.milestones[shown:]:
            line = f"{event.overall_progress:3.0f} %  {_stage(event)}: {_status(event)}"
            print(line, file=file, flush=True)
            shown += 1


def _stage(event: ProgressEvent) -> str:
    return "lyrics" if isinstance(event, MetadataGenerationProgress) else "music"


def _status(event: ProgressEvent) -> str:
    """Return the event's status, without control characters, since a model may have written parts of it.

    For the same reason `_bar` shows it with `markup=False`.
    """
    status = event.status
    if isinstance(event, AudioGenerationProgress) and event.current_instrument:
        status = f"{status} ({event.instruments_completed + 1} of {event.total_instruments})"
    return printable(status)
