"""What a client knows, as one value: the guide's two reducers as one pure function.

Owns the state and how each event changes it. Where events come from (live, replayed, from the journal) makes no
difference: what comes twice or out of turn changes nothing, so the same events leave the same state. A missing
lifecycle event holds back what follows it until it is replayed; progress that was missed is gone.

Departures from the guide's reducers, all additive: `generation-timeout` has a case; a final error, like a cancel, ends
the active generation; an error is forgotten when a retry or recovery gets past it; dates are the events' own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from harmonia_lab.errors import CODES, ErrorCode
from harmonia_lab.protocol.events import (
    AudioGenerationComplete,
    AudioGenerationProgress,
    AudioGenerationStarted,
    ErrorInfo,
    Event,
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
    PartialMetadata,
    ProgressEvent,
)
from harmonia_lab.protocol.models import Instrument, Job, JobResult, SongMetadata

__all__ = [
    "Action",
    "ActiveGeneration",
    "ConnectionEstablished",
    "ConnectionLost",
    "Cursor",
    "Failure",
    "GenerationResult",
    "State",
    "Store",
    "reduce",
    "reduce_job",
]

_K = TypeVar("_K")
_V = TypeVar("_V")


@dataclass(frozen=True)
class ActiveGeneration:
    """The guide's GenerationProgress. progress: percentage of the stage. overall_progress: of the whole generation.
    tokens_generated, partial: how much stage 1 has written, and what of it is known already."""

    id: str
    stage: Literal["metadata", "metadata-complete", "audio"]
    progress: float
    status: str
    started_at: datetime
    current_step: str | None = None
    metadata: SongMetadata | None = None
    instruments: tuple[Instrument, ...] = ()
    current_instrument: str | None = None
    instruments_completed: int = 0
    total_instruments: int = 0
    overall_progress: float = 0.0
    eta_seconds: float | None = None
    tokens_generated: int | None = None
    partial: PartialMetadata | None = None


@dataclass(frozen=True)
class GenerationResult:
    """duration: seconds of audio. file_size: bytes. checksum: SHA-256 in hex."""

    id: str
    song_id: str
    audio_url: str
    duration: float
    file_size: int
    checksum: str
    completed_at: datetime
    metadata: SongMetadata | None = None


@dataclass(frozen=True)
class Failure:
    """The guide's GenerationError: what went wrong last with one generation, a cancel included."""

    id: str
    error: ErrorInfo
    stage: str
    occurred_at: datetime


@dataclass(frozen=True)
class Cursor:
    """The last event of one generation and family that counted. tick: 0 where no progress came after the lifecycle
    event `seq`."""

    seq: int = 0
    tick: int = 0


def _empty() -> Mapping[Any, Any]:
    return MappingProxyType({})


@dataclass(frozen=True)
class State:
    """By generation id, but for the cursors. Values are never changed: `reduce` makes new ones.
    positions: of the jobs that wait, how many come before each."""

    active_generations: Mapping[str, ActiveGeneration] = field(default_factory=_empty)
    completed_generations: Mapping[str, GenerationResult] = field(default_factory=_empty)
    errors: Mapping[str, Failure] = field(default_factory=_empty)
    jobs: Mapping[str, Job] = field(default_factory=_empty)
    positions: Mapping[str, int] = field(default_factory=_empty)
    connected: bool = False
    connection_error: str | None = None
    cursors: Mapping[tuple[Family, str], Cursor] = field(default_factory=_empty)


@dataclass(frozen=True)
class ConnectionEstablished:
    """The guide's realTimeConnectionEstablished."""


@dataclass(frozen=True)
class ConnectionLost:
    """The guide's realTimeConnectionLost."""

    error: str


Action = FamilyEvent | ConnectionEstablished | ConnectionLost


def reduce(state: State, action: Action) -> State:
    """The state after `action`; the very same state where the action has no effect."""
    if isinstance(action, ConnectionEstablished):
        return replace(state, connected=True, connection_error=None)
    if isinstance(action, ConnectionLost):
        return replace(state, connected=False, connection_error=action.error)
    moved = _advance(state, action)
    if moved is None:
        return state
    if isinstance(action, JobEvent):
        if isinstance(action, JobStatusEvent):
            moved = replace(moved, positions=_positions(state.positions, action))
        job = reduce_job(state.jobs.get(action.generation_id), action)
        return moved if job is None else replace(moved, jobs=_with(state.jobs, action.generation_id, job))
    return _REDUCERS[type(action)](moved, action)


def reduce_job(job: Job | None, event: JobEvent) -> Job | None:
    """The job after `event`: the guide's jobs reducer, for one job. None while nothing but its id is known."""
    if isinstance(event, JobCompletedEvent):
        return event.job
    if isinstance(event, JobStatusEvent) and event.job is not None:
        return event.job
    if job is None:
        return None
    change: dict[str, Any] = {"updated_at": event.emitted_at}
    if isinstance(event, JobStatusEvent):
        change["status"] = event.status
    elif isinstance(event, JobProgressEvent):
        change["progress"] = event.progress
    elif isinstance(event, JobFailedEvent):
        change |= {"status": "failed", "result": JobResult(error=event.error)}
    return job.model_copy(update=change)


class Store:
    """Callable: `store(action)` makes it the new `state` and tells the observers. Safe to call from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._state = State()
        self._observers: list[Callable[[State], None]] = []

    @property
    def state(self) -> State:
        return self._state

    def __call__(self, action: Action) -> None:
        with self._lock:
            state = reduce(self._state, action)
            if state is self._state:
                return
            self._state = state
            for observer in self._observers:
                observer(state)

    def observe(self, observer: Callable[[State], None]) -> Callable[[], None]:
        """Calls `observer` with every new state, in order, in the thread that brought it; it must be quick.

        Returns the function that ends it; calling that twice is fine.
        """
        with self._lock:
            self._observers = [*self._observers, observer]

        def leave() -> None:
            with self._lock:
                self._observers = [o for o in self._observers if o is not observer]

        return leave


def _advance(state: State, event: FamilyEvent) -> State | None:
    """With the cursor moved to `event`; None where the event is not the next, or not of this reducer."""
    assert event.family is not None
    key = (event.family, event.generation_id)
    last = state.cursors.get(key, Cursor())
    if event.delivery == "lifecycle":
        if event.seq != last.seq + 1:
            return None
        now = Cursor(event.seq)
    elif isinstance(event, ProgressEvent | JobProgressEvent):
        if event.seq != last.seq or event.tick <= last.tick:
            return None
        now = Cursor(event.seq, event.tick)
    else:
        return None
    return replace(state, cursors=_with(state.cursors, key, now))


def _positions(positions: Mapping[str, int], event: JobStatusEvent) -> Mapping[str, int]:
    if event.status == "pending" and event.position is not None:
        return _with(positions, event.generation_id, event.position)
    return _without(positions, event.generation_id)


def _metadata_started(state: State, event: MetadataGenerationStarted) -> State:
    return _begin(
        state,
        ActiveGeneration(
            event.generation_id, "metadata", 0.0, "Starting metadata generation...", started_at=event.emitted_at
        ),
    )


def _metadata_progress(state: State, event: MetadataGenerationProgress) -> State:
    return _update(
        state,
        event,
        progress=event.progress,
        status=event.status,
        current_step=event.current_step,
        overall_progress=event.overall_progress,
        eta_seconds=event.eta_seconds,
        tokens_generated=event.tokens_generated,
        partial=event.partial,
    )


def _metadata_complete(state: State, event: MetadataGenerationComplete) -> State:
    return _update(
        state,
        event,
        stage="metadata-complete",
        progress=100.0,
        status="Metadata generation complete",
        metadata=event.metadata,
    )


def _audio_started(state: State, event: AudioGenerationStarted) -> State:
    before = state.active_generations.get(event.generation_id)
    if before is None:  # stage 1 was skipped, or done in an earlier attempt
        before = ActiveGeneration(event.generation_id, "audio", 0.0, "", started_at=event.emitted_at)
    return _begin(
        state,
        replace(
            before,
            stage="audio",
            progress=0.0,
            status="Starting audio generation...",
            current_step=None,
            instruments=tuple(event.instruments),
            current_instrument=None,
            instruments_completed=0,
            total_instruments=len(event.instruments),
        ),
    )


def _audio_progress(state: State, event: AudioGenerationProgress) -> State:
    return _update(
        state,
        event,
        progress=event.progress,
        status=event.status,
        current_instrument=event.current_instrument,
        instruments_completed=event.instruments_completed,
        total_instruments=event.total_instruments,
        overall_progress=event.overall_progress,
        eta_seconds=event.eta_seconds,
    )


def _audio_complete(state: State, event: AudioGenerationComplete) -> State:
    before = state.active_generations.get(event.generation_id)
    result = GenerationResult(
        event.generation_id,
        event.song_id,
        event.audio_url,
        event.duration,
        event.file_size,
        event.checksum,
        completed_at=event.emitted_at,
        metadata=before.metadata if before else None,
    )
    return replace(
        state,
        active_generations=_without(state.active_generations, event.generation_id),
        completed_generations=_with(state.completed_generations, event.generation_id, result),
        errors=_without(state.errors, event.generation_id),
    )


def _error(state: State, event: GenerationError) -> State:
    state = _fail(state, event, event.error, event.stage)
    if not event.final:
        return state
    return replace(state, active_generations=_without(state.active_generations, event.generation_id))


def _timeout(state: State, event: GenerationTimeout) -> State:
    code = ErrorCode.OLLAMA_TIMEOUT if event.stage == "metadata" else ErrorCode.AUDIO_TIMEOUT
    message = f"Stage {event.stage} took longer than its limit of {event.timeout_after:g} s."
    return _fail(state, event, ErrorInfo(code=code, message=message, recoverable=CODES[code].recoverable), event.stage)


def _cancelled(state: State, event: GenerationCancelled) -> State:
    before = state.active_generations.get(event.generation_id)
    if event.reason != "timeout":  # a timeout has said already what happened
        message = "Generation cancelled by user" if event.reason == "user_cancelled" else "Generation stopped"
        error = ErrorInfo(code=ErrorCode.CANCELLED, message=message, recoverable=CODES[ErrorCode.CANCELLED].recoverable)
        state = _fail(state, event, error, before.stage if before else "unknown")
    return replace(state, active_generations=_without(state.active_generations, event.generation_id))


_REDUCERS: dict[type[Event], Callable[[State, Any], State]] = {
    MetadataGenerationStarted: _metadata_started,
    MetadataGenerationProgress: _metadata_progress,
    MetadataGenerationComplete: _metadata_complete,
    AudioGenerationStarted: _audio_started,
    AudioGenerationProgress: _audio_progress,
    AudioGenerationComplete: _audio_complete,
    GenerationError: _error,
    GenerationTimeout: _timeout,
    GenerationCancelled: _cancelled,
}


def _begin(state: State, active: ActiveGeneration) -> State:
    return replace(
        state,
        active_generations=_with(state.active_generations, active.id, active),
        errors=_without(state.errors, active.id),
    )


def _update(state: State, event: Event, **changes: Any) -> State:
    before = state.active_generations.get(event.generation_id)
    if before is None:
        return state
    return replace(
        state, active_generations=_with(state.active_generations, event.generation_id, replace(before, **changes))
    )


def _fail(state: State, event: Event, error: ErrorInfo, stage: str) -> State:
    failure = Failure(event.generation_id, error, stage, occurred_at=event.emitted_at)
    return replace(state, errors=_with(state.errors, event.generation_id, failure))


def _with(mapping: Mapping[_K, _V], key: _K, value: _V) -> Mapping[_K, _V]:
    return MappingProxyType({**mapping, key: value})


def _without(mapping: Mapping[_K, _V], key: _K) -> Mapping[_K, _V]:
    if key not in mapping:
        return mapping
    return MappingProxyType({k: v for k, v in mapping.items() if k != key})
