"""A finished song as a value that shows itself: title, player, words and picture.

Owns how a `Song` becomes what a panel shows of it. The files are read when it is shown, from the song's folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import soundfile

from harmonia_lab.errors import HarmoniaError
from harmonia_lab.events.state import GenerationState
from harmonia_lab.player.song import song_in_folder
from harmonia_lab.protocol.events import AudioGenerationComplete
from harmonia_lab.protocol.models import Job, Song, utc_now
from harmonia_lab.protocol.text import printable_lines
from harmonia_lab.widgets.event_sources import files_in
from harmonia_lab.widgets.finished import FinishedSong, load
from harmonia_lab.widgets.outputs import folded
from harmonia_lab.widgets.summary import bundles
from harmonia_lab.widgets.view_model import View, view

__all__ = ["song_bundle", "song_text", "song_view"]


def song_bundle(song: Song) -> dict[str, Any]:
    """Return the song as one output: HTML with its sound and picture, and text with its words and its file's path.

    A song whose files are gone is shown by its words, with the reason.
    """
    shown = song_view(song)
    try:
        folder = Path(song.directory)
        files = load(files_in(folder), song_in_folder(folder))
    except (HarmoniaError, OSError, soundfile.LibsndfileError) as error:
        files, shown = FinishedSong(), shown | {"error": f"The song's files cannot be shown. {error}"}
    bundle = folded(*bundles(shown, files))
    return bundle | {"text/plain": _with_path(bundle["text/plain"], song)}


def song_text(song: Song) -> str:
    """Return the song's words, facts and path, for a terminal. Reads no file."""
    return _with_path(bundles(song_view(song), FinishedSong())[0]["text/plain"], song)


def _with_path(text: str, song: Song) -> str:
    return printable_lines(f"{text}\n\n{song.audio_path}")


def song_view(song: Song) -> View:
    """Return what a panel would show of the song."""
    now = utc_now()
    began = now - timedelta(seconds=_seconds(song.timings))
    job = Job(id=song.generation_id, user_id="local", status="completed", created_at=began, updated_at=now)
    done = AudioGenerationComplete.of(song)
    return view(GenerationState(song.generation_id, job=job, metadata=song.metadata, song=done))


def _seconds(timings: Mapping[str, float]) -> float:
    return timings.get("total", sum(timings.get(stage, 0.0) for stage in ("metadata", "audio")))
