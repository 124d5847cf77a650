"""The front end of a panel for pages without ipywidgets: an HTML output that is replaced as the song goes on.

Owns its markup, in which every word from a story or a model is escaped. It has no buttons, and says what to call
instead. Once the song has ended, the output is empty: the cell's summary has all of it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from html import escape
from typing import Any

from harmonia_lab.protocol.events import AudioPreview
from harmonia_lab.protocol.models import ENDED
from harmonia_lab.widgets.finished import FinishedSong
from harmonia_lab.widgets.outputs import publish
from harmonia_lab.widgets.view_model import View

__all__ = ["ReplacedFrontend", "markup"]


class ReplacedFrontend:
    def __init__(self, clicked: Callable[[str, str], None]) -> None:
        """clicked: not used, since HTML can't call the kernel."""
        del clicked
        self.widget = _Output()

    def show(self, view: View) -> None:
        self.widget.put(markup(view))

    def finish(self, song: FinishedSong) -> None:
        """Do nothing: the cell's summary has sound and picture."""

    def send_file(self, name: str, data: bytes) -> None:
        """Do nothing: there is no button that asks for a file."""

    def send_sound(self, name: str, data: bytes, missing: str) -> None:
        """Do nothing: the cell's summary has the player."""

    def preview(self, event: AudioPreview) -> None:
        """Do nothing: what is played would begin anew at each replacement."""


class _Output:
    """One output, in all cells that show it. A page replaces it everywhere."""

    def __init__(self) -> None:
        self._id, self._html, self._shown = secrets.token_hex(8), "", False

    def put(self, html: str) -> None:
        if html == self._html:
            return
        self._html = html
        if self._shown:
            publish(self._bundle(), self._id, update=True)

    def close(self) -> None:
        """Empty the output, as a closed widget vanishes."""
        self.put("")

    def _bundle(self) -> dict[str, Any]:
        return {"text/html": self._html, "text/plain": ""}

    def _ipython_display_(self) -> None:
        self._shown = True
        publish(self._bundle(), self._id)

    def _repr_mimebundle_(self, **_options: object) -> dict[str, Any]:
        return self._bundle()


def markup(view: View) -> str:
    """Return the view of a song that is being made as HTML; nothing once it has ended."""
    if view["status"] in ENDED:
        return ""
    bars = [("Song", view["overall"]), *((stage["name"], stage["percent"]) for stage in view["stages"])]
    rows = [
        f'<div><progress max="100" value="{percent:g}" aria-label="{escape(name)}"></progress> {escape(name)}</div>'
        for name, percent in bars
    ]
    words = " · ".join(part for part in (view["headline"], view["eta"], view["tokens"], view["memory"]) if part)
    problems = " ".join(view[name] for name in ("error", "plan", "connection", "notice", "warnings") if view[name])
    parts = [
        f"<h3>{escape(view['title'])}</h3>" if view["title"] else "",
        *rows,
        f"<p>{escape(words)}</p>",
        f"<p>{escape(view['facts'])}</p>" if view["facts"] else "",
        f"<p>{escape(problems)}</p>" if problems else "",
        f'<pre style="white-space: pre-wrap">{escape(view["lyrics"])}</pre>' if view["lyrics"] else "",
        f"<p>To stop it: <code>lab.cancel({escape(repr(view['id']))})</code></p>" if view["canCancel"] else "",
    ]
    return "\n".join(part for part in parts if part)
