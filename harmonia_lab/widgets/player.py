"""`SongPlayer`: a song with its stems, or several songs at the same moment and equal loudness, in a notebook.

Owns where a song that is named in a cell lies, and the widget. What a player does is in `player/`; panels have one too.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, Protocol

import traitlets

from harmonia_lab.errors import ErrorCode, HarmoniaError, Refused
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.player.modules import joined, once_a_page, style
from harmonia_lab.player.page import ListeningGroup, ListeningSong, listening_page, write_listening_page
from harmonia_lab.player.song import files_of, missing_sound, song_in_folder
from harmonia_lab.protocol.models import Song
from harmonia_lab.store.journal_core import JournalCore
from harmonia_lab.widgets.cell_outputs import shown_in_cell
from harmonia_lab.widgets.comm_routing import use_requested_subshell
from harmonia_lab.widgets.frontend import has_live_frontend
from harmonia_lab.widgets.outputs import Still, display_object
from harmonia_lab.widgets.page_widget import PageWidget

__all__ = ["SongPlayer", "SongSource", "folder_of"]

_SCRIPT = Path(__file__).with_name("listen.js")

STATIC_HEIGHT = 460
"""Pixels of the frame in a page without a kernel."""


class Identified(Protocol):
    """A job's handle."""

    @property
    def id(self) -> str: ...


SongSource = Song | Identified | Path | str
"""A song, its job, its folder, or its generation's id."""


def folder_of(song: SongSource, journal: JournalCore) -> Path:
    """Return the folder of a finished song. Raises Refused (NOT_FOUND)."""
    if isinstance(song, Song):
        return Path(song.directory)
    if isinstance(song, Path) or (isinstance(song, str) and Path(song).is_dir()):
        return Path(song)
    name = song if isinstance(song, str) else song.id
    state = journal.state(name)
    if state is None or state.song_path is None:
        raise Refused(
            f"{name} is no finished song here.",
            hint="Name a song, its job, its folder or its id; wait for a job that runs.",
            code=ErrorCode.NOT_FOUND,
        )
    return state.song_path.parent


class _Player(PageWidget):
    """songs: what `player.song.song_in_folder` says of each."""

    _esm = once_a_page(_SCRIPT)
    _code = traitlets.Unicode(joined(_SCRIPT)).tag(sync=True)
    _css = style()
    songs = traitlets.List(traitlets.Dict()).tag(sync=True)

    def __repr__(self) -> str:
        """Return what a page without a kernel shows in place of the player."""
        return " | ".join(song["title"] for song in self.songs)


class SongPlayer:
    """Jupyter shows it where it is a cell's last expression. `save` writes it as a page of its own."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Raises HarmoniaError: NOT_FOUND if a folder holds no song, RECORD_DAMAGED."""
        self.songs = [song_in_folder(folder) for folder in folders]
        self._folders = list(folders)
        self._files = [files_of(folder) for folder in folders]
        self._widget: _Player | None = None
        self._embedded = False
        """Whether the widget was asked for, and so may be within another one."""

    @property
    def widget(self) -> Any:
        """The ipywidget, to be put into other widgets."""
        self._embedded = True
        return self._make_widget()

    def _make_widget(self) -> _Player:
        if self._widget is None:
            self._widget = _Player(songs=self.songs)
            use_requested_subshell(self._widget)
            self._widget.on_msg(self._asked)
        return self._widget

    def save(self, path: Path | str = "listen.html") -> Path:
        """Write a page that plays the same without a kernel or a network; above 50 MB with a folder beside it.

        Return its path. Raises StorageError.
        """
        page = Path(path).absolute()
        write_listening_page(page, self._groups(), " | ".join(song["title"] for song in self.songs))
        return page

    def close(self) -> None:
        """Remove the widget. Idempotent."""
        if self._widget is not None:
            self._widget.close()

    def left_page(self) -> None:
        """Close the widget. It is made anew when the player is shown again."""
        if not self._embedded:
            self.close()
            self._widget = None

    def __repr__(self) -> str:
        return f"SongPlayer({', '.join(str(folder) for folder in self._folders)})"

    def _ipython_display_(self) -> None:
        if has_live_frontend():
            display_object(self._make_widget())
            shown_in_cell(self)
            return
        page = listening_page(self._groups(), "Listening", stems=False)
        frame = (
            f'<iframe title="Player" sandbox="allow-scripts allow-downloads" srcdoc="{escape(page)}" '
            f'style="width: 100%; height: {STATIC_HEIGHT}px; border: 0"></iframe>'
        )
        display_object(Still({"text/html": frame, "text/plain": repr(self)}))

    def _groups(self) -> list[ListeningGroup]:
        checksums = [read_record(folder)["files"].get("song.flac", {}).get("sha256", "") for folder in self._folders]
        songs = [ListeningSong(*each) for each in zip(self.songs, self._files, checksums, strict=True)]
        return [ListeningGroup("", songs)]

    def _asked(self, _widget: object, content: Any, _buffers: object) -> None:
        if content.get("ask") == "sound":
            name = str(content.get("name", ""))
            threading.Thread(target=self._send, args=(name,), name="harmonia-player", daemon=True).start()

    def _send(self, name: str) -> None:
        number, _, file = name.partition("/")
        data, missing = b"", ""
        try:
            data = self._files[int(number)][file]()
        except (ValueError, IndexError, KeyError):
            missing = "There is no such sound."
        except (HarmoniaError, OSError) as error:
            missing = missing_sound(file, error)
        if self._widget is not None:
            self._widget.send({"sound": name, "missing": missing}, [data])
