"""A song that a worker of the cluster makes, at the lab: the same `Generation`, whose stages are elsewhere.

Owns what each message of the worker means here: events are numbered and journalled, finished files are kept for another
attempt, rows are logged, and the folder comes home whole, as its record has it. Workers that die are counted here.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from harmonia_lab import storage
from harmonia_lab.audio_options import with_recordings
from harmonia_lab.backends.cluster.cluster import Cluster
from harmonia_lab.backends.cluster.task import ClusterTask, WorkerLost
from harmonia_lab.backends.remote_songs import unpack_into
from harmonia_lab.errors import Cancelled, ErrorCode, HarmoniaError, StorageError, error_of
from harmonia_lab.generation.generation import Generation
from harmonia_lab.generation.interrupted import interrupted_error, quarantine_error
from harmonia_lab.generation.recovery_plans import Retry, recovery_event
from harmonia_lab.protocol.event_codec import decode_event
from harmonia_lab.protocol.events import AudioGenerationStarted, Event, MetadataGenerationStarted
from harmonia_lab.protocol.models import Song
from harmonia_lab.store.run_log import COLUMNS
from harmonia_lab.store.submissions import MAX_DEATHS

__all__ = ["ClusterGeneration"]

PLAN = "another-worker"
RECORDINGS = "recordings"


class ClusterGeneration(Generation):
    """Runs once, in one thread of the lab's, which waits for the worker's messages."""

    def __init__(
        self,
        *arguments: Any,
        cluster: Cluster,
        engines: Mapping[str, Any],
        count_death: Callable[[str], int],
        wait_s: float,
        **named: Any,
    ) -> None:
        """engines: the lab's parameters that choose them, with `paths`, as plain JSON values. count_death: writes down
        that a worker's process died with the song; returns how many did. wait_s: as `ClusterTask` has it. The others:
        as `Generation`'s."""
        super().__init__(*arguments, **named)
        self._cluster, self._engines = cluster, engines
        self._count_death, self._wait_s = count_death, wait_s
        self._history = list(named.get("history", ()))
        self._losses = 0
        self._unheard: set[str] = set()
        """Addresses of workers that weren't heard with this song, and aren't known to be gone."""
        self._worker_row: dict[str, Any] = {}
        self._worker_row_ended = False
        self.worker: str | None = None
        """The address of the worker that makes the song."""

    def _begin(self) -> None:
        self._folder.create()

    def _try_once(self) -> Song:
        self._worker_row, self._worker_row_ended = {}, False
        with (
            ClusterTask(self._cluster, self._wait_s, self._unheard, self._limits.unheard_s) as task,
            self.cancel_token.on_cancel(lambda: task.cancel(self.cancel_token.reason)),
        ):
            end = self._follow(task)
        # From here on the worker is free for its next song: all that is needed of it is in the lab's folder.
        kind = end["end"]
        if kind == "completed":
            self.cancel_token.raise_if_cancelled()
            unpack_into(self._archive, self.id, self._folder)
            storage.remove_tree(self._folder.finished)
            storage.remove_tree(self._archive.parent)
            return self._complete(str(end["title"]), float(end["seconds"]))
        if kind == "cancelled":
            raise self._stopped(str(end.get("reason")))
        told = end["error"]
        raise error_of(
            str(told["code"]), str(told["message"]), hint=str(told.get("hint", "")), details=told.get("details")
        )

    def _follow(self, task: ClusterTask) -> dict[str, Any]:
        """Do what the worker says, and return its last message."""
        storage.remove_tree(self._archive.parent)
        for head, body in task.messages(self._grant, self.cancel_token):
            self.worker = task.worker.get("address")
            if "event" in head:
                self._take_event(head, body)
            elif "began" in head:
                self._take_began(self._row_of(head["began"]))
            elif "row" in head:
                self._worker_row, self._worker_row_ended = self._row_of(head["row"]), True
            elif "finished" in head:
                self._write_piece(self._folder.finished, str(head["finished"]), int(head["offset"]), body)
            elif "archive" in head:
                self._write_piece(self._archive.parent, self._archive.name, int(head["offset"]), body)
            elif "late" in head:
                self.cancel_token.cancel("timeout")
            elif "end" in head:
                if head.get("stage") in ("metadata", "audio"):
                    self._stage = head["stage"]
                return head
        raise AssertionError("the messages have no end")

    def _grant(self, worker: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[str, Path | bytes]]]:
        """Return the song for a worker, and what of it is finished."""
        self._attempt.row |= {"worker": worker.get("worker"), "host": worker.get("host")}
        files: list[tuple[str, Path | bytes]] = []

        def sent(path: str) -> str:
            name = f"{len(files)}-{Path(path).name}"
            files.append((f"{RECORDINGS}/{name}", Path(path)))
            return name

        request = with_recordings(self.request, self._lent_audio_engine, sent)
        finished = self._folder.finished
        files += [
            (f"finished/{path.relative_to(finished).as_posix()}", path)
            for path in sorted(finished.rglob("*"))
            if path.is_file()
        ]
        song = {
            "request": request.to_wire(),
            "engines": {name: value for name, value in self._engines.items() if name != "paths"},
            "paths": self._engines["paths"],
            "audio": self._lent_audio_engine.name,
            "history": self._history,
            "limits": asdict(self._limits),
            "user": self._user_id,
            "labels": asdict(self._labels),
            "attempt": self._attempt_number,
            "shared": self._probe(),
        }
        return song, files

    def _probe(self) -> dict[str, str]:
        """Write a file by which a worker sees that it has this machine's folder, and can put the song and its finished
        parts there itself."""
        content, probe = secrets.token_hex(16), self._archive.with_name("probe")
        with storage.storage_errors(probe):
            probe.parent.mkdir(mode=0o700, exist_ok=True)
            probe.write_text(content, encoding="ascii")
            self._folder.finished.mkdir(mode=0o700, exist_ok=True)
        places = {"finished": str(self._folder.finished), "archive": str(self._archive)}
        return {"probe": str(probe), "content": content, **places}

    def _take_event(self, head: Mapping[str, Any], body: bytes) -> None:
        payload = head["payload"] | ({"audio": body} if body else {})
        event = decode_event(str(head["event"]), payload)
        if not isinstance(event, Event) or event.ends or event.generation_id != self.id:
            return
        if isinstance(event, MetadataGenerationStarted):
            self._stage = "metadata"
        elif isinstance(event, AudioGenerationStarted):
            self._stage = "audio"
        self._emit(event)

    def _take_began(self, row: dict[str, Any]) -> None:
        """Another attempt begins: log the one before, if the worker has tried again by itself."""
        if self._worker_row_ended:
            self._log_row(self._worker_row)
        self._worker_row, self._worker_row_ended = row, False
        self._attempt_number = int(row.get("attempt") or self._attempt_number)
        self._keep_row(row)

    def _row_of(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row of the worker's, with what led to the attempt here."""
        row = {name: value for name, value in told.items() if name in COLUMNS}
        plans = (self._attempt.row.get("recoveries"), row.get("recoveries"))
        costs = (self._attempt.row.get("recovery_s"), row.get("recovery_s"))
        if plans[0] is not None and row.get("run_id") == self._attempt.row["run_id"]:
            row |= {"recoveries": ",".join(filter(None, plans)), "recovery_s": sum(filter(None, costs))}
        return row

    def _row_at_end(self) -> dict[str, Any]:
        if not self._worker_row:
            return super()._row_at_end()
        here = {name: self._attempt.row.get(name) for name in ("directory", "checksum")}
        if not self._worker_row_ended:
            here["total_s"] = round(self._attempt.elapsed_s, 6)
        return self._worker_row | here

    def _write_piece(self, folder: Path, name: str, offset: int, data: bytes) -> None:
        """Write a piece of a file at its place in `folder`. Raises StorageError, HarmoniaError for a name outside."""
        parts = PurePosixPath(name).parts
        if not 1 <= len(parts) <= 3 or any(part in ("..", "/") or "\\" in part or ":" in part for part in parts):
            raise HarmoniaError("A worker has sent a file with a name outside its folder.", code=ErrorCode.INTERNAL)
        path = folder.joinpath(*parts)
        with storage.storage_errors(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.open("r+b" if offset and path.exists() else "wb") as file:
                file.seek(offset)
                file.write(data)

    @property
    def _archive(self) -> Path:
        return self._folder.work / "arriving" / "song.tar"

    def _stopped(self, reason: str) -> HarmoniaError:
        """Return the error of a song that its worker has stopped."""
        if reason == "timeout":
            self.cancel_token.cancel("timeout")
        if reason in ("interrupted", "lost") and not self.cancel_token.cancelled:
            return interrupted_error()
        self.cancel_token.cancel("user_cancelled")
        return Cancelled()

    def _recover(self, error: HarmoniaError | MemoryError) -> None:
        """Try again on another worker where one was lost. All else, the worker has tried to mend."""
        if not isinstance(error, WorkerLost) or self.cancel_token.cancelled:
            raise error
        self._losses += 1
        deaths = self._losses
        if not error.died and self.worker is not None:
            self._unheard.add(self.worker)
        if error.died:
            with contextlib.suppress(StorageError):
                deaths = max(deaths, self._count_death(f"{self._attempt_number}-{self._losses}"))
        if deaths >= MAX_DEATHS:
            raise quarantine_error(self.id) if error.died else error
        retry = Retry(PLAN, self._losses, 0.0, "Trying again on another worker...")
        self._emit(recovery_event(self.id, error, self._stage, retry))
        self._recovery.tried.append(PLAN)
        self._write_row("failed", error_code=error.code)
        self._attempt_number += 1
        self._attempt = self._new_attempt()
        self._attempt.follows(retry)
        self._keep_row(self.row)
