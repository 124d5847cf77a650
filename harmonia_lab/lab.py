"""`Lab`: the one place where concrete parts meet.

Owns the choice of engines, the wiring of events and log, and the lifetime of what was started. Every step of making a
song is somebody else's: `pipeline/` orders them, `engines/` do them.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harmonia_lab.analysis.frames import BenchmarkLog
from harmonia_lab.engines.base import AudioEngine, MetadataEngine
from harmonia_lab.errors import InvalidRequest, MetadataError
from harmonia_lab.pipeline.artifacts import SongFolder, read_record
from harmonia_lab.pipeline.jobs import JobHandle, Worker
from harmonia_lab.pipeline.song import Generation, Limits
from harmonia_lab.pipeline.stages import DrawOverview
from harmonia_lab.pipeline.verify import Verification, check_folder, compare_records
from harmonia_lab.protocol.events import Event
from harmonia_lab.protocol.models import Instrument, Song, SongMetadata, SongRequest, parse_request
from harmonia_lab.sinks.fanout import Fanout
from harmonia_lab.storage import home_folder

__all__ = ["CANCEL_GRACE_S", "Lab"]

_log = logging.getLogger(__name__)

PROBE_S = 0.5
"""How long "auto" waits for an Ollama to answer."""

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
        or an engine of your own. model: the language model's name. audio: "auto" (MusicGen
        where audio_model or audio_settings is given, else the sketch), "sketch", "musicgen", or an engine of your own.
        audio_model: a MusicGen model's name or folder. audio_settings: MusicGen's, by the names in
        `engines.musicgen_settings.Settings` (arrangement, decoder, top_k, …).
        songs: the folder that songs go to. home: where the run log lives (default: HARMONIA_HOME, or the per-user state
        folder).

        Raises InvalidRequest for an unknown engine name, MetadataError where the engine asked for can't be had.
        """
        self.songs = Path(songs)
        self.log = BenchmarkLog((Path(home) if home is not None else home_folder()) / "runs.jsonl")
        self.limits = limits or Limits()
        self.events = Fanout()
        """`lab.events.subscribe(callback)` hands every event of every generation to `callback`."""
        self._worker = Worker()
        self._audio_engines: dict[str, AudioEngine] = {}
        self.metadata_engine, self.metadata_reason = _choose_metadata(metadata, model)
        self._audio_model, self._audio_settings = audio_model, dict(audio_settings or {})
        self.audio_engine = self._audio(audio, audio_model, self._audio_settings)
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

        seconds: 1…600. seed: 0…2³²−1; drawn where None. metadata: skips stage 1. audio: another engine for this song.
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
            instruments=list(instruments) if instruments is not None else None,
            metadata=metadata,
            generation_id=generation_id,
        )
        return self.submit_request(request, audio=audio, out=out)

    def submit_request(
        self, request: SongRequest, *, audio: str | AudioEngine | None = None, out: Path | str | None = None
    ) -> JobHandle:
        """`submit`, with the request as one value."""
        handle: JobHandle | None = None

        def emit(event: Event) -> None:
            assert handle is not None
            handle.observe(event)
            self.events(event)

        generation = Generation(
            request,
            metadata_engine=self.metadata_engine,
            audio_engine=self.audio_engine if audio is None else self._audio(audio),
            folder=lambda generation_id: SongFolder(self.songs, generation_id, Path(out) if out is not None else None),
            draw=_draw_overview(),
            emit=emit,
            log_row=self.log.append,
            history=self.log.rows(),
            limits=self.limits,
        )
        handle = JobHandle(generation)
        self._worker.submit(handle)
        return handle

    def compose(self, narrative: str = "", *, progress: bool = True, **options: Any) -> Song:
        """Makes a song and waits for it, with a progress bar. `options` are those of `submit`.

        An interrupt cancels the song and is raised again. Raises the HarmoniaError that ended it.
        """
        return self._wait(self.submit(narrative, **options), progress=progress)

    def compose_request(self, request: SongRequest, *, out: Path | str | None = None, progress: bool = True) -> Song:
        """`compose`, with the request as one value."""
        return self._wait(self.submit_request(request, out=out), progress=progress)

    def _wait(self, job: JobHandle, *, progress: bool) -> Song:
        try:
            if progress:
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
        self._worker.close(CANCEL_GRACE_S)
        self.metadata_engine.close()
        for engine in self._audio_engines.values():
            engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        stage_1 = f"{self.metadata_engine.name} [{self.metadata_reason}]"
        return f"Lab(metadata={stage_1}, audio={self.audio_engine.name}, songs={self.songs})"

    def _audio(
        self, choice: str | AudioEngine, model: str | None = None, settings: Mapping[str, Any] | None = None
    ) -> AudioEngine:
        if not isinstance(choice, str):
            self._audio_engines.setdefault(choice.name, choice)
            return choice
        name = choice
        if choice == "auto":
            name = "musicgen" if model is not None or settings else "sketch"
        if name not in AUDIO_ENGINES and name not in self._audio_engines:
            raise InvalidRequest(
                f"There is no audio engine {choice!r}.",
                hint=f"Known: auto, {', '.join(AUDIO_ENGINES)}.",
                details={"fields": ["audio"]},
            )
        if name == "sketch" and (model is not None or settings):
            raise InvalidRequest(
                "The sketch engine has no models and no settings.",
                hint="Choose audio=musicgen for them.",
                details={"fields": ["audio", "audio_model" if model is not None else "audio_settings"]},
            )
        if name not in self._audio_engines:
            self._audio_engines[name] = self._make_audio(name)
        return self._audio_engines[name]

    def _make_audio(self, name: str) -> AudioEngine:
        if name == "sketch":
            from harmonia_lab.engines.sketch import SketchEngine  # noqa: PLC0415 - numpy loads with the first engine

            return SketchEngine()
        from harmonia_lab.engines.musicgen import MusicGenEngine  # noqa: PLC0415 - as above
        from harmonia_lab.engines.musicgen_settings import Settings  # noqa: PLC0415

        return MusicGenEngine(self._audio_model or "small", Settings.of(self._audio_settings))

    def _rerun(self, folder: Path, notes: list[str]) -> Verification:
        """Makes the recorded song again in a folder of its own, and compares the records."""
        record = read_record(folder)
        request = SongRequest.model_validate(record["request"] | {"generationId": None})
        recorded = record["engines"]["metadata"]["engine"]
        if recorded != self.metadata_engine.name or recorded not in REPEATABLE_ENGINES:
            metadata = SongMetadata.model_validate_json((folder / "metadata.json").read_bytes())
            request = request.model_copy(update={"metadata": metadata})
            if recorded != "given":
                notes.append(f"Stage 1 ran on {recorded}, which can't be repeated to the byte; its metadata was taken.")
        with tempfile.TemporaryDirectory(prefix="harmonia-verify-") as scratch:
            again = Path(scratch) / "song"
            engine = _audio_again(record["engines"]["audio"])
            try:
                self.submit_request(request, audio=engine, out=again).result()
            finally:
                if not isinstance(engine, str) and self._audio_engines.get(engine.name) is engine:
                    del self._audio_engines[engine.name]  # set as the record says: not what this lab's users asked for
                    engine.close()
            return compare_records(record, read_record(again), folder)


REPEATABLE_ENGINES = ("embedded",)
"""Metadata engines that write the same bytes again on the same machine. A remote Ollama batches, updates and rounds as
it likes."""


AUDIO_ENGINES = ("sketch", "musicgen")
"""Those that a name stands for."""


def _audio_again(recorded: Mapping[str, Any]) -> str | AudioEngine:
    """The audio engine that a record names, set as it was."""
    if recorded["engine"] != "musicgen":
        return str(recorded["engine"])
    from harmonia_lab.engines.musicgen import MusicGenEngine  # noqa: PLC0415
    from harmonia_lab.engines.musicgen_settings import Settings  # noqa: PLC0415

    return MusicGenEngine(recorded["model"], Settings.of(recorded["settings"]))


def _draw_overview() -> DrawOverview:
    """The drawing library loads when the picture is drawn, not before."""

    def draw(path: Path, **picture: Any) -> None:
        from harmonia_lab.analysis.plots import overview  # noqa: PLC0415

        overview(path, **picture)

    return draw


def _choose_metadata(choice: str | MetadataEngine, model: str | None) -> tuple[MetadataEngine, str]:
    """The engine for stage 1, and why it is that one.

    Raises InvalidRequest for an unknown name, MetadataError where the embedded model is needed and not installed.
    """
    if not isinstance(choice, str):
        return choice, "given"
    # The clients take a third of a second to load: not before an engine is wanted.
    from harmonia_lab.engines.embedded import EmbeddedServer  # noqa: PLC0415
    from harmonia_lab.engines.ollama import OllamaEngine, installed_models, server_address  # noqa: PLC0415

    address = server_address()
    if choice == "ollama":
        return OllamaEngine(model), f"asked for, at {address}"
    if choice == "embedded":
        return OllamaEngine(endpoint=EmbeddedServer()), "asked for"
    if choice != "auto":
        raise InvalidRequest(
            f"There is no metadata engine {choice!r}.",
            hint="Known: auto, ollama, embedded.",
            details={"fields": ["metadata"]},
        )
    try:
        models = installed_models(address, PROBE_S)
    except MetadataError:
        return OllamaEngine(endpoint=EmbeddedServer()), f"no Ollama answers at {address}"
    if not models and model is None:
        return OllamaEngine(endpoint=EmbeddedServer()), f"Ollama at {address} has no model"
    return OllamaEngine(model), f"Ollama answers at {address}"
