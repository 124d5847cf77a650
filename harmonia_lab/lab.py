"""`Lab`: the public face, and the one place where concrete parts meet.

Owns the lifetime of the engines, the backends, the journal and the server. `engine_registry.py` finds an engine by its
name; a backend (`backends/`) makes the songs.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakValueDictionary

from harmonia_lab.analysis.frames import BenchmarkLog
from harmonia_lab.backends.base import LOCAL_USER, Backend, JobOptions
from harmonia_lab.backends.local import LocalBackend
from harmonia_lab.engine_registry import (
    AUDIO_GROUP,
    AudioEngines,
    choose_metadata,
    engine_names,
    is_repeatable,
    language_models,
    song_settings,
)
from harmonia_lab.engines.base import AudioEngine, MetadataEngine
from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest, Refused
from harmonia_lab.events.fanout import Fanout
from harmonia_lab.generation.artifacts import read_record
from harmonia_lab.generation.generation import TimeLimits
from harmonia_lab.generation.handle import JobHandle, QueueLimits
from harmonia_lab.generation.recovery import fail_interrupted
from harmonia_lab.generation.verify import Verification, check_folder, compare_records
from harmonia_lab.metadata_engines.stand_in import StandInEngine
from harmonia_lab.metadata_engines.wishes import with_wished_length
from harmonia_lab.protocol.models import (
    Instrument,
    ShareRole,
    Song,
    SongMetadata,
    SongRequest,
    check_contradictions,
    parse_request,
    parse_share,
)
from harmonia_lab.storage import home_folder
from harmonia_lab.store.journal import Journal
from harmonia_lab.store.metrics import Metrics
from harmonia_lab.widgets.frontend import in_kernel

if TYPE_CHECKING:
    from harmonia_lab.backends.isolated_server import IsolatedServer
    from harmonia_lab.batch import BatchReport
    from harmonia_lab.batch.run import Rows
    from harmonia_lab.server.server_thread import Server, ServerSettings
    from harmonia_lab.widgets.compose import ComposeForm
    from harmonia_lab.widgets.monitor import Monitor
    from harmonia_lab.widgets.panel import Panel

__all__ = ["CANCEL_GRACE_S", "Lab"]

_log = logging.getLogger(__name__)

SUMMARY_S = 10.0
"""Seconds that a cell which composed waits for its summary, for which a copy of the sound is encoded."""

CANCEL_GRACE_S = 0.25
"""Seconds that an interrupt waits for the worker to stop by itself, before the song is ended without it."""


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
        metadata_settings: Mapping[str, Any] | None = None,
        audio: str | AudioEngine = "auto",
        audio_model: str | None = None,
        audio_settings: Mapping[str, Any] | None = None,
        songs: Path | str = "songs",
        home: Path | str | None = None,
        limits: TimeLimits | None = None,
    ) -> None:
        """metadata: "auto" (Ollama if a server answers and has a model, else the embedded model), "ollama", "embedded",
        the name of an installed package's engine, or an engine of your own. model: the language model's name.
        metadata_settings: of that engine, by name; for Ollama those of
        `metadata_engines.ollama.settings.OllamaSettings` (headers, ca, timeouts, think, …).
        audio: "auto" (MusicGen if audio_model or audio_settings is given, else the sketch), "sketch", "musicgen", the
        name of an installed package's engine, or an engine of your own. audio_model: one of that engine's models; for
        MusicGen a name or a folder. audio_settings: of that engine, by name; for MusicGen those of
        `audio_engines.musicgen.settings.Settings` (arrangement, decoder, top_k, …).
        songs: the folder that songs go to. home: where the run log lives (default: HARMONIA_HOME, or the per-user state
        folder).

        Raises InvalidRequest for an unknown engine name, MetadataError if that engine isn't available.
        """
        self.songs = Path(songs)
        self.home = Path(home) if home is not None else home_folder()
        self.log = BenchmarkLog(self.home / "runs.jsonl")
        self.limits = limits or TimeLimits()
        self.events = Fanout()
        """`lab.events.subscribe(callback)` calls `callback` with every event of every generation."""
        self.metrics = Metrics()
        self.events.subscribe(self.metrics)
        self._lock = threading.RLock()
        self._journal: Journal | None = None
        self._journal_lock = threading.Lock()  # not `_lock`: `serve` holds that while the server's thread opens it
        self._options: dict[str, JobOptions] = {}
        """Each song's own, which the journal doesn't keep: a retry needs them."""
        self._panels: WeakValueDictionary[str, Panel] = WeakValueDictionary()
        self.server: Server | IsolatedServer | None = None
        """The server that `serve` started last."""
        self._arguments: dict[str, Any] = {
            "metadata": metadata,
            "model": model,
            "metadata_settings": dict(metadata_settings or {}),
            "audio": audio,
            "audio_model": audio_model,
            "audio_settings": dict(audio_settings or {}),
        }
        self.metadata_engine, self.metadata_reason = choose_metadata(metadata, model, metadata_settings)
        self._audio_engines = AudioEngines(audio, audio_model, audio_settings or {})
        self.audio_engine = self._audio_engines.chosen
        self._local = LocalBackend(
            journal=lambda: self.journal,
            publish=self.events,
            run_log=self.log,
            songs=self.songs,
            limits=self.limits,
            metadata_engine=self.metadata_engine,
            audio_engines=self._audio_engines,
            panel=self.panel,
        )
        self._backends: list[Backend] = [self._local]
        """The last one that runs gets new songs; the first one always runs."""
        _log.info(
            "Stage 1: %s (%s). Stage 2: %s.", self.metadata_engine.name, self.metadata_reason, self.audio_engine.name
        )

    def submit(
        self,
        narrative: str = "",
        *,
        seconds: float | None = None,
        seed: int | None = None,
        bpm: int | None = None,
        key: str | None = None,
        genre: str | None = None,
        instruments: Sequence[str | Instrument] | None = None,
        language: str | None = None,
        wishes: bool = True,
        metadata: SongMetadata | None = None,
        audio: str | AudioEngine | None = None,
        out: Path | str | None = None,
        generation_id: str | None = None,
    ) -> JobHandle:
        """Start a song in the background, and return at once.

        seconds: 1…600; None: as the narrative wishes, else 20. seed: 0…2³²−1; None draws one. language: the lyrics',
        such as "de" or "German"; None: the narrative's. wishes: whether wishes in the narrative ("a slow waltz, no
        drums") are followed; bpm, key and the other options beat them. metadata: replaces stage 1, and bpm, key,
        genre and instruments with it. audio: another engine for this song.
        out: this song's own folder (default: `<songs>/<title>-<id>`). generation_id: your own id for the generation.

        Raises InvalidRequest before anything starts.
        """
        request = parse_request(
            narrative=narrative,
            **({} if seconds is None else {"seconds": seconds}),
            seed=seed,
            bpm=bpm,
            key=key,
            genre=genre,
            instruments=instruments if isinstance(instruments, str | None) else list(instruments),
            language=language,
            wishes=wishes,
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
        user: str = LOCAL_USER,
        limits: QueueLimits | None = None,
        here: bool = False,
    ) -> JobHandle:
        """`submit`, with the request as one value. user: the song's owner; users take turns. here: make it in this
        process, also while an isolated server makes the other songs.

        Raises InvalidRequest if the generation's id is taken, or for an option that an isolated server can't take;
        Refused (QUEUE_FULL) beyond `limits`.
        """
        backend = self._local if here else self._current
        options = JobOptions(audio, out)
        job = backend.submit(with_wished_length(request), replace(options, user=user, limits=limits))
        self._options[job.id] = options
        return job

    def cancel(self, generation_id: str) -> None:
        """Ask a song to stop. Do nothing if that was asked before.

        Raises Refused (CANCEL_FAILED) if it has ended otherwise, or is not this lab's.
        """
        self._backend_of(generation_id).cancel(generation_id)

    def retry(self, generation_id: str, *, limits: QueueLimits | None = None) -> JobHandle:
        """Try a failed generation again, under the same id. What stage 1 wrote and finished stems are kept.

        Raises Refused: NOT_FOUND, NOT_RECOVERABLE, or QUEUE_FULL beyond `limits`.
        """
        options = self._options.get(generation_id, JobOptions())
        return self._backend_of(generation_id).retry(generation_id, replace(options, limits=limits))

    def share(self, generation_id: str, user: str, role: ShareRole = "viewer") -> None:
        """Let clients of `user` join, hear and download a song of this lab; as "controller", cancel and retry it too.

        Raises Refused (NOT_FOUND) for an unknown id, InvalidRequest for a name or a role that there isn't.
        """
        if self.journal.state(generation_id) is None:
            raise Refused(f"There is no generation {generation_id}.", code=ErrorCode.NOT_FOUND)
        share = parse_share(user, role)
        self.journal.shares.add(generation_id, share.user_id, share.role)
        self._refresh_panel(generation_id)

    def unshare(self, generation_id: str, user: str) -> None:
        """Take a song back from `user`, whose connections leave it, and whose links end, within a second."""
        self.journal.shares.remove(generation_id, user)
        self._refresh_panel(generation_id)

    def _refresh_panel(self, generation_id: str) -> None:
        panel = self._panels.get(generation_id)
        if panel is not None:
            panel.refresh()

    @property
    def journal(self) -> Journal:
        """The journal in `home`. When it opens, with the first song, the songs that exited processes left are failed.

        Raises StorageError if `home` can't be written.
        """
        with self._journal_lock:
            if self._journal is None:
                self._journal = Journal(self.home / "journal.sqlite3")
                for generation_id in fail_interrupted(self._journal):
                    _log.warning("Generation %s was interrupted: the process that made it has ended.", generation_id)
            return self._journal

    @property
    def _current(self) -> Backend:
        return next(backend for backend in reversed(self._backends) if backend.running)

    def _backend_of(self, generation_id: str) -> Backend:
        """Return the backend that works at the generation, or else the one that gets new songs."""
        return next((backend for backend in self._backends if backend.owns(generation_id)), self._current)

    def batch(self, rows: Rows, out: Path | str, *, say: Callable[[str], None] | None = None) -> BatchReport:
        """Make the songs of a table in `out`, one after the other. Songs that `out` has already are kept; a song that
        fails stops no other. `out` gets `report.json`, and `listen.html` to compare variants by ear.

        rows: a .csv or .jsonl file, or mappings; columns as `harmonia_lab.batch.COLUMNS`. say: gets one line for each
        stage (default: standard error).

        Raises InvalidRequest for a table that can't be read, StorageError if `out` can't be written or another batch
        is writing to it. An interrupt cancels the song that is being made, and is raised again.
        """
        from harmonia_lab.batch import run_batch  # noqa: PLC0415 - loads for batches alone

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
        """Make a batch of every narrative with every seed and audio engine. fields: the other columns, equal for all.

        out: by default a folder in `songs` named after the table's digest, so that a cell that runs again continues.
        """
        from harmonia_lab.batch import run_sweep  # noqa: PLC0415 - as above

        return run_sweep(self, narratives, seeds=seeds, audio=audio, out=out, say=say, **fields)

    def engines_for(self, request: SongRequest, audio: str | AudioEngine | None = None) -> dict[str, Any]:
        """Return what `request` would be made with, as far as it was chosen: names of engines and models, settings.

        Raises InvalidRequest for an unknown engine, the engine's error if it isn't available.
        """
        engine = self._audio_engines.get(audio, request.audio_model)
        identity = engine.identity()
        own = self.metadata_engine.model if self.metadata_reason == "given" else None
        stage_1 = {"engine": self.metadata_engine.name, "model": request.model or self._arguments["model"] or own}
        if settings := song_settings(self.metadata_engine.name, self._arguments["metadata_settings"]):
            stage_1["settings"] = settings
        stage_2 = {"engine": engine.name, "model": identity.get("model"), "settings": identity.get("settings")}
        return {"metadata": None if request.metadata else stage_1, "audio": stage_2}

    def language_models(self, timeout_s: float) -> Sequence[str]:
        """Return the names of the models of stage 1's server. Raises MetadataError if it doesn't answer in time."""
        return language_models(self.metadata_engine.name, self._arguments["metadata_settings"], timeout_s)

    def offers(self) -> tuple[str, str]:
        """Return the names of the language model and of the audio model that songs are made with."""
        return self.metadata_engine.model, str(self.audio_engine.identity().get("model") or self.audio_engine.name)

    def serve(
        self, settings: ServerSettings | None = None, *, isolated: bool = False, **options: Any
    ) -> Server | IsolatedServer:
        """Start the Socket.IO and HTTP server in the background, and return at once.

        isolated: in a process of its own, which makes the songs from then on, this lab's too; it answers clients
        while a cell holds the interpreter. Songs that began before are finished here.
        options: fields of `ServerSettings`: host ("127.0.0.1"), port (3333; 0 lets the system choose), …
        A cell that runs again gets the server that is running, if it asks for the same settings.

        Raises InvalidRequest if the port is taken, this lab serves with other settings already, or an isolated one
        would have to use an engine that is an object; RuntimeError once the lab is closed.
        """
        from harmonia_lab.server.server_thread import Server, ServerSettings  # noqa: PLC0415 - socketio loads where it is used

        self._local.check_open()
        with self._lock:
            asked = settings or ServerSettings(**options)
            if self.server is not None and self.server.running:
                if self.server.settings == asked and isolated == (self._current is not self._local):
                    return self.server
                raise InvalidRequest(
                    f"This lab serves at {self.server.url} already, with other settings.",
                    hint="Stop that one first: `lab.server.stop()`.",
                )
            self.server = self._isolated(asked) if isolated else Server(self, asked, self.home)
            return self.server

    def _isolated(self, settings: ServerSettings) -> IsolatedServer:
        from harmonia_lab.backends.process import ProcessBackend  # noqa: PLC0415 - as above
        from harmonia_lab.backends.serve_settings import LabSettings  # noqa: PLC0415 - as above

        arguments = self._arguments | {"songs": self.songs, "home": self.home, "limits": self.limits}
        if arguments["metadata"] == "auto" and not isinstance(self.metadata_engine, StandInEngine):
            # The server uses the engine that this lab says it uses. (Where that one stands in for another, the server
            # looks again, and warns by itself.)
            arguments["metadata"] = self.metadata_engine.name
        backend = ProcessBackend(
            LabSettings.of(arguments), settings, journal=self.journal, publish=self.events, panel=self.panel
        )
        self._backends.append(backend)
        if not self._local.busy:  # models load in the server's process from now on; a later song here loads them again
            self.metadata_engine.close()
            self.audio_engine.close()
        return backend.server

    def panel(self, generation_id: str, *, plain: bool = False) -> Panel:
        """Return a live view of a generation in the journal, for a notebook: one that runs, has ended, or is from
        before a restart of the kernel. plain: for a front end without anywidget.

        Raises Refused (NOT_FOUND) for an unknown id.
        """
        from harmonia_lab.widgets.event_sources import LabEvents  # noqa: PLC0415 - as above
        from harmonia_lab.widgets.panel import Panel  # noqa: PLC0415 - widgets load where they are shown

        panel = self._panels.get(generation_id)
        if panel is None or panel.closed or plain:
            panel = self._panels[generation_id] = Panel.from_source(LabEvents(self, generation_id), plain=plain)
        return panel

    def monitor(self, user: str | None = "local") -> Monitor:
        """Return the latest jobs in one live table, for a notebook. user: their owner; None for all users."""
        from harmonia_lab.widgets.monitor import Monitor  # noqa: PLC0415 - as above

        return Monitor(self, user)

    def form(self) -> ComposeForm:
        """Return a form for a request, for a notebook."""
        from harmonia_lab.widgets.compose import ComposeForm  # noqa: PLC0415 - as above

        return ComposeForm(self, engine_names(AUDIO_GROUP))

    def compose(self, narrative: str = "", *, progress: bool = True, **options: Any) -> Song:
        """Make a song and wait for it, with a progress bar. `options` are those of `submit`.

        An interrupt cancels the song and is raised again. Raises the HarmoniaError that ended the song.
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
            with contextlib.suppress(HarmoniaError):  # an isolated server may not answer
                job.stop(CANCEL_GRACE_S)
            raise

    def verify(self, folder: Path | str, *, rerun: bool = False) -> Verification:
        """Compare a song's files with its record; with `rerun`, make the song again and compare that instead.

        Raises HarmoniaError (NOT_FOUND) if the folder holds no song.
        """
        folder = Path(folder)
        report = check_folder(folder)
        if rerun and report.ok:
            again = self._rerun(folder, report.notes)
            again.notes = [*report.notes, *again.notes]
            return again
        return report

    def close(self) -> None:
        """Cancel the songs, stop the server, and close the engines. Idempotent."""
        for backend in self._backends:
            if backend.running:
                backend.close(CANCEL_GRACE_S)
        if self.server is not None:
            self.server.stop()
        if self._journal is not None:
            self._journal.close()
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
        """Make the recorded song again in a temporary folder, and compare the records."""
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
                self.submit_request(request, audio=engine, out=again, here=True).result()
            finally:
                self._audio_engines.forget(engine)  # it has the record's settings, not this lab's
            return compare_records(record, read_record(again), folder, again)
