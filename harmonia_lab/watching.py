"""Waits for a song in the foreground, while a terminal or a notebook shows its progress.

Owns the wait and what an interrupt of it does, where a finished song shows itself, and where the link of a server's
page is printed. The progress bar is in
`terminal.py`, the panel in `widgets/panel.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.protocol.models import Song
from harmonia_lab.widgets.frontend import has_live_frontend, in_kernel, in_marimo, running_cell

if TYPE_CHECKING:
    from harmonia_lab.backends.isolated_server import IsolatedServer
    from harmonia_lab.server.server_thread import Server
    from harmonia_lab.widgets.panel import Panel

__all__ = ["CANCEL_GRACE_S", "show_link", "show_song", "wait_for"]

SUMMARY_S = 10.0
"""Seconds that a cell which composed waits for its summary, for which a copy of the sound is encoded."""

_shown_in: dict[str, str] = {}
"""By generation, the cell that shows its panel, for songs that a cell made and may end with."""

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
            _shown_in[job.id] = running_cell()
        elif progress:
            from harmonia_lab.terminal import watch  # noqa: PLC0415 - rich loads only where something is shown

            # A notebook shows standard error as an error.
            watch(job, sys.stdout if in_marimo() else sys.stderr)
        job.wait()
        return job.result()
    except KeyboardInterrupt:
        job.stop(CANCEL_GRACE_S)
        raise


def show_song(song: Song) -> dict[str, Any]:
    """Return how a notebook shows a song that a cell ends with: with player and words, but for a cell that shows its
    panel already; on a terminal by its words."""
    from harmonia_lab.widgets.songs import song_bundle, song_text  # noqa: PLC0415 - loaded where a song is shown

    cell = running_cell()
    if cell and _shown_in.get(song.generation_id) == cell:
        return {"text/plain": f"{song.metadata.title}: {song.audio_path}"}
    return song_bundle(song) if in_kernel() or in_marimo() else {"text/plain": song_text(song)}


def show_link(server: Server | IsolatedServer) -> bool:
    """Print the link of the server's page on a terminal or in a cell that a person looks at, and return whether it was.
    Nowhere else: it has a token in it, and what a program prints may be kept as a log."""
    settings = server.settings
    seen = sys.stdout.isatty() or in_marimo() or has_live_frontend()
    if not seen or not settings.page or settings.public_keys is not None:
        return False
    sys.stdout.write(f"Songs in a browser: {server.link()}\n")
    sys.stdout.flush()
    return True
