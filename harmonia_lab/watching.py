"""Waits for a song in the foreground, while a terminal or a notebook shows its progress.

Owns the wait and what an interrupt of it does. The progress bar is in `terminal.py`, the panel in `widgets/panel.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from harmonia_lab.errors import HarmoniaError
from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.protocol.models import Song
from harmonia_lab.widgets.frontend import in_kernel

if TYPE_CHECKING:
    from harmonia_lab.widgets.panel import Panel

__all__ = ["CANCEL_GRACE_S", "wait_for"]

SUMMARY_S = 10.0
"""Seconds that a cell which composed waits for its summary, for which a copy of the sound is encoded."""

CANCEL_GRACE_S = 0.25
"""Seconds that an interrupt waits for the worker to stop by itself, before the song is ended without it."""


def wait_for(job: JobHandle, panel: Callable[[str], Panel], *, progress: bool) -> Song:
    """Return the song. panel: makes a generation's panel. An interrupt cancels the song, and is raised again.

    Raises the HarmoniaError that ended the song.
    """
    try:
        if progress and in_kernel():
            shown = panel(job.id)
            shown.display()
            job.wait()
            shown.settled.wait(SUMMARY_S)
        elif progress:
            from harmonia_lab.terminal import watch  # noqa: PLC0415 - rich loads only where something is shown

            watch(job)
        return job.result()
    except KeyboardInterrupt:
        with contextlib.suppress(HarmoniaError):  # an isolated server may not answer
            job.stop(CANCEL_GRACE_S)
        raise
