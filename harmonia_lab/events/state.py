"""What the events of one generation add up to: `GenerationState`, and the pure function that takes it forward.

Owns that sum for everybody who reads events: the journal, the event log, the job handle, the client's store and the
panel. Whether an event may be applied (`GenerationState.expects`) is checked by the reader of a sequence, not by
`apply`: the journal refuses a gap, a client waits until the gap is filled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import singledispatch
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from harmonia_lab.errors import CODES, ErrorCode
from harmonia_lab.protocol.events import (
    AudioGenerationComplete,
    AudioGenerationProgress,
    AudioGenerationStarted,
    ErrorInfo,
    Family,
    FamilyEvent,
    GenerationCancelled,
    GenerationError,
    GenerationTimeout,
    JobCompletedEvent,
    JobEvent,
    JobFailedEvent,
    JobProgressEvent,
    JobStatusEvent,
    MetadataGenerationComplete,
    MetadataGenerationProgress,
    MetadataGenerationStarted,
    ProgressEvent,
    StageName,
)
from harmonia_lab.protocol.models import Instrument, Job, JobProgress, JobResult, JobStatus, SongMetadata, SongRequest
from harmonia_lab.protocol.snapshot import LastProgress, Snapshot

__all__ = ["ActiveStage", "Cursor", "Failure", "GenerationState", "apply", "new_state"]

ActiveStage = Literal["metadata", "metadata-complete", "audio"]
"""The guide's stages of a generation that is being made."""


@dataclass(frozen=True)
class Cursor:
    """The last event of one family that was applied. seq: of the last lifecycle event. tick: of the latest progress.
    ended: whether that lifecycle event ended the family."""

    seq: int = 0
    tick: int = 0
    ended: bool = False


@dataclass(frozen=True)
class Failure:
    """The guide's GenerationError: what went wrong last with one generation, a cancel included."""

    id: str
    error: ErrorInfo
    stage: str
    occurred_at: datetime


@dataclass(frozen=True)
class GenerationState:
    """One generation. Never changed: `apply` returns a new one.

    job: None while only the id is known. position: how many jobs come before it in the queue. stage: the stage that
    began last. started_at: when the present attempt began, or the last one. metadata: what stage 1 wrote or was given.
    metadata_complete: whether stage 1 has written it. writing, rendering: the latest progress of each stage of this
    attempt. instruments: in the order of rendering. failure: until an attempt gets past it. song: once it is done;
    its `audio_url` is a file's URI inside this machine.
    """

    id: str
    job: Job | None = None
    position: int | None = None
    stage: StageName = "metadata"
    started_at: datetime | None = None
    metadata: SongMetadata | None = None
    metadata_complete: bool = False
    instruments: tuple[Instrument, ...] = ()
    writing: MetadataGenerationProgress | None = None
    rendering: AudioGenerationProgress | None = None
    failure: Failure | None = None
    song: AudioGenerationComplete | None = None
    generation_cursor: Cursor = Cursor()
    job_cursor: Cursor = Cursor()

    @property
    def kept_job(self) -> Job:
        """The job, of a state that the journal keeps: there is always one."""
        assert self.job is not None
        return self.job

    @property
    def status(self) -> JobStatus:
        return "pending" if self.job is None else self.job.status

    @property
    def owner(self) -> str:
        """The user whose generation it is; "" while only the id is known."""
        return "" if self.job is None else self.job.user_id

    @property
    def active(self) -> bool:
        """Whether an attempt has begun and not ended."""
        return self.started_at is not None and not self.generation_cursor.ended

    @property
    def active_stage(self) -> ActiveStage:
        if self.stage == "audio":
            return "audio"
        return "metadata-complete" if self.metadata_complete else "metadata"

    @property
    def stage_progress(self) -> tuple[float, str]:
        """The percentage of the stage and what is being done, in the guide's words where no progress came yet."""
        if self.active_stage == "metadata-complete":
            return 100.0, "Metadata generation complete"
        latest = self.rendering if self.stage == "audio" else self.writing
        return (0.0, f"Starting {self.stage} generation...") if latest is None else (latest.progress, latest.status)

    @property
    def over(self) -> bool:
        """Whether both families have ended: nothing follows, unless the generation is tried again."""
        return self.generation_cursor.ended and self.job_cursor.ended

    @property
    def progress(self) -> ProgressEvent | None:
        """The latest progress of this attempt; None while the job waits."""
        return None if self.status == "pending" else self.rendering or self.writing

    @property
    def song_path(self) -> Path | None:
        """The song's file; None before it is done, or where `audio_url` is no file's URI."""
        parts = urlsplit(self.song.audio_url if self.song is not None else "")
        return Path(unquote(parts.path)) if parts.scheme == "file" else None

    def cursor(self, family: Family | None) -> Cursor:
        return self.job_cursor if family == "job" else self.generation_cursor

    def expects(self, event: FamilyEvent) -> bool:
        """Whether `event` is the next lifecycle event of its family, or newer progress after the last one."""
        cursor = self.cursor(event.family)
        if isinstance(event, ProgressEvent | JobProgressEvent):
            return event.seq == cursor.seq and event.tick > cursor.tick
        return event.delivery == "lifecycle" and event.seq == cursor.seq + 1

    def latest_progress(self) -> list[FamilyEvent]:
        """Return the latest progress event of each family that is still under way."""
        found: list[FamilyEvent] = [] if self.progress is None else [self.progress]
        job, cursor = self.job, self.job_cursor
        if job is not None and job.status == "processing" and job.progress != JobProgress():
            stamp: dict[str, Any] = {"seq": cursor.seq, "tick": cursor.tick, "emitted_at": job.updated_at}
            found.append(JobProgressEvent(id=self.id, progress=job.progress, **stamp))
        return found

    def snapshot(self) -> Snapshot:
        """Return the state as the wire has it; `job.result.outputPath` is still a file's URI."""
        latest = None
        if self.progress is not None:
            latest = LastProgress.model_validate({"event": self.progress.name, "data": self.progress})
        return Snapshot(
            generation_id=self.id,
            status=self.status,
            stage=self.stage,
            seq=self.generation_cursor.seq,
            job_seq=self.job_cursor.seq,
            job=self.kept_job,
            progress=latest,
        )


def new_state(job: Job, request: SongRequest) -> GenerationState:
    """Return the state of a generation that has just been asked for."""
    stage: StageName = "metadata" if request.metadata is None else "audio"
    return GenerationState(job.id, job, stage=stage, metadata=request.metadata)


def apply(state: GenerationState, event: FamilyEvent) -> GenerationState:
    """Return the state after `event`. Previews change nothing."""
    cursor = state.cursor(event.family)
    if event.delivery == "lifecycle":
        cursor = Cursor(event.seq, cursor.tick, event.ends)
    elif isinstance(event, ProgressEvent | JobProgressEvent):
        cursor = replace(cursor, tick=event.tick)
    moved: dict[str, Any] = {"job_cursor" if event.family == "job" else "generation_cursor": cursor}
    return replace(state, **moved, **_changes(event, state))


@singledispatch
def _changes(_event: FamilyEvent, _state: GenerationState) -> dict[str, Any]:
    """Return the fields that `event` changes, cursors apart. One case for each event that changes any."""
    return {}


@_changes.register
def _(event: MetadataGenerationStarted, _state: GenerationState) -> dict[str, Any]:
    fresh = {"metadata_complete": False, "writing": None, "rendering": None, "instruments": (), "failure": None}
    return {"stage": "metadata", "started_at": event.emitted_at, **fresh}


@_changes.register
def _(event: MetadataGenerationProgress, _state: GenerationState) -> dict[str, Any]:
    return {"writing": event}


@_changes.register
def _(event: MetadataGenerationComplete, _state: GenerationState) -> dict[str, Any]:
    return {"metadata": event.metadata, "metadata_complete": True}


@_changes.register
def _(event: AudioGenerationStarted, state: GenerationState) -> dict[str, Any]:
    changes: dict[str, Any] = {
        "stage": "audio",
        "instruments": tuple(event.instruments),
        "rendering": None,
        "failure": None,
    }
    if not state.active:  # stage 1 was skipped, or done in an earlier attempt
        changes |= {"started_at": event.emitted_at, "writing": None}
    return changes


@_changes.register
def _(event: AudioGenerationProgress, _state: GenerationState) -> dict[str, Any]:
    return {"rendering": event}


@_changes.register
def _(event: AudioGenerationComplete, _state: GenerationState) -> dict[str, Any]:
    return {"song": event, "failure": None}


@_changes.register
def _(event: GenerationError, _state: GenerationState) -> dict[str, Any]:
    return {"failure": Failure(event.generation_id, event.error, event.stage, event.emitted_at)}


@_changes.register
def _(event: GenerationTimeout, _state: GenerationState) -> dict[str, Any]:
    code = ErrorCode.OLLAMA_TIMEOUT if event.stage == "metadata" else ErrorCode.AUDIO_TIMEOUT
    message = f"Stage {event.stage} took longer than its limit of {event.timeout_after:g} s."
    return {"failure": _failure(event, code, message, event.stage)}


@_changes.register
def _(event: GenerationCancelled, state: GenerationState) -> dict[str, Any]:
    if event.reason == "timeout":  # `generation-timeout` came before it, and says more
        return {}
    message = "Generation cancelled by user" if event.reason == "user_cancelled" else "Generation stopped"
    stage = state.active_stage if state.active else "unknown"
    return {"failure": _failure(event, ErrorCode.CANCELLED, message, stage)}


@_changes.register
def _(event: JobStatusEvent, state: GenerationState) -> dict[str, Any]:
    changes = _job_changes(event, state, status=event.status) if event.job is None else {"job": event.job}
    return changes | {"position": event.position if event.status == "pending" else None}


@_changes.register
def _(event: JobProgressEvent, state: GenerationState) -> dict[str, Any]:
    return _job_changes(event, state, progress=event.progress)


@_changes.register
def _(event: JobFailedEvent, state: GenerationState) -> dict[str, Any]:
    return _job_changes(event, state, status="failed", result=JobResult(error=event.error))


@_changes.register
def _(event: JobCompletedEvent, state: GenerationState) -> dict[str, Any]:
    written = event.job.result.metadata if event.job.result is not None else None
    return {"job": event.job, "metadata": written or state.metadata}


def _job_changes(event: JobEvent, state: GenerationState, **changes: Any) -> dict[str, Any]:
    """Return what `changes` make of the job, if the job is known already."""
    return (
        {} if state.job is None else {"job": state.job.model_copy(update={"updated_at": event.emitted_at, **changes})}
    )


def _failure(event: GenerationTimeout | GenerationCancelled, code: ErrorCode, message: str, stage: str) -> Failure:
    error = ErrorInfo(code=code, message=message, recoverable=CODES[code].recoverable)
    return Failure(event.generation_id, error, stage, event.emitted_at)
