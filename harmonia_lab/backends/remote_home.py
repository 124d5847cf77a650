"""What a song leaves at its server when it has ended, brought home: its folder, and the rows of its attempts.

Owns the archive until it is unpacked, and which rows are new here. `remote_server.py` downloads, `remote_songs.py`
unpacks.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harmonia_lab import storage
from harmonia_lab.backends.remote_follow import FollowedSong
from harmonia_lab.backends.remote_server import RemoteServer
from harmonia_lab.backends.remote_songs import unpack
from harmonia_lab.errors import ErrorCode, HarmoniaError, StorageError
from harmonia_lab.generation.interrupted import whole_song
from harmonia_lab.store.journal_core import JournalCore
from harmonia_lab.store.run_log import A_SONG, COLUMNS, RunLog

__all__ = ["Homecoming"]

AGAIN_S = 1.0

_log = logging.getLogger(__name__)


class Homecoming:
    """Any thread may call `bring`, for several songs at once."""

    def __init__(
        self,
        server: RemoteServer,
        run_log: RunLog,
        archives: Path,
        journal: Callable[[], JournalCore],
        on_row: Callable[[dict[str, Any]], None],
    ) -> None:
        """archives: the folder in which archives lie, also unfinished ones. on_row: gets each new row."""
        self._server, self._run_log, self._archives = server, run_log, archives
        self._journal, self._on_row = journal, on_row

    def bring(self, job: FollowedSong, *, with_song: bool) -> None:
        """Put the song's folder in its place, if it has one, then add its rows to the run log.

        A song that the server has no longer is left out, with the error in `job.error`. Raises HarmoniaError where it
        can't be had, or put in its place.
        """
        if with_song:
            try:
                job.song = self._fetch(job)
            except HarmoniaError as error:
                if error.code != ErrorCode.NOT_FOUND:
                    raise
                job.error = error
        self._log_rows(job)

    def clear(self, kept: Collection[str]) -> None:
        """Delete unfinished archives, but for those of generations that may still come home."""
        for archive in self._archives.glob("*.tar"):
            if archive.stem not in kept:
                self._delete(archive)

    def _delete(self, archive: Path) -> None:
        with contextlib.suppress(OSError):
            archive.with_suffix(".etag").unlink(missing_ok=True)
            archive.unlink(missing_ok=True)

    def _fetch(self, job: FollowedSong) -> Path:
        """Return the song's file, once its folder is in its place."""
        state = job.handle.state
        song = whole_song(state, job.submission)  # before a restart, it may have come home
        if song is not None:
            return Path(song.audio_path)
        archive = self._archives / f"{job.id}.tar"
        with storage.storage_errors(archive):
            self._archives.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._server.download(f"/api/generations/{job.id}/archive", archive)
        try:
            title = state.metadata.title if state.metadata is not None else job.id
            return unpack(archive, job.id, job.folder, title) / "song.flac"
        finally:
            self._delete(archive)

    def _log_rows(self, job: FollowedSong) -> None:
        """Add the rows of the song's attempts, as the server has them, to this lab's run log."""
        while True:
            try:
                rows = self._server.rows(job.id)
                break
            except HarmoniaError as error:
                if not error.recoverable or self._server.stopping.wait(AGAIN_S):
                    _log.warning("The rows of generation %s could not be had. %s", job.id, error)
                    return
        directory = None if job.song is None else str(job.song.parent)
        for found in rows:
            row = {name: value for name, value in found.items() if name in COLUMNS}
            if row.get("generation_id") != job.id or self._is_logged(str(row.get("run_id"))):
                continue
            row["directory"] = directory if row.get("status") == "completed" else None
            self._log_row(row | (asdict(job.labels) if job.labels != A_SONG else {}))

    def _is_logged(self, run_id: str) -> bool:
        with contextlib.suppress(StorageError):
            return self._run_log.find(run_id) is not None
        return False

    def _log_row(self, row: dict[str, Any]) -> None:
        self._on_row(row)
        try:
            self._run_log.append(row)
        except StorageError as error:
            self._journal().unwritten.add_row(self._run_log.path, row, error)
        except ValueError as error:  # a number that JSON has none of
            _log.warning("A row of the server could not be logged. %s", error)
