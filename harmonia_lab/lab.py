"""`Lab`: the one place where concrete parts meet.

Owns the public face, and the lifetime of what was started. Which engines a name stands for is `engine_registry.py`'s;
songs are made by `local.py`, or while an isolated server runs by `isolated/`.
"""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakValueDictionary

from harmonia_lab.analysis.frames import BenchmarkLog
from harmonia_lab.backends.local import Workshop
from harmonia_lab.engine_registry import AUDIO_GROUP, AudioEngines, choose_metadata, engine_names, is_repeatable
from harmonia_lab.engines.base import AudioEngine, MetadataEngine
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.events.fanout import Fanout
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.generation.generation import Limits
from harmonia_lab.generation.handle import JobHandle, QueueLimits
from harmonia_lab.generation.verify import Verification, check_folder, compare_records
from harmonia_lab.protocol.models import (
    Instrument,
    Song,
    SongMetadata,
    SongRequest,
    check_contradictions,
    parse_request,
)
from harmonia_lab.storage import home_folder
from harmonia_lab.store.journal import Journal
from harmonia_lab.store.metrics import Metrics
from harmonia_lab.widgets.frontend import in_kernel

if TYPE_CHECKING:
    from harmonia_lab.backends.process import IsolatedServer
    from harmonia_lab.batch import BatchReport
    from harmonia_lab.batch.run import Rows
    from harmonia_lab.server.server_thread import Server, ServerSettings
    from harmonia_lab.widgets.compose import ComposeForm
    from harmonia_lab.widgets.monitor import Monitor
    from harmonia_lab.widgets.panel import Panel

__all__ = ["CANCEL_GRACE_S", "Lab"]

_log = logging.getLogger(__name__)

SUMMARY_S = 10.0
"""How long a cell that composed waits for its summary: a copy of the sound is encoded for it."""

CANCEL_GRACE_S = 0.25
"""How long an interrupt waits for the worker to stop by itself before the song is ended without it."""


class Lab:
    """Makes songs from stories, one at a time, and logs every attempt.

    >>> with Lab() as lab:
    ...     song = lab.compose("A lighthouse keeper's last night.", seconds=20, seed=7)
    """

    def __init__(
        self,
        *,
        metadata: str | MetadataEngine = "auto",
        model: str | None = None,
        audio: str | AudioEngine = "auto",
        audio_model: str | None = None,
        audio_settings: Mapping[str, Any] | None = None,
        songs: Path | str = "songs",
        home: Path | str | None = None,
        limits: Limits | None = None,
    ) -> None:
        """metadata: "auto" (Ollama where one answers and has a model, else the embedded model), "ollama", "embedded",
        the name of an installed package's engine, or an engine of your own. model: the language model's name. audio:
        "auto" (MusicGen where audio_model or audio_settings is given, else the sketch), "sketch", "musicgen", the name
        of an installed package's engine, or an engine of your own. audio_model: one of that engine's models; for
        MusicGen a name or a folder. audio_settings: of that engine, by name; for MusicGen those of
        `audio_engines.musicgen.settings.Settings` (arrangement, decoder, top_k, …).
        songs: the folder that songs go to. home: where the run log lives (default: HARMONIA_HOME, or the per-user state
        folder).

        Raises InvalidRequest for an unknown engine name, MetadataError where the engine asked for can't be had.
        """
        self.songs = Path(songs)
        self.home = Path(home) if home is not None else home_folder()
        self.log = BenchmarkLog(self.home / "runs.jsonl")
        self.limits = limits or Limits()
        self.events = Fanout()
        """`lab.events.subscribe(callback)` hands every event of every generation to `callback`."""
        self.metrics = Metrics()
        self.events.subscribe(self.metrics)
        self._lock = threading.RLock()
        self._panels: WeakValueDictionary[str, Panel] = WeakValueDictionary()
        self.server: Server | IsolatedServer | None = None
        """The latest that `serve` started."""
        self._elsewhere: IsolatedServer | None = None
        self._given = {
            "metadata": metadata,
            "model": model,
            "audio": audio,
            "audio_model": audio_model,
            "audio_settings": dict(audio_settings or {}),
        }
        self.metadata_engine, self.metadata_reason = choose_metadata(metadata, model)
        self._audio_engines = AudioEngines(audio, audio_model, audio_settings or {})
        self.audio_engine = self._audio_engines.chosen
        self.workshop = Workshop(self, self._audio_engines)
        """Makes songs in this process, wherever others are made."""
        _log.info(
            "Stage 1: %s (%s). Stage 2: %s.", self.metadata_engine.name, self.metadata_reason, self.audio_engine.name
        )

    def submit(
        self,
        narrative: str = "",
        *,
        seconds: float = 20.0,
        seed: int | None = None,
        bpm: int | None = None,
        key: str | None = None,
        genre: str | None = None,
        instruments: Sequence[str | Instrument] | None = None,
        metadata: SongMetadata | None = None,
        audio: str | AudioEngine | None = None,
        out: Path | str | None = None,
        generation_id: str | None = None,
    ) -> JobHandle:
        """Starts a song in the background and returns at once.

        seconds: 1…600. seed: 0…2³²−1; drawn where None. metadata: skips stage 1, and stands for bpm, key, genre and
        instruments. audio: another engine for this song.
        out: this song's own folder (default: `<songs>/<title>-<id>`). generation_id: a name of your own for it.

        Raises InvalidRequest before anything starts.
        """
        request = parse_request(
            narrative=narrative,
            seconds=seconds,
            seed=seed,
            bpm=bpm,
            key=key,
            genre=genre,
            instruments=instruments if isinstance(instruments, str | None) else list(instruments),
            metadata=metadata,
            generation_id=generation_id,
        )
        return self.submit_request(check_contradictions(request), audio=audio, out=out)

    def submit_request(
        self,
        request: SongRequest,
        *,
        audio: str | AudioEngine | None = None,
        out: Path | str | None = None,
        user: str = "local",
        limits: QueueLimits | None = None,
    ) -> JobHandle:
        """`submit`, with the request as one value. user: who owns it, and takes turns with the others.

        Raises InvalidRequest where the generation's id is taken, Refused (QUEUE_FULL) beyond `limits`. While an
        isolated server runs, it makes the song: InvalidRequest for what it can't be told.
        """
        if (away := self._away) is not None:
            return away.submit(request, audio=audio, out=out, user=None if user == "local" else user, limits=limits)
        return self.workshop.submit(request, audio=audio, out=out, user=user, limits=limits)

    def cancel(self, generation_id: str) -> None:
        """Asks it to stop. Fine where it was asked before.

        Raises Refused: CANCEL_FAILED where it has ended otherwise, or is not this lab's.
        """
        if (away := self._away) is not None and not self.workshop.is_at(generation_id):
            away.cancel(generation_id)
        else:
            self.workshop.cancel(generation_id)

    def retry(self, generation_id: str, *, limits: QueueLimits | None = None) -> JobHandle:
        """Tries a failed generation again, under the same id. Finished work is kept: what stage 1 wrote, and stems.

        Raises Refused: NOT_FOUND, NOT_RECOVERABLE, or QUEUE_FULL beyond `limits`.
        """
        if (away := self._away) is not None:
            audio, out = self.workshop.chosen(generation_id)
            return away.retry(generation_id, audio=audio, out=out, limits=limits)
        return self.workshop.retry(generation_id, limits=limits)

    @property
    def journal(self) -> Journal:
        """What happened, kept in `home`. Opened with the first generation; what a dead process left is ended then.

        Raises StorageError where `home` can't be written.
        """
        return self.workshop.journal

    def batch(self, rows: Rows, out: Path | str, *, say: Callable[[str], None] | None = None) -> BatchReport:
        """Makes the songs of a table, one after the other, in `out`: what is there already is kept, what fails stops
        nobody else. `out` gets `report.json` and `listen.html`, on which variants are compared by ear.

        rows: a .csv or .jsonl file, or mappings; columns as `harmonia_lab.batch.COLUMNS`. say: gets one line for each
        stage (default: standard error).

        Raises InvalidRequest for a table that can't be read, StorageError where `out` can't be written or another batch
        is at work in it. An interrupt cancels the song that is being made, and gets through.
        """
        from harmonia_lab.batch import run_batch  # noqa: PLC0415 - only where there are many

        return run_batch(self, rows, out, say)

    def sweep(
        self,
        narratives: str | Sequence[str],
        *,
        seeds: Iterable[int] = range(5),
        audio: Sequence[str] = ("auto",),
        out: Path | str | None = None,
        say: Callable[[str], None] | None = None,
        **fields: Any,
    ) -> BatchReport:
        """A batch of every narrative with every seed and audio engine. fields: the other columns, the same for all.

        out: by default a folder in `songs` named after what is asked for, so that a cell that runs again goes on.
        """
        from harmonia_lab.batch import run_sweep  # noqa: PLC0415 - as above

        return run_sweep(self, narratives, seeds=seeds, audio=audio, out=out, say=say, **fields)

    def engines_for(self, request: SongRequest, audio: str | AudioEngine | None = None) -> dict[str, Any]:
        """What `request` would be made with, as far as it was chosen: names of engines and models, settings.

        Raises InvalidRequest for an unknown engine, the engine's error where it can't be had.
        """
        engine = self._audio_engines.get(audio, request.audio_model)
        identity = engine.identity()
        own = self.metadata_engine.model if self.metadata_reason == "given" else None
        stage_1 = {"engine": self.metadata_engine.name, "model": request.model or self._given["model"] or own}
        stage_2 = {"engine": engine.name, "model": identity.get("model"), "settings": identity.get("settings")}
        return {"metadata": None if request.metadata else stage_1, "audio": stage_2}

    def offers(self) -> tuple[str, str]:
        """Names of the language model and of the audio model that songs are made with."""
        return self.metadata_engine.model, str(self.audio_engine.identity().get("model") or self.audio_engine.name)

    def serve(
        self, settings: ServerSettings | None = None, *, isolated: bool = False, **options: Any
    ) -> Server | IsolatedServer:
        """Starts the Socket.IO and HTTP server in the background and returns at once.

        isolated: in a process of its own, which makes the songs from then on, this lab's too; it goes on answering
        while a cell holds the interpreter. Songs that were begun before are finished here.
        options: fields of `ServerSettings`: host ("127.0.0.1"), port (3333; 0 lets the system choose), …
        A cell that runs again gets the server that is running, where nothing else is asked for.

        Raises InvalidRequest where the port is taken, this lab serves with other settings already, or an isolated one
        would have to use an engine that is an object; RuntimeError once the lab is closed.
        """
        from harmonia_lab.server.server_thread import Server, ServerSettings  # noqa: PLC0415 - socketio loads where it is used

        self.workshop.check_open()
        with self._lock:
            asked = settings or ServerSettings(**options)
            if self.server is not None and self.server.running:
                if self.server.settings == asked and isolated == (self.server is self._away):
                    return self.server
                raise InvalidRequest(
                    f"This lab serves at {self.server.url} already, with other settings.",
                    hint="Stop that one first: `lab.server.stop()`.",
                )
            self.server = self._isolated(asked) if isolated else Server(self, asked, self.home)
            return self.server

    def _isolated(self, settings: ServerSettings) -> IsolatedServer:
        from harmonia_lab.backends.process import IsolatedServer  # noqa: PLC0415 - as above
        from harmonia_lab.backends.serve_settings import LabSettings  # noqa: PLC0415 - as above

        given = self._given | {"songs": self.songs, "home": self.home, "limits": self.limits}
        if given["metadata"] == "auto":  # what this lab says that it uses
            given["metadata"] = self.metadata_engine.name
        told = LabSettings.of(given)
        self._elsewhere = server = IsolatedServer(
            told, settings, journal=self.journal, hand_on=self.events, panel=self.panel
        )
        if not self.workshop.busy:  # what was loaded here is loaded there from now on; a later song here loads it again
            self.metadata_engine.close()
            self.audio_engine.close()
        return server

    @property
    def _away(self) -> IsolatedServer | None:
        """Who makes the songs, where that is another process."""
        return self._elsewhere if self._elsewhere is not None and self._elsewhere.running else None

    def panel(self, generation_id: str, *, plain: bool = False) -> Panel:
        """A live view of any generation in the journal, for a notebook: of one that runs, of one that has ended, of one
        from before a restart of the kernel. plain: for a front end without anywidget.

        Raises Refused (NOT_FOUND) for an unknown id.
        """
        from harmonia_lab.widgets.event_sources import LabRoom  # noqa: PLC0415 - as above
        from harmonia_lab.widgets.panel import Panel  # noqa: PLC0415 - widgets load where they are shown

        panel = self._panels.get(generation_id)
        if panel is None or panel.closed or plain:
            panel = self._panels[generation_id] = Panel.over(LabRoom(self, generation_id), plain=plain)
        return panel

    def monitor(self, user: str | None = "local") -> Monitor:
        """The latest jobs in one live table, for a notebook. user: whose; None: everybody's."""
        from harmonia_lab.widgets.monitor import Monitor  # noqa: PLC0415 - as above

        return Monitor(self, user)

    def form(self) -> ComposeForm:
        """A form for a request, for a notebook."""
        from harmonia_lab.widgets.compose import ComposeForm  # noqa: PLC0415 - as above

        return ComposeForm(self, engine_names(AUDIO_GROUP))

    def compose(self, narrative: str = "", *, progress: bool = True, **options: Any) -> Song:
        """Makes a song and waits for it, with a progress bar. `options` are those of `submit`.

        An interrupt cancels the song and is raised again. Raises the HarmoniaError that ended it.
        """
        return self._wait(self.submit(narrative, **options), progress=progress)

    def _wait(self, job: JobHandle, *, progress: bool) -> Song:
        try:
            if progress and in_kernel():
                panel = self.panel(job.id)
                panel.display()
                job.wait()
                panel.settled.wait(SUMMARY_S)
            elif progress:
                from harmonia_lab.terminal import watch  # noqa: PLC0415 - rich loads only where something is shown

                watch(job)
            return job.result()
        except KeyboardInterrupt:
            job.stop(CANCEL_GRACE_S)
            raise

    def verify(self, folder: Path | str, *, rerun: bool = False) -> Verification:
        """Compares a song's files with its record; with `rerun`, makes the song again and compares that instead.

        Raises HarmoniaError (NOT_FOUND) where the folder holds no song.
        """
        folder = Path(folder)
        report = check_folder(folder)
        if rerun and report.ok:
            again = self._rerun(folder, report.notes)
            again.notes = [*report.notes, *again.notes]
            return again
        return report

    def close(self) -> None:
        """Cancels what is running and ends what was started. Idempotent."""
        self.workshop.cancel_all(CANCEL_GRACE_S)
        if (away := self._away) is not None:
            away.cancel_all(CANCEL_GRACE_S)
        if self.server is not None:
            self.server.stop()
        self.workshop.close()
        self.metadata_engine.close()
        self._audio_engines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        stage_1 = f"{self.metadata_engine.name} [{self.metadata_reason}]"
        return f"Lab(metadata={stage_1}, audio={self.audio_engine.name}, songs={self.songs})"

    def _rerun(self, folder: Path, notes: list[str]) -> Verification:
        """Makes the recorded song again in a folder of its own, and compares the records."""
        record = read_record(folder)
        request = SongRequest.model_validate(record["request"] | {"generationId": None})
        recorded = record["engines"]["metadata"]["engine"]
        if recorded != self.metadata_engine.name or not is_repeatable(recorded):
            metadata = SongMetadata.model_validate_json((folder / "metadata.json").read_bytes())
            request = request.model_copy(update={"metadata": metadata})
            if recorded != "given":
                notes.append(f"Stage 1 ran on {recorded}, which can't be repeated to the byte; its metadata was taken.")
        with tempfile.TemporaryDirectory(prefix="harmonia-verify-") as scratch:
            again = Path(scratch) / "song"
            engine = self._audio_engines.from_record(record["engines"]["audio"])
            try:
                self.workshop.submit(request, audio=engine, out=again).result()
            finally:
                self._audio_engines.forget(engine)
            return compare_records(record, read_record(again), folder)
