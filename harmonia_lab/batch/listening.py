"""`listen.html`: a page that plays the variants of one narrative, and switches between them at the same second.

Owns the page's data and its loudness matching; look and playback are in `listen.html` beside this file. The page is one
file that uses no network, and plays the songs from the folders beside it. Texts reach it as JSON, and it shows them as
text, never as markup.
"""

from __future__ import annotations

import importlib.resources
import json
from typing import Any
from urllib.parse import quote

from harmonia_lab.batch.report import BatchReport, Outcome
from harmonia_lab.storage import replace_bytes

__all__ = ["write_page"]

FULL_VOLUME_LUFS = -14.0
"""The loudness that the mixer masters to, and that a song without a measured loudness (silence) is taken to have."""


def write_page(report: BatchReport) -> None:
    """Write `listen.html` in the batch's folder. Raises StorageError."""
    page = importlib.resources.files("harmonia_lab.batch").joinpath("listen.html").read_text("utf-8")
    # Inside a script element, only "<" can end the element or open a comment.
    data = json.dumps(_groups(report), ensure_ascii=True).replace("<", "\\u003c")
    replace_bytes(report.out / "listen.html", page.replace("/*GROUPS*/[]", data).encode())


def _groups(report: BatchReport) -> list[dict[str, Any]]:
    """Return {narrative, variants} for each narrative. Each song comes once, however many rows ask for it."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in report.outcomes:
        if outcome.same_as is None and outcome.row.request is not None:
            groups.setdefault(outcome.row.request.narrative, []).append(outcome)
    return [
        {"narrative": narrative, "variants": _variants([o.song for o in outcomes if o.song])}
        for narrative, outcomes in groups.items()
        if any(outcome.song for outcome in outcomes)
    ]


def _variants(songs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the page's data of each song. volume: 0…1, which turns each song down to the loudness of the softest."""
    levels = [FULL_VOLUME_LUFS if song["loudness"] is None else song["loudness"] for song in songs]
    return [
        {
            "title": song["title"],
            "facts": [
                f"seed {song['seed']}",
                song["engines"]["audio"],
                f"lyrics: {song['engines']['metadata']}",
                song["genre"],
                f"{song['bpm']} bpm",
                song["key"],
            ],
            "lufs": song["loudness"],
            "volume": round(10 ** ((min(levels) - level) / 20), 4),
            "folder": quote(song["directory"]),
        }
        for song, level in zip(songs, levels, strict=True)
    ]
