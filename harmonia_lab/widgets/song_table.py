"""`SongTable`: the widget of many songs, one a row; the monitor and the batch panel are this.

Owns the traits that are synchronised with the page, and how a click's command runs. What a row says is decided by
`monitor.py` and `batch_panel.py`; the looks are in `song_table.js` and `song_table.css`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import soundfile
import traitlets

from harmonia_lab.errors import HarmoniaError
from harmonia_lab.player.modules import joined, once_a_page
from harmonia_lab.widgets.comm_routing import use_requested_subshell
from harmonia_lab.widgets.finished import AUDIO_TYPE, listening_copy
from harmonia_lab.widgets.page_widget import PageWidget

__all__ = ["Commands", "SongTable"]

_SCRIPT = Path(__file__).with_name("song_table.js")

Commands = Mapping[str, Callable[[str], object]]
"""The name of a click → what it does, by the row's id. Raises HarmoniaError or OSError where it can't be done."""

_log = logging.getLogger(__name__)


class SongTable(PageWidget):
    """view: {columns, rows, notice}. head: what stands above the table; empty: nothing. now: the values of the row that
    changes most, in place of those in `view`: {id, title, percent, step}.

    A row: {id, title, detail, status, percent, step, cells, actions}. Words are complete, and are shown as text, not as
    HTML.
    """

    _esm = once_a_page(_SCRIPT)
    _code = traitlets.Unicode(joined(_SCRIPT)).tag(sync=True)
    _css = Path(__file__).with_name("song_table.css").read_text(encoding="utf-8")
    view = traitlets.Dict().tag(sync=True)
    head = traitlets.Dict().tag(sync=True)
    now = traitlets.Dict().tag(sync=True)

    def __init__(self, commands: Commands, failed: Callable[[str], None]) -> None:
        """failed: called before each command with "", and with the reason of one that can't be done."""
        super().__init__()
        self._commands, self._failed = commands, failed
        use_requested_subshell(self)
        self.on_msg(self._clicked)

    def __repr__(self) -> str:
        """Return what a page without a kernel shows in place of the table."""
        return f"{len(self.view.get('rows', []))} songs"

    def play(self, row_id: str, flac: bytes) -> None:
        """Have the page play a song. Its sound goes there once, and is not kept here.

        Raises soundfile.LibsndfileError if `flac` is no audio.
        """
        self.send({"play": row_id, "type": AUDIO_TYPE}, [listening_copy(flac)])

    def _clicked(self, _widget: object, content: Any, _buffers: object) -> None:
        command = self._commands.get(str(content.get("ask")))
        if command is not None:  # in a thread, because the one that takes clicks must stay free
            arguments = (command, str(content.get("id", "")))
            threading.Thread(target=self._run_command, args=arguments, name="harmonia-click", daemon=True).start()

    def _run_command(self, command: Callable[[str], object], row_id: str) -> None:
        self._failed("")
        try:
            command(row_id)
        except (HarmoniaError, OSError, soundfile.LibsndfileError) as error:
            self._failed(str(error))
