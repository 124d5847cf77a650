"""A finished song as plain HTML and a PNG, which a page shows without a kernel and without JavaScript.

Owns this markup, in which every word from a story or a model is escaped. Styles are inline, because an exported page
doesn't load our style sheet.
"""

from __future__ import annotations

import base64
from html import escape
from typing import Any

from harmonia_lab.widgets.finished import AUDIO_TYPE, FinishedSong
from harmonia_lab.widgets.view_model import View

__all__ = ["CLASS", "EMPTY", "Bundle", "bundles"]

Bundle = dict[str, Any]
"""MIME type → data."""

CLASS = "hl-summary"
"""A live panel hides the elements of this class that are in its cell (`panel.css`)."""

EMPTY: Bundle = {"text/plain": ""}


def bundles(view: View, song: FinishedSong) -> tuple[Bundle, Bundle]:
    """Return two outputs: the words with the sound, then the picture (a PNG output, which code hosts show)."""
    words: Bundle = {"text/html": _html(view, song), "text/plain": _text(view)}
    if not song.small_picture:
        return words, EMPTY
    alt = f"Waveform, sung lines and spectrogram of {view['title'] or 'the song'}"
    return words, {"image/png": base64.b64encode(song.small_picture).decode(), "text/plain": alt}


def _html(view: View, song: FinishedSong) -> str:
    parts = [f'<div class="{CLASS}">']
    if view["title"]:
        parts.append(f"<h3>{escape(view['title'])}</h3>")
    parts.append(_table(view))
    if song.audio:
        data = base64.b64encode(song.audio).decode()
        parts.append(f'<audio controls preload="metadata" src="data:{AUDIO_TYPE};base64,{data}"></audio>')
    if view["lyrics"]:
        parts.append(f'<pre style="white-space: pre-wrap">{escape(view["lyrics"])}</pre>')
    return "\n".join([*parts, "</div>"])


def _table(view: View) -> str:
    rows = {
        "Song": view["facts"],
        "Wishes": view["wishes"],
        "Note": view["warnings"],
        "Status": view["headline"],
        "Length": view["summary"],
        "Instruments": ", ".join(chip["name"] for chip in view["chips"]),
        "Reason": view["error"],
        "Code": view["code"],
        "What next": view["plan"],
        "Shared": view["shared"],
        "Generation": view["id"],
    }
    cells = (
        f'<tr><th scope="row" style="text-align: left">{name}</th>'
        f'<td style="text-align: left">{escape(value)}</td></tr>'
        for name, value in rows.items()
        if value
    )
    return f"<table>{''.join(cells)}</table>"


def _text(view: View) -> str:
    wishes = f"Wishes: {view['wishes']}" if view["wishes"] else ""
    lines = [
        view["title"],
        view["facts"],
        wishes,
        view["warnings"],
        view["summary"] or view["headline"],
        view["error"],
        view["plan"],
    ]
    return "\n".join([*(line for line in lines if line), *(["", view["lyrics"]] if view["lyrics"] else [])])
