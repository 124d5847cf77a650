"""`RunChart`: runs as points in a notebook; hover for a run's values, click to hear its song beside those of its block.

Owns what a cell shows, what the widget (`live_chart.py`) is sent, and what the cell keeps where there is no kernel: the
same chart with the songs that there is room for. The values are `analysis/run_points.py`'s, the drawing
`player/runs.js`'s.
"""

from __future__ import annotations

import base64
import json
import threading
from html import escape
from pathlib import Path
from typing import Any

import soundfile

from harmonia_lab.analysis.run_points import RunPoints
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.player.modules import PLAYER_JS, runs_style, script
from harmonia_lab.player.song import missing_sound
from harmonia_lab.player.sound import listening_copy
from harmonia_lab.widgets.cell_outputs import shown_in_cell
from harmonia_lab.widgets.comm_routing import use_requested_subshell
from harmonia_lab.widgets.frontend import has_live_frontend, in_kernel, installed
from harmonia_lab.widgets.outputs import Still, display_object

__all__ = ["RunChart"]

STILL_SECONDS = 90.0
"""Seconds of sound that a cell keeps: 1.2 MB, which a core encodes in three seconds."""

CLASS = "hl-runs-still"
"""The chart of a page without a kernel; where the live one is in the same cell, it is hidden."""

NOT_HERE = "This page doesn't keep the sound of this run. Where the notebook's kernel runs, run the cell again."


class RunChart:
    """Jupyter shows it where it is a cell's last expression."""

    def __init__(self, points: RunPoints) -> None:
        self._points = points
        self._widget: Any = None
        self._embedded = False
        """Whether the widget was asked for, and so may be within another one."""

    @property
    def widget(self) -> Any:
        """The ipywidget, to be put into other widgets."""
        self._embedded = True
        return self._make_widget()

    def _make_widget(self) -> Any:
        if self._widget is None:
            from harmonia_lab.widgets.live_chart import LiveChart  # noqa: PLC0415 - the still one needs no anywidget

            self._widget = LiveChart(runs=self._points.values)
            use_requested_subshell(self._widget)
            self._widget.on_msg(self._asked)
        return self._widget

    def close(self) -> None:
        """Remove the widget. Idempotent."""
        if self._widget is not None:
            self._widget.close()

    def left_page(self) -> None:
        """Close the widget. It is made anew when the chart is shown again."""
        if not self._embedded:
            self.close()
            self._widget = None

    def __repr__(self) -> str:
        values = self._points.values
        return f"RunChart({len(values['runs'])} runs of {', '.join(values['groups'])})"

    def _ipython_display_(self) -> None:
        if not in_kernel():
            display_object(Still({"text/plain": repr(self)}))
            return
        if has_live_frontend() and installed("anywidget"):
            display_object(self._make_widget())
            shown_in_cell(self)
        display_object(Still(self._repr_mimebundle_()))

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        """Return the chart as one output that needs no kernel."""
        del include, exclude
        values, told = self._values_with_sounds(), escape(repr(self))
        quoted = escape(json.dumps(values, ensure_ascii=False, separators=(",", ":"))).replace("&quot;", '"')
        code = script(PLAYER_JS.with_name("runs_page.js"))
        html = (
            f"<div class=\"{CLASS}\" data-runs='{quoted}'><p>{told}: this page may run no script.</p></div>"
            f"<style>{runs_style()}</style><script>{code}</script>"
        )
        return {"text/html": html, "text/plain": repr(self)}

    def _values_with_sounds(self) -> dict[str, Any]:
        """Return the values with as many whole blocks of songs as there is room for."""
        room, songs, runs = STILL_SECONDS, list[dict[str, Any]](), list[dict[str, Any]]()
        for run in sorted(self._points.values["runs"], key=lambda run: (run["block"] is None, run["block"] or "")):
            song = None
            if run["song"] is not None and room > 0:
                song = self._song_with_sound(run["song"])
                room -= song["seconds"] if song else 0.0
            if song:
                songs.append(song)
            why = NOT_HERE if run["song"] is not None else run["why"]
            runs.append(run | {"song": len(songs) - 1 if song else None, "why": "" if song else why})
        return self._points.values | {"songs": songs, "runs": runs}

    def _song_with_sound(self, number: int) -> dict[str, Any] | None:
        """Return a song that holds its sound; None if it can't be read any more."""
        try:
            song = self._points.song(number)
            if song["seconds"] > STILL_SECONDS:
                return None
            sound = listening_copy((self._points.folders[number] / "song.flac").read_bytes())
        except (HarmoniaError, OSError, soundfile.LibsndfileError):
            return None
        return song | {"sounds": {"mix": {"base64": base64.b64encode(sound).decode()}}, "missing": {}}

    def _asked(self, _widget: object, content: Any, _buffers: object) -> None:
        if content.get("ask") == "sound":
            name = str(content.get("name", ""))
            threading.Thread(target=self._send, args=(name,), name="harmonia-chart", daemon=True).start()

    def _send(self, name: str) -> None:
        """Answer with a song's values ("3/song") or its sound ("3/mix")."""
        number, _, file = name.partition("/")
        data, missing = b"", ""
        try:
            folder: Path = self._points.folders[int(number)]
            if file == "song":
                data = json.dumps(self._points.song(int(number))).encode()
            else:
                data = listening_copy((folder / "song.flac").read_bytes())
        except (ValueError, IndexError):
            missing = "There is no such song."
        except (HarmoniaError, OSError, soundfile.LibsndfileError) as error:
            missing = missing_sound("song.flac", error)
        if self._widget is not None:
            self._widget.send({"sound": name, "missing": missing}, [data])
