"""`LabCore`: the part of a lab that makes songs, and the one place where concrete parts meet.

Owns the lifetime of the engines, the backends and the journal. `engine_registry.py` finds an engine by its name; a
backend (`backends/`) makes the songs. `lab.py` builds tables, studies, servers and views on this.
"""

from __future__ import annotations

import functools
import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, WeakValueDictionary

from harmonia_lab.analysis.frames import BenchmarkLog
from harmonia_lab.backends.base import LOCAL_USER, Backend, JobOptions
from harmonia_lab.backends.local import LocalBackend
from harmonia_lab.backends.metadata_choice import MetadataChoice
from harmonia_lab.backends.remote_address import remote_address
from harmonia_lab.engine_registry import AudioEngines, language_models
from harmonia_lab.engines.base import AudioEngine, MetadataEngine
from harmonia_lab.errors import InvalidRequest
from harmonia_lab.events.fanout import Fanout
from harmonia_lab.generation.caretaker import Caretaker
from harmonia_lab.generation.generation import TimeLimits
from harmonia_lab.generation.handle import JobHandle, QueueLimits
from harmonia_lab.generation.interrupted import PROCESS_ENDS, end_interrupted
from harmonia_lab.generation.retention import Retention
from harmonia_lab.lab_engines import LabEngines
from harmonia_lab.parameters import as_names, as_value
from harmonia_lab.process_bound import ProcessBound
from harmonia_lab.protocol.events import FamilyEvent
from harmonia_lab.protocol.models import (
    Instrument,
    SongMetadata,
    SongRequest,
    check_contradictions,
    parse_request,
)
from harmonia_lab.storage import absolute, home_folder
from harmonia_lab.store.journal import Journal
from harmonia_lab.store.journal_core import JournalCore
from harmonia_lab.store.metrics import Metrics
from harmonia_lab.store.run_log import A_SONG, RunLabels
from harmonia_lab.store.sounds import Sounds
from harmonia_lab.widgets.kernel_end import when_kernel_ends

if TYPE_CHECKING:
    from harmonia_lab.backends.cluster.cluster import Cluster
    from harmonia_lab.backends.remote import RemoteBackend
    from harmonia_lab.backends.remote_address import RemoteAddress
    from harmonia_lab.backends.shared import SharedBackend
    from harmonia_lab.listening.home import ListeningHome
    from harmonia_lab.songs_handle import SongsHandle
    from harmonia_lab.store.shared.redis_journal import RedisJournal
    from harmonia_lab.widgets.panel import Panel

__all__ = ["LabCore"]

_log = logging.getLogger(__name__)


class LabCore(LabEngines, ProcessBound):
    """The songs of a `Lab`: `submit`, `cancel`, `retry`."""

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
        retention: Retention | None = None,
        server: str | None = None,
        token: str | Callable[[], str] | None = None,
        ca: Path | str | None = None,
        redis: str | None = None,
        cluster: Any = None,
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
        run log than the one there. retention: what is kept of songs and of the journal (default: all songs).
        server: a Harmonia Lab server that makes the songs with its own engines, such as "https://gpu.example:3333";
        they come home into `songs`, log and journal stay here. None: HARMONIA_SERVER, if that is set and the lab has no
        settings or objects; "": this machine. token: of the server's user, or a function that returns one (default:
        HARMONIA_TOKEN). ca: a PEM file of certificates to trust instead of the system's (default: HARMONIA_CA).
        redis: the address of a Redis that has the journal of several servers, in place of the home's, such as
        "rediss://:PASSWORD@redis.example:6379/0".
        cluster: a Dask cluster whose workers make the songs, several at once: "local" or "local:4" for processes of
        this machine, a scheduler's address, a `dask.distributed.Client`, or a Cluster object.

        Raises InvalidRequest for an unknown engine name or setting, or one that the server doesn't offer; Disconnected
        if server or scheduler can't be reached, Refused if it doesn't take the token. Stage 1's engine is looked for
        when a song first needs it.
        """
        super().__init__()
        self.songs = Path(songs)
        self.home = Path(home) if home is not None else home_folder()
        self.log = log or BenchmarkLog(self.home / "runs.jsonl")
        self.limits = limits or TimeLimits()
        self.labels = labels
        self.retention = retention or Retention()
        self.events = Fanout()
        """`lab.events.subscribe(callback)` calls `callback` with every event of every generation."""
        self.metrics = Metrics()
        self.events.subscribe(self.metrics)
        self.sounds = Sounds(self.home / "sounds")
        self._lock = threading.RLock()
        self._journal: JournalCore | None = None
        self._caretaker: Caretaker | None = None
        self._panels: WeakValueDictionary[str, Panel] = WeakValueDictionary()
        self._batches: WeakSet[SongsHandle[Any]] = WeakSet()
        self._journal_lock = threading.Lock()  # not `_lock`: `serve` holds that while the server's thread opens it
        self._arguments: dict[str, Any] = {
            "metadata": metadata,
            "model": model,
            "metadata_settings": dict(metadata_settings or {}),
            "audio": audio,
            "audio_model": audio_model,
            "audio_settings": dict(audio_settings or {}),
        }
        self._local: LocalBackend | RemoteBackend
        self._elsewhere: RemoteBackend | None = None
        self.cluster: Cluster | None = None
        """The cluster that makes the songs, if one does: `print(lab.cluster)` says what its workers have."""
        if cluster is not None and server:
            raise InvalidRequest(
                "A lab's songs are made by a server or by a cluster.",
                hint="Leave out server= or cluster=.",
                details={"fields": ["server", "cluster"]},
            )
        chosen = "" if server is None and (redis or cluster is not None) else server
        self._address = remote_address(chosen, token, ca, self._arguments)
        self._redis = redis
        if redis is not None:
            from harmonia_lab.backends.shared import check_shared  # noqa: PLC0415 - Redis loads where it is used

            check_shared(redis, self._address)
        self._shared: RedisJournal | None = None
        self._others: SharedBackend | None = None
        """The songs of other servers that share the journal."""
        if self._address is None:
            self._local = self._make_local(cluster)
        else:
            self._local = self._elsewhere = self._remote(self._address)
            self._metadata, self._audio_engines = self._elsewhere.metadata, self._elsewhere.audio_engines
        self._backends: list[Backend] = [self._local]
        """The last one that runs gets new songs; the first one always runs."""
        when_kernel_ends(self._kernel_ends)
        _log.info("Stage 2: %s.", self.audio_engine.name)
        if self._elsewhere is not None:
            self._elsewhere.resume()

    @property
    def shared(self) -> RedisJournal | None:
        """The journal, where several servers share it by Redis. Raises StorageError if Redis doesn't answer."""
        if self._redis is None:
            return None
        self.journal  # noqa: B018 - opened with the first look
        return self._shared

    def _open_journal(self) -> JournalCore:
        if self._redis is None:
            return Journal(self.home / "journal.sqlite3")
        from harmonia_lab.backends.shared import open_shared  # noqa: PLC0415 - as above

        assert isinstance(self._local, LocalBackend)
        self._shared, self._others = open_shared(self._redis, self.home, self._local, self.panel)
        self._backends.append(self._others)
        return self._shared

    def _make_local(self, cluster: Any) -> LocalBackend:
        arguments = self._arguments
        common: dict[str, Any] = {
            "journal": lambda: self.journal,
            "publish": self.events,
            "run_log": self.log,
            "songs": self.songs,
            "limits": self.limits,
            "panel": self.panel,
            "on_row": self.metrics.attempt,
        }
        self._audio_engines = AudioEngines(arguments["audio"], arguments["audio_model"], arguments["audio_settings"])
        common["audio_engines"] = self._audio_engines
        if cluster is None:
            choice = MetadataChoice(arguments["metadata"], arguments["model"], arguments["metadata_settings"])
            self._metadata = choice
            return LocalBackend(metadata=choice, **common)
        from harmonia_lab.backends.cluster import backend  # noqa: PLC0415 - Dask loads where it is used
        from harmonia_lab.backends.cluster.cluster import Cluster  # noqa: PLC0415 - as above

        engines = backend.plain_engines(arguments)
        self.cluster = Cluster(cluster)
        self._metadata = backend.ClusterMetadata(self.cluster, engines, self.limits.no_worker_s)
        return backend.DaskBackend(self.cluster, engines, metadata=self._metadata, **common)

    def _remote(self, address: RemoteAddress) -> RemoteBackend:
        from harmonia_lab.backends.remote import RemoteBackend  # noqa: PLC0415 - its client loads where it is used

        return RemoteBackend(
            address,
            self._arguments,
            journal=lambda: self.journal,
            publish=self.events,
            run_log=self.log,
            songs=self.songs,
            home=self.home,
            panel=self.panel,
            on_row=self.metrics.attempt,
        )

    @functools.cached_property
    def listening(self) -> ListeningHome:
        """The listening tests that this home's servers serve."""
        from harmonia_lab.listening.home import ListeningHome  # noqa: PLC0415 - few labs serve one

        return ListeningHome(self.home / "listening")

    @property
    def songs_at_once(self) -> int:
        """How many of its songs are made at once: on a cluster, as many as that has places for, else one."""
        return self._local.width if isinstance(self._local, LocalBackend) else 1

    @property
    def closed(self) -> bool:
        """Whether the lab was closed."""
        return self._local.closed

    def submit(
        self,
        narrative: str = "",
        *,
        seconds: float | None = None,
        seed: int | None = None,
        bpm: int | None = None,
        key: str | None = None,
        genre: str | None = None,
        instruments: str | Sequence[str | Instrument] | None = None,
        language: str | None = None,
        wishes: bool = True,
        metadata: SongMetadata | None = None,
        audio: str | AudioEngine | None = None,
        audio_options: Mapping[str, Any] | None = None,
        out: Path | str | None = None,
        generation_id: str | None = None,
    ) -> JobHandle:
        """Start a song in the background, and return at once.

        seconds: 1…600; None: as the narrative wishes, else 20. seed: 0…2³²−1; None draws one. language: the lyrics',
        such as "de" or "German"; None: the narrative's. instruments: names, or one text, "piano, cello". wishes:
        whether wishes in the narrative ("a slow waltz, no drums") are followed; bpm, key and the other options beat
        them. metadata: replaces stage 1, and bpm, key, genre and instruments with it. audio: another engine for this
        song. audio_options: the engine's settings for this song alone, over those of the lab: for MusicGen prompt,
        negative_prompt, melody, continue_from, cfg_coef, temperature, top_k, top_p, two_step_cfg.
        out: this song's own folder (default: `<songs>/<title>-<id>`). generation_id: your own id for the generation.

        Raises InvalidRequest, or MetadataError if stage 1's engine isn't available, before anything starts.
        """
        request = parse_request(
            narrative=narrative,
            **({} if seconds is None else {"seconds": as_value(seconds)}),
            seed=as_value(seed),
            bpm=as_value(bpm),
            key=key,
            genre=genre,
            instruments=None if instruments is None else as_names(instruments),
            language=language,
            wishes=wishes,
            metadata=metadata,
            audio_options=audio_options,
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

        Raises InvalidRequest if the generation's id is taken, for an option that an isolated server can't take, or for
        audio options that the engine doesn't take; MetadataError if stage 1's engine isn't available; Refused
        (QUEUE_FULL) beyond `limits`.
        """
        self.check_process()
        request = self.with_checked_options(request, audio)  # before stage 1's engine is looked for
        backend = self._local if here else self._current
        if backend is self._local and request.metadata is None:
            self._metadata.engine  # noqa: B018 - looked for before the backend locks itself: a server may be slow
        options = JobOptions(audio, out, user, limits, labels or self.labels, replaces)
        if "seconds" not in request.model_fields_set:
            from harmonia_lab.metadata_engines.wishes import with_wished_length  # noqa: PLC0415 - 20 ms

            request = with_wished_length(request)
        return backend.submit(request, options)

    def cancel(self, generation_id: str) -> None:
        """Ask a song to stop. Do nothing if that was asked before.

        Raises Refused (CANCEL_FAILED) if it has ended otherwise, or is not this lab's.
        """
        self.check_process()
        self._backend_of(generation_id).cancel(generation_id)

    def retry(
        self,
        generation_id: str,
        *,
        audio: str | AudioEngine | None = None,
        limits: QueueLimits | None = None,
        here: bool = False,
        lift_quarantine: bool = False,
    ) -> JobHandle:
        """Try a failed generation again, under the same id and in its own folder, also that of a process that exited.
        What stage 1 wrote and finished stems are kept.

        audio: another engine; needed where the song had an engine of its own that this process can't make again. here:
        as `submit_request` takes it. lift_quarantine: try it although the process that made it died twice.
        Raises Refused: NOT_FOUND, NOT_RECOVERABLE, QUARANTINED, or QUEUE_FULL beyond `limits`.
        """
        self.check_process()
        if lift_quarantine:
            self.journal.submissions.forgive(generation_id)
        backend = self._local if here else self._backend_of(generation_id)
        return backend.retry(generation_id, JobOptions(audio, limits=limits))

    @property
    def journal(self) -> JournalCore:
        """The journal in `home`. While it is open, from the first song on, songs that exited processes left are ended.

        Raises StorageError if `home` can't be written.
        """
        self.check_process()
        with self._journal_lock:
            if self._journal is None:
                self._journal = self._open_journal()
                for generation_id in end_interrupted(self._journal, self.log):
                    _log.warning("Generation %s was interrupted: the process that made it has ended.", generation_id)
                songs = absolute(self.songs)
                self._caretaker = Caretaker(
                    self._journal,
                    self.log,
                    songs,
                    self.retention,
                    self._publish_end,
                    self.sounds,
                    is_needed=lambda: self._current is self._local,  # else the isolated server looks after the home
                )
            return self._journal

    def _publish_end(self, event: FamilyEvent) -> None:
        """Pass on an event of a song whose process has exited, unless it is a backend's, which does so itself."""
        if not any(backend.owns(event.generation_id) for backend in self._backends):
            self.events(event)

    @property
    def _current(self) -> Backend:
        return next(backend for backend in reversed(self._backends) if backend.running)

    def _backend_of(self, generation_id: str) -> Backend:
        """Return the backend that works at the generation, or else the one that gets new songs."""
        return next((backend for backend in self._backends if backend.owns(generation_id)), self._current)

    def language_models(self, timeout_s: float) -> Sequence[str]:
        """Return the names of the models of stage 1's server. Raises MetadataError if it doesn't answer in time."""
        if self._address is not None:
            return (self.metadata_engine.model,)
        return language_models(self.metadata_engine.name, self._arguments["metadata_settings"], timeout_s)

    def panel(self, generation_id: str) -> Panel:
        """Return a live view of a generation."""
        raise NotImplementedError

    def _kernel_ends(self) -> None:
        """Say which songs the end of this process interrupts, and have them end so."""
        PROCESS_ENDS.set()
        local = self._local
        # A server's songs go on without this process.
        unfinished = ", ".join(local.unfinished) if isinstance(local, LocalBackend) else ""
        if unfinished and sys.__stderr__ is not None:  # the kernel's own stream reaches no cell any more
            told = (
                f"The kernel ends, and interrupts what it was making: {unfinished}. `lab.retry(id)` goes on from there."
            )
            print(told, file=sys.__stderr__, flush=True)

    def unload(self) -> None:
        """Free what the engines have loaded. The next song loads it again."""
        self.check_process()
        self._metadata.close()
        self.audio_engine.close()

    def close(self) -> None:
        """Cancel the songs, and close the engines. Idempotent. In a fork of the process, do nothing."""
        if self.in_fork:
            return
        if self._caretaker is not None:
            self._caretaker.stop()
        if self._others is not None:
            self._others.close(0.0)
        if self._journal is not None:
            self._journal.close()
        self._metadata.close()
        self._audio_engines.close()
