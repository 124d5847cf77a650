"""One generation: narrative → metadata → audio → song on disk, or exactly one other end.

Owns the decision how it ends (made once), retries, and the content of a run log row. The stages do the work
(`metadata_stage.py`, `audio_stage.py`); `events/event_log.py` numbers and journals the events.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from harmonia_lab._version import __version__
from harmonia_lab.engines.base import AudioEngine, CancelToken, MetadataEngine, MetadataResult, engine_for_song
from harmonia_lab.engines.probes import git_commit, gpu_facts, host
from harmonia_lab.errors import AudioError, Cancelled, ErrorCode, HarmoniaError, MetadataError, StorageError
from harmonia_lab.generation.artifacts import SongFolder, load_song
from harmonia_lab.generation.attempt import Attempt, release_frames, time_limit
from harmonia_lab.generation.audio_stage import DrawOverview, run_audio
from harmonia_lab.generation.engine_columns import audio_columns
from harmonia_lab.generation.interrupted import PROCESS_ENDS, interrupted_error
from harmonia_lab.generation.metadata_stage import run_metadata
from harmonia_lab.generation.progress import OverallProgress, expected_durations
from harmonia_lab.generation.record import run_record
from harmonia_lab.generation.recovery_plans import Recovery, RecoveryLimits, lack_of_memory, recovery_event
from harmonia_lab.generation.written_metadata import keep_written_metadata
from harmonia_lab.music.seeds import narrative_digest
from harmonia_lab.protocol.events import (
    AudioGenerationComplete,
    ErrorInfo,
    Event,
    GenerationCancelled,
    GenerationError,
    GenerationTimeout,
    MetadataGenerationStarted,
    StageName,
)
from harmonia_lab.protocol.models import JobStatus, Song, SongRequest
from harmonia_lab.store.run_log import A_SONG, RunLabels, options_text

__all__ = ["Generation", "TimeLimits"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TimeLimits:
    """Seconds that one try at a stage may take before it is stopped with reason "timeout". unheard_s: from a stage's
    limit, or a cancel, until a stage that goes on is given up; and how long an isolated server may be silent until it
    is started again. no_worker_s: how long a song waits for a cluster that has no place for it. recovery: what tries
    again may cost."""

    metadata_s: float = 600.0
    audio_s: float = 3600.0
    unheard_s: float = 90.0
    no_worker_s: float = 30.0
    recovery: RecoveryLimits = field(default_factory=RecoveryLimits)


class Generation:
    """Runs once, in one worker thread. `cancel` and `abandon` may be called from any other."""

    def __init__(
        self,
        request: SongRequest,
        *,
        metadata_engine: MetadataEngine,
        audio_engine: AudioEngine,
        folder: SongFolder,
        draw: DrawOverview,
        emit: Callable[[Event], None],
        log_row: Callable[[dict[str, Any]], None],
        history: Sequence[dict[str, Any]] = (),
        limits: TimeLimits | None = None,
        user_id: str = "local",
        labels: RunLabels = A_SONG,
        first_attempt: int = 1,
        keep_row: Callable[[dict[str, Any]], None] = lambda _: None,
        written: MetadataResult | None = None,
    ) -> None:
        """request: must have a generation id and a seed, and audio options that `audio_engine` takes. emit: called with
        each event, in order, in the thread that calls `run` (or `abandon`). log_row: writes a row to the run log.
        history: rows of the run log, to estimate times from. labels: for each row; a song that an engine of
        `harmonia_lab.testing` makes is a test. first_attempt: its number, if there were others. keep_row: gets the row
        of an attempt when it begins, as far as it is known, for the log of whoever finds it interrupted. written: what
        stage 1 wrote in an earlier attempt, by `metadata_engine`."""
        assert request.generation_id is not None
        assert request.seed is not None
        self.request = request
        self.id, self.seed = request.generation_id, request.seed
        self.song_id = f"song-{self.id}"
        self.outcome: Song | HarmoniaError | None = None
        """The song or the error, set before the event that ends the generation is emitted."""
        self.cancel_token = CancelToken()
        self._metadata_engine = metadata_engine
        self._lent_audio_engine = audio_engine
        self._audio_engine = engine_for_song(audio_engine, request.audio_options)
        self._folder = folder
        self._draw = draw
        self._log_row, self._keep_row = log_row, keep_row
        self._limits = limits or TimeLimits()
        self._recovery = Recovery(self._limits.recovery, self.cancel_token)
        self._user_id = user_id
        for_tests = any(hasattr(engine, "for_tests") for engine in (metadata_engine, audio_engine))
        self._labels = replace(labels, purpose="test") if labels.purpose == "song" and for_tests else labels
        self._emit = emit
        self._lock = threading.Lock()
        self._status: JobStatus = "pending"
        self._stage: StageName = "metadata" if request.metadata is None and written is None else "audio"
        self._first_attempt = self._attempt_number = first_attempt
        self._written = written
        self._overall = OverallProgress(
            expected_durations(
                history,
                metadata_model=None if request.metadata or written else metadata_engine.model,
                audio_engine=audio_engine.name,
                audio_model=audio_engine.identity().get("model"),
                seconds=request.seconds,
            )
        )
        self._attempt = self._new_attempt()

    @property
    def status(self) -> JobStatus:
        return self._status

    @property
    def stage(self) -> StageName:
        return self._stage

    @property
    def engine_at_work(self) -> object:
        """The engine of the stage that the generation is in, or was in when it was given up."""
        return self._metadata_engine if self._stage == "metadata" else self._audio_engine

    @property
    def lent_engine(self) -> object:
        """The same, as it was lent to this generation and is to others: without this song's options."""
        return self._metadata_engine if self._stage == "metadata" else self._lent_audio_engine

    def replace_engine(self, old: object, new: Any) -> None:
        """Use another engine, if the generation still waits for its turn."""
        with self._lock:
            if self._status != "pending":
                return
            self._metadata_engine = new if self._metadata_engine is old else self._metadata_engine
            if self._lent_audio_engine is old:
                self._lent_audio_engine = new
                self._audio_engine = engine_for_song(new, self.request.audio_options)

    @property
    def expected_s(self) -> float:
        """Seconds that the generation is expected to take, as learnt from earlier ones."""
        return self._overall.expected_s

    @property
    def row(self) -> dict[str, Any]:
        """The run log's row of the present attempt, as far as it is known."""
        return dict(self._attempt.row)

    def cancel(self) -> bool:
        """Ask the worker to stop. Return False if the generation has ended or is being cancelled already."""
        return self._status in ("pending", "processing") and self.cancel_token.cancel("user_cancelled")

    def run(self) -> Song:
        """Block until the end; return the song. Raises Cancelled, or the HarmoniaError that ended the generation."""
        with self._lock:
            if self._status == "pending":
                self._status = "processing"
        self._attempt.start()
        self._keep_row(self.row)
        self._overall.start()
        try:
            self.cancel_token.raise_if_cancelled()
            self._begin()
            while True:
                try:
                    return self._try_once()
                except (HarmoniaError, MemoryError) as error:
                    self._recover(error)
        except Cancelled as stop:
            release_frames(stop)
            self._end_cancelled()
            raise self._cancel_error() from None
        except HarmoniaError as error:
            self._end_failed(error)
            raise
        except Exception as error:
            _log.debug("A defect ended generation %s in stage %s.", self.id, self._stage, exc_info=True)
            wrapped = HarmoniaError(
                f"A defect in Harmonia Lab ended the generation: {type(error).__name__}: {error}",
                code=ErrorCode.INTERNAL,
                hint="Please report it, with what `HARMONIA_DEBUG=1 harmonia song …` prints.",
            )
            release_frames(error)
            self._end_failed(wrapped)
            raise wrapped from error
        finally:
            if self._status == "cancelled":
                self._folder.discard()  # again, because `abandon` may have run while a stage wrote a file

    def abandon(self) -> bool:
        """End the generation as cancelled without waiting for the worker, which may be in a call that can't be stopped.

        For a worker that is given up, and the moment before the process exits. Return False if another end was decided
        already, such as a song.
        """
        self.cancel_token.cancel("user_cancelled")
        return self._end_cancelled()

    def _begin(self) -> None:
        self._folder.create()
        if self.request.metadata is None and self._written is None:
            self._audio_engine.prepare()  # it loads beside stage 1; with given metadata, `render` loads it at once
            self._emit(
                MetadataGenerationStarted(
                    generation_id=self.id,
                    user_id=self._user_id,
                    narrative=self.request.narrative,
                    model=self._model,
                )
            )

    def _try_once(self) -> Song:
        if self.request.metadata is not None:
            metadata, written = self.request.metadata, None
        else:
            if self._written is None:
                self._stage = "metadata"
                with time_limit(self.cancel_token, self._limits.metadata_s):
                    self._written = run_metadata(self._attempt, self._metadata_engine)
                keep_written_metadata(self._folder.finished, self._metadata_engine.name, self._model, self._written)
                if self._audio_engine.uses_gpu:
                    self._metadata_engine.release()
            metadata, written = self._written.metadata, self._written
        self._stage = "audio"
        self._folder.write_json("metadata.json", metadata.model_dump(mode="json", by_alias=True))
        if written is not None:
            lines = [json.dumps(entry, ensure_ascii=False) + "\n" for entry in written.transcript]
            self._folder.write_text("transcript.jsonl", "".join(lines))
        with time_limit(self.cancel_token, self._limits.audio_s):
            audio = run_audio(self._attempt, self._audio_engine, metadata, self._folder, self._draw)
        self._attempt.record_duration("total_s", self._attempt.elapsed_s)
        engines = {
            "metadata": {"engine": self._metadata_name(), **(written.record if written else {})},
            "audio": {"engine": self._audio_engine.name, **self._audio_engine.record()},
        }
        self._folder.write_json("run.json", run_record(self._attempt, engines, metadata, audio, self._folder))
        return self._complete(metadata.title, audio.seconds)

    def _recover(self, error: HarmoniaError | MemoryError) -> None:
        """Return when the stage is to be tried again; raise `error` if it is final, Cancelled on a cancel meanwhile."""
        if isinstance(error, MemoryError):
            if self._stage != "audio":
                raise error
            release_frames(error)
            error = lack_of_memory()
        self._attempt.end()
        retry = None
        if not isinstance(error, Cancelled) and not PROCESS_ENDS.is_set():
            retry = self._recovery.after(error, self._stage, self.engine_at_work)
        if retry is None:
            raise error
        _log.info("%s %s", error.message, retry.action)
        release_frames(error)
        self._emit(recovery_event(self.id, error, self._stage, retry))
        self._attempt.say_wait(self._stage, retry)
        if not self._recovery.wait(retry, error):
            raise error
        self._write_row("failed", error_code=error.code)
        self._attempt_number += 1
        self._attempt = self._new_attempt()
        self._attempt.follows(retry)
        self._keep_row(self.row)

    def _complete(self, title: str, seconds: float) -> Song:
        with self._lock:
            self.cancel_token.raise_if_cancelled()  # under the lock: a cancel that comes later finds a finished song
            if self._status != "processing":
                raise Cancelled
            song = load_song(self._folder.publish(title), duration=seconds)  # if it raises, the generation fails
            self._status = "completed"
        self._stage = "unknown"
        self._attempt.row |= {"directory": song.directory, "checksum": song.checksum}
        self._write_row("completed")
        self.outcome = song
        self._emit(AudioGenerationComplete.of(song))
        return song

    def _end_cancelled(self) -> bool:
        if not self._decide("cancelled"):
            return False
        self._folder.discard()
        reason = "timeout" if self.cancel_token.reason == "timeout" else "user_cancelled"
        self._write_row("cancelled", cancel_reason=reason)
        if reason == "timeout":
            self._emit(GenerationTimeout(generation_id=self.id, stage=self._stage, timeout_after=self._limit()))
        self.outcome = self._cancel_error()
        self._emit(GenerationCancelled(generation_id=self.id, reason=reason))
        return True

    def _end_failed(self, error: HarmoniaError) -> None:
        if not self._decide("failed"):
            if self._status == "cancelled":  # abandoned: its folder was deleted while it ran
                raise Cancelled from None
            return
        if PROCESS_ENDS.is_set():
            error = interrupted_error()
        if self._recovery.tried:
            error.details["tried"] = list(self._recovery.tried)
        kept = self._folder.keep(metadata_given=self.request.metadata is not None)
        if kept is not None:
            error.details["kept"] = str(kept)
            stop = "." if error.hint and error.hint[-1] not in ".!?" else ""
            error.hint = f"{error.hint}{stop} What was finished is kept in {kept}.".strip()
        self._write_row("failed", error_code=error.code)
        release_frames(error)
        self.outcome = error
        self._emit(self._error_event(error, final=True))

    def _decide(self, status: JobStatus) -> bool:
        """Compare and set: return True to the one caller that decides how the generation ends."""
        with self._lock:
            if self._status not in ("pending", "processing"):
                return False
            self._status = status
            return True

    def _limit(self) -> float:
        return self._limits.metadata_s if self._stage == "metadata" else self._limits.audio_s

    def _cancel_error(self) -> HarmoniaError:
        if self.cancel_token.reason != "timeout":
            return Cancelled()
        message = f"Stage {self._stage} took longer than its limit of {self._limit():g} s."
        if self._stage == "metadata":
            return MetadataError(
                message, code=ErrorCode.OLLAMA_TIMEOUT, hint="Raise the limit, or use a smaller model."
            )
        return AudioError(message, code=ErrorCode.AUDIO_TIMEOUT, hint="Raise the limit, or ask for a shorter song.")

    def _error_event(self, error: HarmoniaError, *, final: bool) -> GenerationError:
        return GenerationError(generation_id=self.id, error=ErrorInfo.of(error), stage=self._stage, final=final)

    @property
    def _model(self) -> str:
        """The language model asked for, or the engine's own. Raises MetadataError where the engine has none."""
        return self.request.model or self._metadata_engine.model

    def _metadata_name(self) -> str:
        return "given" if self.request.metadata is not None else self._metadata_engine.name

    def _new_attempt(self) -> Attempt:
        row: dict[str, Any] = {
            "run_id": f"{self.id}-{self._attempt_number}",
            "generation_id": self.id,
            "attempt": self._attempt_number,
            **asdict(self._labels),
            "version": __version__,
            "git_commit": git_commit(),
            **host(),
            "metadata_engine": self._metadata_name(),
            "metadata_model": None if self.request.metadata else self._model,
            "audio_engine": self._audio_engine.name,
            **audio_columns(self._audio_engine.identity()),
            "seed": self.seed,
            "narrative_characters": len(self.request.narrative),
            "narrative_digest": narrative_digest(self.request.narrative) if self.request.narrative else None,
            "seconds_requested": self.request.seconds,
            "audio_options": options_text(self.request.audio_options),
        }
        engines = {"metadata": self._metadata_engine, "audio": self._audio_engine}
        return Attempt(
            self.request, self.id, self.song_id, self.seed, self.cancel_token, self._emit, self._overall, engines, row
        )

    def _row_at_end(self) -> dict[str, Any]:
        # The GPU now, since an engine loads torch only when it is needed.
        return dict(self._attempt.row) | gpu_facts() | self._attempt.columns_at_its_end()

    def _write_row(self, status: JobStatus, *, error_code: str | None = None, cancel_reason: str | None = None) -> None:
        row = self._row_at_end() | {
            "status": status,
            "error_code": error_code,
            "cancel_reason": cancel_reason,
            "stage": "done" if status == "completed" else self._stage,
        }
        try:
            self._log_row(row)
        except StorageError as error:
            # The song matters more than its row; but a lost row must not go unnoticed.
            _log.warning("The run could not be logged. %s", error)
