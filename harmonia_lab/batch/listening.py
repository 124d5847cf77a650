"""`listen.html`: the variants of one narrative side by side, switched at the same moment of the song.

Owns the page's data and its loudness matching; how it looks and plays is `listen.html` beside this file. The page is
one file that asks no network, and plays the songs from the folders beside it. Words reach it as JSON and are shown as
text, never as markup.
"""

from __future__ import annotations

import importlib.resources
import json
from typing import Any
from urllib.parse import quote

from harmonia_lab.batch.report import BatchReport, Outcome
from harmonia_lab.storage import write_bytes

__all__ = ["write_page"]

FULL_VOLUME_LUFS = -14.0
"""What the mixer masters to, and what is assumed of a song whose loudness is not known (silence)."""


def write_page(report: BatchReport) -> None:
    """`listen.html` in the batch's folder. Raises StorageError."""
    page = importlib.resources.files("harmonia_lab.batch").joinpath("listen.html").read_text("utf-8")
    # Inside a script element only "<" can end it, or open a comment.
    data = json.dumps(_groups(report), ensure_ascii=True).replace("<", "\\u003c")
    write_bytes(report.out / "listen.html", page.replace("/*GROUPS*/[]", data).encode())


def _groups(report: BatchReport) -> list[dict[str, Any]]:
    """One a narrative: {narrative, variants, errors}. Each song once, however many rows ask for it."""
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
    """volume: 0…1, which brings each to the loudness of the softest: a player can only turn down, and never clips."""
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
