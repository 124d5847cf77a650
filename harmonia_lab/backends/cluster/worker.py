"""One song on a worker: claimed from the lab, made as in a kernel, and handed home.

Owns the song's folder on the worker, which is gone afterwards. `Generation` makes the song, `line.py` has the
connection.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from harmonia_lab._version import __version__
from harmonia_lab.audio_options import with_recordings
from harmonia_lab.backends.cluster.frames import CHUNK_BYTES
from harmonia_lab.backends.cluster.line import WorkerLine
from harmonia_lab.backends.cluster.paths import check_paths
from harmonia_lab.engines.cores import usable_cores
from harmonia_lab.engines.probes import gpu_facts, host, loaded_torch
from harmonia_lab.errors import Cancelled, ErrorCode, HarmoniaError
from harmonia_lab.generation.artifacts import SongFolder
from harmonia_lab.generation.generation import Generation, TimeLimits
from harmonia_lab.generation.recovery_plans import RecoveryLimits
from harmonia_lab.protocol.counts import GIVEN
from harmonia_lab.protocol.event_codec import encode
from harmonia_lab.protocol.events import AudioGenerationProgress, Event, GenerationTimeout
from harmonia_lab.protocol.models import Song, SongRequest
from harmonia_lab.server.archives import song_archive
from harmonia_lab.store.run_log import RunLabels

if TYPE_CHECKING:
    import ssl

    from harmonia_lab.engines.base import AudioEngine

__all__ = ["SongOnWorker", "threads", "worker_facts"]

_log = logging.getLogger(__name__)


class SongOnWorker:
    """`run` is for the task's thread; `stop` may be called from any."""

    def __init__(self, plugin: Any, name: str, address: tuple[str, int], secret: str) -> None:
        """plugin: the worker's `SongPlugin`. name, address, secret: as the task has them."""
        self._plugin = plugin
        self._work = Path(tempfile.mkdtemp(prefix="harmonia-", dir=plugin.worker.local_directory))
        self._lock = threading.Lock()
        self._generation: Generation | None = None
        self._stopped = ""
        self._folder: SongFolder | None = None
        self._sent: set[Path] = set()
        """Finished files that the lab has."""
        self._shared: Mapping[str, str] | None = None
        """The lab's own places for the song, by their paths, where they are here, too."""
        self._completed = -1
        hello = {"secret": secret, "name": name, "claim": worker_facts(plugin.worker)}
        self._line = WorkerLine(address, _tls(plugin.worker), hello, on_piece=self._take_piece, on_cancel=self.stop)

    def run(self) -> None:
        """Make the song that the lab gives, if it gives one."""
        self._plugin.songs.add(self)
        try:
            go = self._line.claim()
            if go is not None:
                self._answer(go)
                self._line.finish()
        finally:
            self._plugin.songs.discard(self)
            self._line.close()
            shutil.rmtree(self._work, ignore_errors=True)

    def stop(self, reason: str) -> None:
        """End the song. reason: of a cancel; "interrupted" where the worker ends, "lost" where nobody hears it."""
        with self._lock:
            self._stopped = self._stopped or reason
            generation = self._generation
        if generation is not None:
            generation.cancel_token.cancel("user_cancelled")

    def _answer(self, go: Mapping[str, Any]) -> None:
        try:
            check_paths(go["paths"])
            with self._plugin.pool.lend(go["engines"]) as engines:
                if "request" not in go:
                    engine = engines.metadata.engine
                    self._line.send({"end": "described", "engine": engine.name, "model": engine.model})
                    return
                self._shared = _found_here(go["shared"])
                request = SongRequest.model_validate(go["request"], context=GIVEN)
                audio = engines.audio.get(go["audio"], request.audio_model)
                song = self._make(go, request, engines.metadata, audio)
            self._hand_home(song)
        except Cancelled:
            self._say_stopped()
        except HarmoniaError as error:
            self._say_failed(error)
        except Exception as error:  # noqa: BLE001 - of a task, it would be Dask's to show, with words of the song in it
            _log.error("A song ended as it should not have: %s.", type(error).__name__)
            _log.debug("A defect.", exc_info=True)
            text = f"A defect in Harmonia Lab: {type(error).__name__}: {error}"
            self._say_failed(HarmoniaError(text, code=ErrorCode.INTERNAL))

    def _make(self, go: Mapping[str, Any], request: SongRequest, metadata: Any, audio: AudioEngine) -> Song:
        folder = self._folder = _WorkFolder(self._work, str(request.generation_id))
        if (self._work / "finished").exists():
            folder.work.mkdir(parents=True, mode=0o700)
            (self._work / "finished").rename(folder.finished)
            self._sent.update(folder.finished.rglob("*"))
        folder.resume()
        request = with_recordings(request, audio, lambda name: str(self._work / "recordings" / Path(name)))
        written = folder.written_metadata()
        limits = dict(go["limits"])
        generation = Generation(
            request,
            metadata_engine=written or (metadata.engine if request.metadata is None else metadata),
            audio_engine=audio,
            folder=folder,
            draw=_draw_overview,
            emit=self._emit,
            log_row=lambda row: self._line.send({"row": row | self._columns()}),
            history=go["history"],
            limits=TimeLimits(**limits | {"recovery": RecoveryLimits(**limits["recovery"])}),
            user_id=go["user"],
            labels=RunLabels(**go["labels"]),
            first_attempt=go["attempt"],
            keep_row=lambda row: self._line.send({"began": row | self._columns()}),
            written=None if written is None else written.result,
        )
        with self._lock:
            self._generation = generation
            stopped = self._stopped
        if stopped:
            self.stop(stopped)
        with generation.cancel_token.on_cancel(self._say_late):
            return generation.run()

    def _say_late(self) -> None:
        """Say that a stage has reached its limit: it may be stuck, and then only the lab can end it."""
        if self._generation is not None and self._generation.cancel_token.reason == "timeout":
            self._line.send({"late": self._stage})

    def _columns(self) -> dict[str, Any]:
        return {"worker": str(self._plugin.worker.name), "threads": threads()}

    def _emit(self, event: Event) -> None:
        if event.ends or isinstance(event, GenerationTimeout):
            return  # how the song ends is the lab's to tell
        progress = event.instruments_completed if isinstance(event, AudioGenerationProgress) else self._completed
        if event.delivery == "lifecycle" or progress != self._completed:
            self._completed = progress
            self._send_finished()
        if event.delivery == "direct":
            return  # one socket's alone, which no generation has
        name, payload = encode(event)
        self._line.send({"event": name, "payload": payload}, payload.pop("audio", b""), kind=event.delivery)

    def _send_finished(self) -> None:
        """Send the files that another attempt may use, which the lab hasn't got yet."""
        assert self._folder is not None
        finished = self._folder.finished
        # A sound before its checksum, without which it doesn't count.
        for path in sorted(path for path in finished.rglob("*") if path.is_file() and path not in self._sent):
            if path.suffix == ".wav" and not path.with_name(f"{path.name}.sha256").exists():
                continue
            self._sent.add(path)
            name = path.relative_to(finished).as_posix()
            if self._shared is None or not _link(path, Path(self._shared["finished"], name)):
                self._send_file("finished", name, path)

    def _send_file(self, kind: str, name: str, path: Path) -> None:
        with path.open("rb") as file:
            self._send_pieces(kind, name, file)

    def _send_pieces(self, kind: str, name: str, file: Any) -> None:
        offset = 0
        while (data := file.read(CHUNK_BYTES)) or not offset:
            self._line.send({kind: name, "offset": offset}, data)
            offset += max(1, len(data))
            if not data:
                return

    def _hand_home(self, song: Song) -> None:
        """Bring the song's folder home: by a folder that both machines have, else over the connection."""
        with song_archive(Path(song.directory)).open() as file:
            if self._shared is None or not _put(file, Path(self._shared["archive"])):
                file.seek(0)
                self._send_pieces("archive", "song.tar", file)
        self._line.send({"end": "completed", "title": song.metadata.title, "seconds": song.duration})

    def _say_stopped(self) -> None:
        self._line.send({"end": "cancelled", "reason": self._stopped or "timeout", "stage": self._stage})

    def _say_failed(self, error: HarmoniaError) -> None:
        if self._generation is not None and self._generation.cancel_token.reason == "timeout":
            self._say_stopped()
            return
        told = {"code": error.code, "message": error.message, "hint": error.hint, "details": error.details}
        self._line.send({"end": "failed", "error": told, "stage": self._stage})

    @property
    def _stage(self) -> str:
        return self._generation.stage if self._generation is not None else "unknown"

    def _take_piece(self, name: str, offset: int, data: bytes) -> None:
        """Write a piece of a file that the lab sends, in the line's thread. The lab's names are its own."""
        path = self._work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab" if offset else "wb") as file:
            file.write(data)


def _found_here(shared: Mapping[str, str]) -> Mapping[str, str] | None:
    """Return the lab's places for a song, if they are here, as a file of the lab's shows; else None."""
    try:
        return shared if Path(shared["probe"]).read_text(encoding="ascii") == shared["content"] else None
    except (OSError, ValueError):
        return None


def _put(file: BinaryIO, place: Path) -> bool:
    """Write the archive to the lab's place for it. Return whether it is written; the lab compares the song with its
    record in any case."""
    try:
        with place.open("wb") as archive:
            shutil.copyfileobj(file, archive, CHUNK_BYTES)
    except OSError:
        return False
    return True


def _link(path: Path, place: Path) -> bool:
    """Give a finished file a second name in the lab's folder, or copy it. Return whether it is there, whole."""
    arriving = place.with_name(f"{place.name}.arriving")
    try:
        place.parent.mkdir(mode=0o700, exist_ok=True)  # not its parents: a song that has ended has no folder
        try:
            arriving.hardlink_to(path)
        except OSError:
            shutil.copyfile(path, arriving)
        arriving.replace(place)
    except OSError:
        return False
    return True


class _WorkFolder(SongFolder):
    """What is worth keeping of a song that failed is at home already."""

    def keep(self, *, metadata_given: bool) -> Path | None:
        del metadata_given
        self.discard()
        return None


def worker_facts(worker: Any) -> dict[str, Any]:
    """Return what a worker is: address, name, host, process, versions, threads, cores, memory (bytes), GPU, slots."""
    machine, resources = host(), worker.state.total_resources
    return {
        "worker": str(worker.name),
        "address": worker.contact_address,
        "pid": os.getpid(),
        "version": __version__,
        "python": machine["python"],
        "host": machine["host"],
        "cores": machine["cores"],
        "memory_bytes": machine["memory_bytes"],
        "threads": threads(),
        "slots": {name: amount for name, amount in resources.items() if name in ("song", "GPU")},
        **gpu_facts(),
    }


def threads() -> int:
    """Return how many threads a library uses in this process."""
    torch = loaded_torch()
    if torch is not None:
        return int(torch.get_num_threads())
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) else usable_cores()


def _tls(worker: Any) -> ssl.SSLContext | None:
    """Return the cluster's own trust, where the worker's connections are encrypted."""
    if not str(worker.contact_address).startswith("tls:"):
        return None
    found: ssl.SSLContext = worker.security.get_connection_args("worker")["ssl_context"]
    return found


def _draw_overview(path: Path, **picture: Any) -> str:
    from harmonia_lab.analysis.plots import overview  # noqa: PLC0415 - the drawing library loads with the first picture

    return overview(path, **picture)
