"""`listen.html`: a page that plays the variants of one narrative, and switches between them at the same second.

Owns which songs of a batch stand side by side, and what is said of each; the page itself is `player/page.py`'s.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harmonia_lab.batch.report import BatchReport, Outcome
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.player.page import ListeningGroup, ListeningSong, write_listening_page
from harmonia_lab.player.song import files_of, song_in_folder
from harmonia_lab.protocol.sound import Measured

__all__ = ["write_page"]

OWN_METADATA = "Metadata of one's own"
"""The heading of songs without a narrative."""


def write_page(report: BatchReport, tell: Callable[[int], object] = lambda _: None) -> None:
    """Write `listen.html` in the batch's folder. tell: as `write_listening_page` has it. Raises StorageError.

    It is written when all songs are made: sounds that were encoded meanwhile would be in the songs' figures.

    An interrupted batch gets none: a person who pressed Ctrl+C doesn't wait for sounds to be encoded, and the next run
    writes it.
    """
    if report.state == "interrupted":
        return
    write_listening_page(report.out / "listen.html", _groups(report), "Variants side by side", tell)


def _groups(report: BatchReport) -> list[ListeningGroup]:
    """Return the songs of each narrative. Each song comes once, however many rows ask for it."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in report.outcomes:
        if outcome.same_as is None and outcome.row.request is not None and outcome.song:
            groups.setdefault(outcome.row.request.narrative, []).append(outcome)
    found = []
    with ThreadPoolExecutor(os.cpu_count(), "harmonia-listen") as pool:  # each song's sound is read for its waveform
        for narrative, outcomes in groups.items():
            read = pool.map(lambda outcome: _song(report, outcome.song), outcomes)
            if songs := [song for song in read if song is not None]:
                found.append(ListeningGroup(narrative or OWN_METADATA, songs))
    return found


def _song(report: BatchReport, song: Mapping[str, Any]) -> ListeningSong | None:
    """Return what the page needs of a song; None if its folder was taken away meanwhile."""
    folder = report.out / song["directory"]
    try:
        facts, files = song_in_folder(folder), files_of(folder)
    except HarmoniaError:
        return None
    own = (f"{name} {value}" for name, value in (song.get("audioOptions") or {}).items())
    told = [facts["facts"], *own, song["genre"], *_tempo_and_key(song)]
    about = [["Folder", song["directory"]] if name == "Folder" else [name, value] for name, value in facts["about"]]
    return ListeningSong(facts | {"facts": " · ".join(told), "about": about}, files, song["checksum"])


def _tempo_and_key(song: Mapping[str, Any]) -> list[str]:
    """Return what was measured beside what was asked; of a song of an older version, what was asked."""
    if song.get("measured") is None:
        return [f"{song['bpm']} bpm", song["key"]]
    return [f"heard: {Measured.model_validate(song['measured']).beside(song['bpm'], song['key'])}"]
