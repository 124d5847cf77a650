"""The main face of a panel: one anywidget, one message of one small view for each drawing.

Owns the traits that travel. The look is `panel.js` and `panel.css`; what is shown is `view_model.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from harmonia_lab.protocol.events import AudioPreview
from harmonia_lab.widgets.comm_routing import handle_where_asked
from harmonia_lab.widgets.finished import FinishedSong
from harmonia_lab.widgets.view_model import View

__all__ = ["LiveFace"]


class _Live(anywidget.AnyWidget):
    """view: as `scene.view`. audio: MP3. picture: PNG. files: names that may be asked for."""

    _esm = Path(__file__).with_name("panel.js")
    _css = Path(__file__).with_name("panel.css")
    view = traitlets.Dict().tag(sync=True)
    audio = traitlets.Bytes().tag(sync=True)
    picture = traitlets.Bytes().tag(sync=True)
    files = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __repr__(self) -> str:
        """What a page without a kernel shows in the place of the panel."""
        return f"Song {self.view.get('id', '')}"


class LiveFace:
    def __init__(self, clicked: Callable[[str, str], None]) -> None:
        """clicked: gets "cancel", "retry" or "file", and the file's name."""
        self.widget = _Live()
        handle_where_asked(self.widget)

        def heard(_widget: object, content: Any, _buffers: object) -> None:
            clicked(str(content.get("ask", "")), str(content.get("name", "")))

        self.widget.on_msg(heard)

    def show(self, view: View) -> None:
        self.widget.view = view

    def finish(self, song: FinishedSong) -> None:
        with self.widget.hold_sync():
            self.widget.audio, self.widget.picture = song.audio, song.picture
            self.widget.files = list(song.files)
        # The page keeps what a trait held before the last message as well: bytes that were shed go with another one.
        self.widget.send_state("files")

    def hand_over(self, name: str, data: bytes) -> None:
        self.widget.send({"file": name}, [data])

    def preview(self, event: AudioPreview) -> None:
        piece = {"instrument": event.instrument or "", "index": event.index, "type": event.mime_type}
        self.widget.send({"preview": piece}, [event.audio])
