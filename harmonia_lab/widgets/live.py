"""The main front end of a panel: one anywidget, which gets one small JSON view at each drawing.

Owns the traits that are synchronised with the page. The looks are in `panel.js` and `panel.css`, and in the player's
files; what is shown is decided by `view_model.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import traitlets

from harmonia_lab.player.modules import joined, once_a_page, style
from harmonia_lab.protocol.events import AudioPreview
from harmonia_lab.widgets.comm_routing import use_requested_subshell
from harmonia_lab.widgets.finished import FinishedSong
from harmonia_lab.widgets.page_widget import PageWidget
from harmonia_lab.widgets.view_model import View

__all__ = ["LiveFrontend"]

_SCRIPT = Path(__file__).with_name("panel.js")


class _Live(PageWidget):
    """view: what `view_model.view` returns. song: what `player.song` says of it. audio: MP3. picture: PNG. files: names
    of files that can be downloaded.
    """

    _esm = once_a_page(_SCRIPT)
    _code = traitlets.Unicode(joined(_SCRIPT)).tag(sync=True)
    _css = Path(__file__).with_name("panel.css").read_text(encoding="utf-8") + style()
    large = ("audio", "picture")
    view = traitlets.Dict().tag(sync=True)
    song = traitlets.Dict().tag(sync=True)
    audio = traitlets.Bytes().tag(sync=True)
    picture = traitlets.Bytes().tag(sync=True)
    files = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __repr__(self) -> str:
        """Return what a page without a kernel shows in place of the panel."""
        return f"Song {self.view.get('id', '')}"


class LiveFrontend:
    def __init__(self, clicked: Callable[[str, str], None]) -> None:
        """clicked: called with "cancel", "retry", "file" or "sound", and the file's name."""
        self.widget = _Live()
        use_requested_subshell(self.widget)

        def on_message(_widget: object, content: Any, _buffers: object) -> None:
            clicked(str(content.get("ask", "")), str(content.get("name", "")))

        self.widget.on_msg(on_message)

    def show(self, view: View) -> None:
        self.widget.view = view

    def finish(self, song: FinishedSong) -> None:
        with self.widget.hold_sync():
            self.widget.song = song.player
            self.widget.audio, self.widget.picture = song.audio, song.picture
            self.widget.files = list(song.files)
        # The page also keeps each trait's value before the last message: one more message lets it free the old bytes.
        self.widget.send_state("files")

    def send_file(self, name: str, data: bytes) -> None:
        self.widget.send({"file": name}, [data])

    def send_sound(self, name: str, data: bytes, missing: str) -> None:
        self.widget.send({"sound": name, "missing": missing}, [data])

    def preview(self, event: AudioPreview) -> None:
        piece = {"instrument": event.instrument or "", "index": event.index, "type": event.mime_type}
        self.widget.send({"preview": piece}, [event.audio])
