"""How long the rest of a batch will take, from the songs that it has.

Owns the estimate. Measurements of each song come from its record; `songs_handle.told` has the words.
"""

from __future__ import annotations

import statistics
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any

from harmonia_lab.batch.songs import engine_of

__all__ = ["Pace"]

RECENT = 20
"""Songs that count: the machine of an hour ago may have had other things to do."""

Asked = tuple[bool, str, float]
"""Of a song that is to be made: whether stage 1 writes its words, its audio engine, and its length in seconds."""


class Pace:
    """Medians over the latest songs: seconds of stage 1; seconds of stage 2 for one of sound, by audio engine."""

    def __init__(self) -> None:
        self._words: deque[float] = deque(maxlen=RECENT)
        self._music: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=RECENT))

    def add(self, song: Mapping[str, Any]) -> None:
        """song: as `report.song_of` returns it."""
        stages = song["stageSeconds"]
        if "metadata" in stages:
            self._words.append(stages["metadata"])
        if "audio" in stages:
            self._music[engine_of(song, "audio")].append(stages["audio"] / song["seconds"])

    def seconds_left(self, asked: Iterable[Asked]) -> float | None:
        """Return how long these songs will take; None as long as there is no song to learn it from. An engine that made
        none yet is taken to be as quick as the others."""
        rates = {engine: statistics.median(found) for engine, found in self._music.items()}
        if not rates:
            return None
        words, usual = (statistics.median(found) if found else 0.0 for found in (self._words, rates.values()))
        return sum(seconds * rates.get(audio, usual) + (words if writes else 0.0) for writes, audio, seconds in asked)
