"""A finished song as plain HTML and a PNG, which a page shows without a kernel and without JavaScript.

Owns this markup, in which every word from a story or a model is escaped. Where the page runs scripts,
`player/summary.js` puts the player in the place of the plain sound; it comes with its style in each summary, because an
exported page loads no other file.
"""

from __future__ import annotations

import base64
import json
from html import escape
from typing import Any

from harmonia_lab.player.modules import PLAYER_JS, script, style
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
    return words, {"image/png": base64.b64encode(song.small_picture).decode(), "text/plain": view["picture"]}


def _html(view: View, song: FinishedSong) -> str:
    playable = bool(song.audio and song.player)
    # Stems would make the notebook's file five times as large.
    facts = json.dumps(song.player | {"stems": []}, ensure_ascii=False, separators=(",", ":"))
    # Between single quotes, JSON's double ones can stay, which saves a tenth of the value.
    quoted = escape(facts).replace("&quot;", '"')
    attribute = f" data-song='{quoted}'" if playable else ""
    parts = [f'<div class="{CLASS}"{attribute}>']
    if view["title"]:
        parts.append(f'<h3 dir="auto">{escape(view["title"])}</h3>')
    if song.audio:
        data = base64.b64encode(song.audio).decode()
        parts.append(f'<audio controls preload="metadata" src="data:{AUDIO_TYPE};base64,{data}"></audio>')
    if view["lyrics"]:
        parts.append(f'<pre dir="auto" style="white-space: pre-wrap">{escape(view["lyrics"])}</pre>')
    table = _table(view)
    parts.append(f"<details><summary>How it was made</summary>{table}</details>" if song.audio else table)
    if playable:
        code = script(PLAYER_JS.with_name("summary.js"))
        parts.append(f"<style>{style()}</style><script>{code}</script>")
    return "\n".join([*parts, "</div>"])


def _table(view: View) -> str:
    rows = {
        "Song": view["facts"],
        "Wishes": view["wishes"],
        "Note": view["warnings"],
        "Status": view["headline"],
        "Length": view["summary"],
        "Sound": view["heard"],
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
        view["heard"],
        view["error"],
        view["plan"],
    ]
    return "\n".join([*(line for line in lines if line), *(["", view["lyrics"]] if view["lyrics"] else [])])
