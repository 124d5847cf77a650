"""`StudyHandle`: a study that is being made in the background, as its caller and its panel see it.

Owns what is known of the songs while they are made. `run.py` makes them, and tells a `StudyWatch` what happens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from harmonia_lab.errors import HarmoniaError
from harmonia_lab.generation.handle import JobHandle
from harmonia_lab.songs_handle import Present, SongProgress, SongsHandle
from harmonia_lab.study.design import StudyBlock
from harmonia_lab.study.report import StudyReport

__all__ = ["PlannedSong", "StudyHandle", "StudyProgress", "StudyWatch"]

STOPPED = "The study was cancelled. What is made is kept: the same call goes on."

RSS_COLUMNS = ("metadata_rss_peak_bytes", "audio_rss_peak_bytes")
GPU_COLUMNS = ("metadata_gpu_used_peak_bytes", "audio_gpu_used_peak_bytes")


class PlannedSong(NamedTuple):
    """One song of a study, with the story of its block. row: its row in the run log, if an earlier session made it."""

    block: StudyBlock
    configuration: str
    story: str
    row: Mapping[str, Any] | None


class StudyWatch:
    """What `run.py` tells while it makes a study, and what it is asked for. This one does nothing, and asks nothing.

    index: a song's place in the drawn order of the whole study, from 0.
    """

    stopped = False
    """Whether the study is to end; the song that is being made is cancelled."""

    def planned(self, folder: Path, songs: Sequence[PlannedSong]) -> None:
        """The study is read, and songs are made from now on."""

    def warms_up(self, note: str) -> None:
        """note: which warm-up is being made; "" when all are."""

    def song_began(self, index: int, job: JobHandle, seconds_left: float | None) -> None:
        """seconds_left: of the whole study, this song included; None while there is no song to learn it from."""

    def song_made(self, index: int, row: Mapping[str, Any], folder: Path | None) -> None:
        """row: the song's row in the run log. folder: None where the design doesn't keep songs."""

    def song_missing(self, index: int, error: HarmoniaError) -> None:
        """The song could not be made in this session."""

    def is_cancelled(self, _index: int) -> bool:
        """Return whether this song is not wanted any more."""
        return False


@dataclass(frozen=True)
class StudyProgress(SongProgress):
    """One song of a study. configuration: what it is made with. block: its number. length: seconds of music."""

    configuration: str = ""
    block: int = 0
    length: float = 0.0

    @property
    def heading(self) -> str:
        return self.configuration

    @property
    def detail(self) -> str:
        parts = (f"block {self.block}", f"seed {self.seed}", f"{self.length:g} s", self.title or self.short_narrative)
        return " · ".join(filter(None, parts))


class StudyHandle(SongsHandle[StudyReport], StudyWatch):
    """A study being made. `study.result()`, `await study`, `study.cancel()`; Jupyter shows its panel."""

    what = "study"

    def __init__(self, run: Callable[[StudyWatch], StudyReport], present: Present) -> None:
        """run: makes the study. present: shows the handle in a cell."""
        super().__init__(present)
        self._run = run
        self._folder = Path()
        self._songs: list[PlannedSong] = []
        self._made: dict[int, tuple[Mapping[str, Any], Path | None, str | None]] = {}
        """Index of each song that this session has made → its row, its folder and its title."""
        self._missing: dict[int, HarmoniaError] = {}
        self._note = ""

    def _make(self) -> StudyReport:
        return self._run(self)

    @property
    def report(self) -> StudyReport:
        """The study as its folder has it now."""
        return self._result or StudyReport(self._folder)

    @property
    def total(self) -> int:
        """How many songs the study has, without warm-ups."""
        return len(self._songs)

    @property
    def done(self) -> int:
        """How many songs have ended: with a row, also one of an earlier session, or with an error."""
        return sum(song.row is not None for song in self._songs) + len(self._made) + len(self._missing)

    @property
    def failures(self) -> int:
        """How many songs could not be made in this session."""
        return len(self._missing)

    @property
    def why_stopped(self) -> str:
        """Why the study ended before its last song; "" where it didn't."""
        return STOPPED if self.stopped and self.done < self.total else ""

    @property
    def note(self) -> str:
        """Which warm-up is being made, if one is."""
        return self._note

    def __repr__(self) -> str:
        return f"StudyHandle({self._folder}, {self.state}, {self.done} of {self.total})"

    # For `run.py`, in the study's thread

    def planned(self, folder: Path, songs: Sequence[PlannedSong]) -> None:
        self._folder, self._songs = folder, list(songs)
        self._planned.set()

    def warms_up(self, note: str) -> None:
        self._note = note
        self._tell()

    def song_began(self, index: int, job: JobHandle, seconds_left: float | None) -> None:
        self._begin(index, job, seconds_left)

    def song_made(self, index: int, row: Mapping[str, Any], folder: Path | None) -> None:
        with self._lock:
            job = self._jobs.get(index)
            metadata = job.state.metadata if job is not None else None
            self._made[index] = (row, folder, metadata.title if metadata is not None else None)
            self._jobs.clear()
        self._tell()

    def song_missing(self, index: int, error: HarmoniaError) -> None:
        with self._lock:
            self._missing[index] = error
            self._jobs.clear()
        self._tell()

    def _progress(self, index: int) -> StudyProgress:
        song = self._songs[index]
        block = song.block
        common: dict[str, Any] = {
            "number": index + 1,
            "narrative": song.story,
            "seed": block.seed,
            "configuration": song.configuration,
            "block": block.number,
            "length": block.seconds,
        }
        if song.row is not None:
            folder = song.row.get("directory")
            return StudyProgress(**common, **_row_values("kept", song.row, folder and self._folder / folder))
        if index in self._made:
            row, path, title = self._made[index]
            return StudyProgress(**common, **_row_values("made", row, path), title=title)
        if index in self._missing:
            return StudyProgress(**common, **self._error_values(index, self._missing[index]))
        if (running := self._running_values(index)) is not None:
            return StudyProgress(**common, **running)
        return StudyProgress(**common, status="cancelled" if index in self._unwanted else "waiting")


def _row_values(status: str, row: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """Return what a song's row in the run log says of it."""
    return {
        "status": status,
        "id": row.get("generation_id"),
        "percent": 100.0,
        "seconds": row.get("total_s"),
        "rss_peak": _highest(row, RSS_COLUMNS),
        "gpu_peak": _highest(row, GPU_COLUMNS),
        "folder": folder if folder is not None and folder.is_dir() else None,
    }


def _highest(row: Mapping[str, Any], columns: Sequence[str]) -> int | None:
    return max((row[name] for name in columns if row.get(name) is not None), default=None)
