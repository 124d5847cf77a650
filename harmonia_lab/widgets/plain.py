"""The plain front end of a panel: stock ipywidgets, for pages that have those and no anywidget.

Owns their arrangement. It shows the same view as `live.py`, but has no files to download and no previews, and its text
follows no theme but the widgets' own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets

from harmonia_lab.protocol.events import AudioPreview
from harmonia_lab.widgets.comm_routing import use_requested_subshell
from harmonia_lab.widgets.finished import FinishedSong
from harmonia_lab.widgets.view_model import View

__all__ = ["PlainFrontend"]

_STYLES = {"done": "success", "stopped": "warning"}


class PlainFrontend:
    def __init__(self, clicked: Callable[[str, str], None]) -> None:
        """clicked: as for `LiveFrontend`."""
        self._bars = [ipywidgets.FloatProgress(description=name, max=100) for name in ("Song", "Lyrics", "Music")]
        # Label and Textarea show text as text; HTML would show a model's words as markup.
        self._status, self._facts, self._problem = (ipywidgets.Label() for _ in range(3))
        self._lyrics = ipywidgets.Textarea(disabled=True, layout={"width": "100%", "height": "12em", "display": "none"})
        self._cancel = ipywidgets.Button(description="Cancel")
        self._retry = ipywidgets.Button(description="Retry")
        use_requested_subshell(self._cancel, self._retry)
        self._cancel.on_click(lambda _: clicked("cancel", ""))
        self._retry.on_click(lambda _: clicked("retry", ""))
        self._buttons = ipywidgets.HBox([self._cancel, self._retry])
        self._song = ipywidgets.VBox()
        rows = [*self._bars, self._status, self._problem, self._buttons, self._facts, self._lyrics, self._song]
        self.widget = ipywidgets.VBox(rows)

    def show(self, view: View) -> None:
        stages = [{"percent": view["overall"], "state": ""}, *view["stages"]]
        for bar, stage in zip(self._bars, stages, strict=True):
            _set(bar, value=stage["percent"], bar_style=_STYLES.get(stage["state"], ""))
        words = (view["headline"], view["summary"], view["eta"], view["tokens"], view["memory"])
        _set(self._status, value=" · ".join(word for word in words if word))
        _set(
            self._facts,
            value=" · ".join(
                word for word in (view["title"], view["facts"], view["wishes"], view["heard"], view["shared"]) if word
            ),
        )
        problems = (view["error"], view["plan"], view["connection"], view["notice"], view["warnings"])
        _set(self._problem, value=" ".join(word for word in problems if word))
        _set(self._lyrics, value=view["lyrics"])
        _set(self._lyrics.layout, display="" if view["lyrics"] else "none")
        _set(self._cancel.layout, display="" if view["canCancel"] else "none")
        _set(self._retry.layout, display="" if view["canRetry"] else "none")

    def finish(self, song: FinishedSong) -> None:
        shown: list[Any] = []
        if song.picture:
            shown.append(ipywidgets.Image(value=song.picture, format="png", layout={"max_width": "60em"}))
        if song.audio:
            shown.append(ipywidgets.Audio(value=song.audio, format="mp3", autoplay=False))
        self._song.children = shown

    def send_file(self, name: str, data: bytes) -> None:
        """Do nothing: no button here asks for a file."""

    def send_sound(self, name: str, data: bytes, missing: str) -> None:
        """Do nothing: the stock player has no stems."""

    def preview(self, event: AudioPreview) -> None:
        """Do nothing: the stock player can't append audio."""


def _set(widget: Any, **values: Any) -> None:
    """Set traits in one message. ipywidgets sends only those that differ."""
    with widget.hold_sync():
        for name, value in values.items():
            setattr(widget, name, value)
