"""`Lab`: the public face, and the one place where concrete parts meet.

Owns the lifetime of the engines, the backends, the journal and the server. `engine_registry.py` finds an engine by its
name; a backend (`backends/`) makes the songs.
"""

from __future__ import annotations

import logging
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
from harmonia_lab.backends.metadata_choice import MetadataChoice
from harmonia_lab.engine_registry import (
    AUDIO_GROUP,
    METADATA_GROUP,
    AudioEngines,
    engine_names,
    language_models,
    song_settings,
)
from harmonia_lab.engines.base import AudioEngine, MetadataEngine
from harmonia_lab.errors import ErrorCode, HarmoniaError, InvalidRequest, Refused
from harmonia_lab.events.fanout import Fanout
from harmonia_lab.generation.generation import TimeLimits
from harmonia_lab.generation.handle import JobHandle, QueueLimits
from harmonia_lab.generation.recovery import fail_interrupted
from harmonia_lab.generation.verify import Verification, check_folder
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
from harmonia_lab.rerun import make_again
from harmonia_lab.storage import home_folder
from harmonia_lab.store.journal import Journal
from harmonia_lab.store.metrics import Metrics
from harmonia_lab.store.run_log import A_SONG, RunLabels
from harmonia_lab.watching import CANCEL_GRACE_S, wait_for

if TYPE_CHECKING:
    from harmonia_lab.backends.isolated_server import IsolatedServer
    from harmonia_lab.batch import BatchReport
    from harmonia_lab.batch.run import Rows
    from harmonia_lab.server.server_thread import Server, ServerSettings
    from harmonia_lab.study import DesignSource, StudyReport
    from harmonia_lab.widgets.compose import ComposeForm
    from harmonia_lab.widgets.monitor import Monitor
    from harmonia_lab.widgets.panel import Panel

__all__ = ["CANCEL_GRACE_S", "Lab"]

_log = logging.getLogger(__name__)


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
        labels: RunLabels = A_SONG,
        log: BenchmarkLog | None = None,
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
        folder). labels: for the songs' rows in it, such as `RunLabels("bench")`. log: another
        run log than the one there.

        Raises InvalidRequest for an unknown engine name or setting. Stage 1's engine is looked for when a song first
        needs it.
        """
        self.songs = Path(songs)
        self.home = Path(home) if home is not None else home_folder()
        self.log = log or BenchmarkLog(self.home / "runs.jsonl")
        self.limits = limits or TimeLimits()
        self.labels = labels
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
        self._metadata = MetadataChoice(metadata, model, metadata_settings or {})
        self._audio_engines = AudioEngines(audio, audio_model, audio_settings or {})
        self.audio_engine = self._audio_engines.chosen
        self._local = LocalBackend(
            journal=lambda: self.journal,
            publish=self.events,
            run_log=self.log,
            songs=self.songs,
            limits=self.limits,
            metadata=self._metadata,
            audio_engines=self._audio_engines,
            panel=self.panel,
        )
        self._backends: list[Backend] = [self._local]
        """The last one that runs gets new songs; the first one always runs."""
        _log.info("Stage 2: %s.", self.audio_engine.name)

    @property
    def metadata_engine(self) -> MetadataEngine:
        """The engine for stage 1, chosen when it is first needed. Raises MetadataError if it isn't available."""
        return self._metadata.engine

    @property
    def metadata_reason(self) -> str:
        """Why it is that one. Raises as `metadata_engine`."""
        return self._metadata.reason

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

        Raises InvalidRequest, or MetadataError if stage 1's engine isn't available, before anything starts.
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
        replaces: bool = False,
        labels: RunLabels | None = None,
    ) -> JobHandle:
        """`submit`, with the request as one value. user: the song's owner; users take turns. here: make it in this
        process, also while an isolated server makes the other songs. replaces: when the song is whole, move what `out`
        has into a folder `replaced` beside it. labels: for its rows in the run log, in place of the lab's.

        Raises InvalidRequest if the generation's id is taken, or for an option that an isolated server can't take;
        MetadataError if stage 1's engine isn't available; Refused (QUEUE_FULL) beyond `limits`.
        """
        backend = self._local if here else self._current
        if backend is self._local and request.metadata is None:
            self._metadata.engine  # noqa: B018 - looked for before the backend locks itself: a server may be slow
        options = JobOptions(audio, out, replaces=replaces, labels=labels or self.labels)
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
                for generation_id in fail_interrupted(self._journal, self.log):
                    _log.warning("Generation %s was interrupted: the process that made it has ended.", generation_id)
            return self._journal

    @property
    def _current(self) -> Backend:
        return next(backend for backend in reversed(self._backends) if backend.running)

    def _backend_of(self, generation_id: str) -> Backend:
        """Return the backend that works at the generation, or else the one that gets new songs."""
        return next((backend for backend in self._backends if backend.owns(generation_id)), self._current)

    def batch(
        self,
        rows: Rows,
        out: Path | str | None,
        *,
        check: bool = False,
        remake: bool = False,
        require: str | None = None,
        stop_after: int = 5,
        encoding: str | None = None,
        say: Callable[[str], None] | None = None,
    ) -> BatchReport:
        """Make the songs of a table in `out`, one after the other. Songs that `out` has already are kept; a song that
        fails stops no other. `out` gets `report.json`, also while the songs are made, and `listen.html` to compare
        variants by ear.

        rows: a .csv, .tsv, .jsonl or .json file, or mappings; columns as `harmonia_lab.batch.COLUMNS`. encoding: of the
        file; None: UTF-8, or what its byte-order mark says. say: gets one line for each stage (default: standard
        error).
        check: make nothing, and report which rows can't be made; out: None takes no song as made.
        remake: make a song again that is damaged, or whose words another engine wrote than "auto" means now; the old
        one is moved to `out`/replaced when the new one is whole. require: the engine of stage 1 without which the batch
        neither begins nor goes on. stop_after: so many songs in a row that fail with one error code; 0: never.

        Raises InvalidRequest for a table that can't be read, MetadataError if the required engine isn't there,
        StorageError if `out` can't be written or another batch is writing to it. An interrupt cancels the song that is
        being made, and is raised again.
        """
        from harmonia_lab.batch.run import BatchOptions, run_batch  # noqa: PLC0415 - loads for batches alone

        options = BatchOptions(check, remake, require, stop_after)
        return run_batch(self, rows, out, options, encoding=encoding, say=say)

    def sweep(
        self,
        narratives: str | Sequence[str],
        *,
        seeds: Iterable[int] = range(5),
        audio: Sequence[str] = ("auto",),
        out: Path | str | None = None,
        check: bool = False,
        remake: bool = False,
        require: str | None = None,
        stop_after: int = 5,
        say: Callable[[str], None] | None = None,
        **fields: Any,
    ) -> BatchReport:
        """Make a batch of every narrative with every seed and audio engine. fields: the other columns, equal for all.

        out: by default a folder in `songs` named after the table's digest, so that a cell that runs again continues.
        The other options are those of `batch`.
        """
        from harmonia_lab.batch.run import BatchOptions, run_sweep  # noqa: PLC0415 - as above

        options = BatchOptions(check, remake, require, stop_after)
        return run_sweep(self, narratives, options, seeds=seeds, audio=audio, out=out, say=say, **fields)

    def study(
        self, design: DesignSource, out: Path | str, *, say: Callable[[str], None] | None = None, page: bool = True
    ) -> StudyReport:
        """Compare configurations: make the same songs with each, in blocks and in a drawn order, and keep all that
        somebody else needs to make them again in `out`. The same call goes on where a study was stopped.

        design: a .toml or .json file or a mapping (fields: `harmonia_lab.study.StudyDesign`), or the folder of a study,
        which is made again. A configuration has the parameters of `Lab` in which it differs from this lab. say: gets a
        line for each song (default: standard error). page: whether to write `study.html` at the end.

        A song that fails stops no other. Raises InvalidRequest for a design that can't be used, with all its faults, or
        that is not the one that `out` has; StorageError if `out` can't be written or another process makes its study.
        An interrupt cancels the song that is being made, and is raised again.
        """
        from harmonia_lab.study import run_study  # noqa: PLC0415 - loads for studies alone

        return run_study(self._like_this, self.log, self._arguments, design, out, say=say, page=page)

    def check_study(self, design: DesignSource) -> str:
        """Return what a study would make, in a few lines, and make nothing. Raises InvalidRequest as `study`."""
        from harmonia_lab.study import check_study  # noqa: PLC0415 - as above

        return check_study(self._like_this, self._arguments, design)

    def _like_this(self, parameters: Mapping[str, Any], log: BenchmarkLog | None) -> Lab:
        """Return a lab of other engines with the same home."""
        return Lab(**parameters, songs=self.songs, home=self.home, limits=self.limits, log=log)

    @property
    def metadata_choices(self) -> tuple[str, ...]:
        """Stage 1 as it was asked for, "auto" or an engine's name; then what else the same songs may be named by: the
        engines that "auto" may mean, or "auto". No engine is looked for."""
        asked = self._arguments["metadata"]
        if not isinstance(asked, str):
            return (asked.name,)
        return ("auto", *engine_names(METADATA_GROUP)) if asked == "auto" else (asked, "auto")

    def engines_for(
        self, request: SongRequest, audio: str | AudioEngine | None = None, *, metadata: str | None = None
    ) -> dict[str, Any]:
        """Return what `request` would be made with, as far as it was chosen: names of engines and models, settings.
        metadata: the engine of stage 1 to name, or "auto"; None: the lab's.

        Raises InvalidRequest for an unknown engine, the engine's error if it isn't available.
        """
        engine = self._audio_engines.get(audio, request.audio_model)
        identity = engine.identity()
        stage_2 = {"engine": engine.name, "model": identity.get("model"), "settings": identity.get("settings")}
        if request.metadata:
            return {"metadata": None, "audio": stage_2}
        asked, writer = self._arguments["metadata"], metadata or self.metadata_engine.name
        own = None if isinstance(asked, str) else asked.model
        stage_1 = {"engine": writer, "model": request.model or self._arguments["model"] or own}
        if settings := song_settings(writer, self._arguments["metadata_settings"]):
            stage_1["settings"] = settings
        return {"metadata": stage_1, "audio": stage_2}

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
        would have to use an engine that is an object; MetadataError if stage 1's engine isn't available; RuntimeError
        once the lab is closed.
        """
        from harmonia_lab.server.server_thread import Server, ServerSettings  # noqa: PLC0415 - socketio loads where it is used

        self._local.check_open()
        self._metadata.engine  # noqa: B018 - clients' songs will need it: an error now is better than one for each
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
            LabSettings.of(arguments),
            settings,
            journal=self.journal,
            run_log=self.log,
            publish=self.events,
            panel=self.panel,
        )
        self._backends.append(backend)
        if not self._local.busy:  # models load in the server's process from now on; a later song here loads them again
            self.unload()
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
        return wait_for(self.submit(narrative, **options), self.panel, progress=progress)

    def verify(self, folder: Path | str, *, rerun: bool = False) -> Verification:
        """Compare a song's files with its record; with `rerun`, make the song again and compare that instead.

        Raises HarmoniaError: NOT_FOUND if the folder holds no song, RECORD_DAMAGED if its record can't be read.
        """
        report = check_folder(Path(folder))
        if not (rerun and report.ok):
            return report
        return make_again(
            report.folder,
            report.notes,
            metadata_engine=lambda: self.metadata_engine,
            audio_engines=self._audio_engines,
            submit=self.submit_request,
        )

    def unload(self) -> None:
        """Free what the engines have loaded. The next song loads it again."""
        self._metadata.close()
        self.audio_engine.close()

    def close(self) -> None:
        """Cancel the songs, stop the server, and close the engines. Idempotent."""
        for backend in self._backends:
            if backend.running:
                backend.close(CANCEL_GRACE_S)
        if self.server is not None:
            self.server.stop()
        if self._journal is not None:
            self._journal.close()
        self._metadata.close()
        self._audio_engines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        try:
            stage_1 = f"{self.metadata_engine.name} [{self.metadata_reason}]"
        except HarmoniaError as error:
            stage_1 = f"none [{error.message}]"
        return f"Lab(metadata={stage_1}, audio={self.audio_engine.name}, songs={self.songs})"
