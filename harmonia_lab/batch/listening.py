"""`listen.html`: a page that plays the variants of one narrative, and switches between them at the same second.

Owns which songs of a batch stand side by side, and what is said of each; the page itself is `player/page.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harmonia_lab.batch.report import BatchReport, Outcome
from harmonia_lab.errors import HarmoniaError
from harmonia_lab.player.page import ListeningGroup, ListeningSong, SoundCopies, write_listening_page
from harmonia_lab.player.song import files_of, song_in_folder
from harmonia_lab.protocol.sound import Measured

__all__ = ["encode_sounds", "write_page"]

OWN_METADATA = "Metadata of one's own"
"""The heading of songs without a narrative."""


def encode_sounds(report: BatchReport, song: Mapping[str, Any], copies: SoundCopies) -> None:
    """Encode a song's sounds for the page, when it is made: all songs' sounds at the end would be a long silence."""
    if (listening := _song(report, song)) is not None:
        copies.add(listening)


def write_page(
    report: BatchReport, copies: SoundCopies | None = None, tell: Callable[[int], None] | None = None
) -> None:
    """Write `listen.html` in the batch's folder. copies, tell: as `write_listening_page` has them. Raises StorageError.

    An interrupted batch gets none: a person who pressed Ctrl+C doesn't wait for sounds to be encoded, and the next run
    writes it.
    """
    if report.state == "interrupted":
        return
    write_listening_page(report.out / "listen.html", _groups(report), "Variants side by side", copies, tell)


def _groups(report: BatchReport) -> list[ListeningGroup]:
    """Return the songs of each narrative. Each song comes once, however many rows ask for it."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in report.outcomes:
        if outcome.same_as is None and outcome.row.request is not None and outcome.song:
            groups.setdefault(outcome.row.request.narrative, []).append(outcome)
    found = []
    for narrative, outcomes in groups.items():
        songs = [song for outcome in outcomes if (song := _song(report, outcome.song)) is not None]
        if songs:
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
