"""What a panel can be drawn with: `PanelFrontend`, and which of the front ends this environment has.

Owns that choice. `live.py` needs anywidget, `plain.py` ipywidgets alone, `replaced.py` neither.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from harmonia_lab.protocol.events import AudioPreview
from harmonia_lab.widgets.finished import FinishedSong
from harmonia_lab.widgets.frontend import installed
from harmonia_lab.widgets.replaced import ReplacedFrontend
from harmonia_lab.widgets.view_model import View

__all__ = ["PanelFrontend", "make_frontend"]

_log = logging.getLogger(__name__)


class PanelFrontend(Protocol):
    """Shows a panel in a page. Called from any thread, by one at a time."""

    widget: Any

    def show(self, view: View) -> None: ...

    def finish(self, song: FinishedSong) -> None: ...

    def send_file(self, name: str, data: bytes) -> None: ...

    def send_sound(self, name: str, data: bytes, missing: str) -> None:
        """Answer the player's request for a file's sound. missing: why there is none, and what to do."""

    def preview(self, event: AudioPreview) -> None: ...


def make_frontend(clicked: Callable[[str, str], None], *, plain: bool) -> PanelFrontend:
    """Return the best front end whose packages are installed. plain: leave anywidget out."""
    if not installed("ipywidgets"):
        _log.info("ipywidgets is not installed: the panel is an output without buttons.")
        return ReplacedFrontend(clicked)
    if not plain and installed("anywidget"):
        from harmonia_lab.widgets.live import LiveFrontend  # noqa: PLC0415 - anywidget may be missing

        return LiveFrontend(clicked)
    from harmonia_lab.widgets.plain import PlainFrontend  # noqa: PLC0415 - ipywidgets may be missing

    return PlainFrontend(clicked)
