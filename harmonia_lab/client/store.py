"""What a client knows: the state of each generation whose events it received, as one value.

Owns the guide's two reducers as one pure function, `reduce`, and the guide's views of the state. What an event means is
`events/state.py`'s. Where events come from (live, replayed, from the journal) makes no difference: an event that comes
twice or out of turn changes nothing. A missing lifecycle event holds back what follows it until it is replayed;
progress that was missed is not sent again.

Departures from the guide's reducers, all additive: `generation-timeout` has a case; a final error, like a cancel, ends
the active generation; an error is forgotten when a retry or recovery gets past it; dates are the events' own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from types import MappingProxyType
from typing import TypeVar

from harmonia_lab.events.state import ActiveStage, Cursor, Failure, GenerationState, apply
from harmonia_lab.protocol.events import Channel, FamilyEvent, GenerationShared, PartialMetadata
from harmonia_lab.protocol.models import AccessRole, Instrument, Job, Share, SongMetadata

__all__ = [
    "Action",
    "ActiveGeneration",
    "ConnectionEstablished",
    "ConnectionLost",
    "GenerationAccess",
    "GenerationResult",
    "State",
    "Store",
    "reduce",
]

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ActiveGeneration:
    """The guide's GenerationProgress. progress: percentage of the stage. overall_progress: of the whole generation.
    tokens_generated, partial: how much stage 1 has written, and what of it is known already."""

    id: str
    stage: ActiveStage
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

    @classmethod
    def of(cls, state: GenerationState) -> ActiveGeneration:
        """Return the guide's view of a generation whose attempt has begun."""
        assert state.started_at is not None
        writing, rendering = state.writing, state.rendering
        latest = rendering or writing
        progress, status = state.stage_progress
        return cls(
            state.id,
            state.active_stage,
            progress,
            status,
            started_at=state.started_at,
            current_step=writing.current_step if writing and state.stage == "metadata" else None,
            metadata=state.metadata if state.metadata_complete else None,
            instruments=state.instruments,
            current_instrument=rendering.current_instrument if rendering else None,
            instruments_completed=rendering.instruments_completed if rendering else 0,
            total_instruments=rendering.total_instruments if rendering else len(state.instruments),
            overall_progress=latest.overall_progress if latest else 0.0,
            eta_seconds=latest.eta_seconds if latest else None,
            tokens_generated=writing.tokens_generated if writing else None,
            partial=writing.partial if writing else None,
        )


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
class GenerationAccess:
    """Who may use a generation. access: as what this client's user may; None: not any more. shares: the others, for its
    owner and admins only."""

    access: AccessRole | None
    shares: tuple[Share, ...] = ()


@dataclass(frozen=True)
class State:
    """generations: by id. sharing: by generation id, of those whose server has said it. The other mappings are the
    guide's views, read-only and by generation id. Values are never changed: `reduce` makes new ones."""

    generations: Mapping[str, GenerationState] = field(default_factory=lambda: MappingProxyType({}))
    sharing: Mapping[str, GenerationAccess] = field(default_factory=lambda: MappingProxyType({}))
    connected: bool = False
    connection_error: str | None = None

    def cursor(self, channel: Channel) -> Cursor:
        """Return the last event of one family of one generation that was applied."""
        state = self.generations.get(channel.generation_id)
        return Cursor() if state is None else state.cursor(channel.family)

    @cached_property
    def active_generations(self) -> Mapping[str, ActiveGeneration]:
        return self._view(lambda state: ActiveGeneration.of(state) if state.active else None)

    @cached_property
    def completed_generations(self) -> Mapping[str, GenerationResult]:
        return self._view(_result)

    @cached_property
    def errors(self) -> Mapping[str, Failure]:
        return self._view(lambda state: state.failure)

    @cached_property
    def jobs(self) -> Mapping[str, Job]:
        return self._view(lambda state: state.job)

    def _view(self, of: Callable[[GenerationState], T | None]) -> Mapping[str, T]:
        def found() -> Iterator[tuple[str, T]]:
            for generation_id, state in self.generations.items():
                value = of(state)
                if value is not None:
                    yield generation_id, value

        return MappingProxyType(dict(found()))


@dataclass(frozen=True)
class ConnectionEstablished:
    """The guide's realTimeConnectionEstablished."""


@dataclass(frozen=True)
class ConnectionLost:
    """The guide's realTimeConnectionLost."""

    error: str


Action = FamilyEvent | GenerationShared | ConnectionEstablished | ConnectionLost


def reduce(state: State, action: Action) -> State:
    """Return the state after `action`: the very same object where the action has no effect."""
    if isinstance(action, ConnectionEstablished):
        return replace(state, connected=True, connection_error=None)
    if isinstance(action, ConnectionLost):
        return replace(state, connected=False, connection_error=action.error)
    if isinstance(action, GenerationShared):
        sharing = GenerationAccess(action.access, tuple(action.shares or ()))
        if state.sharing.get(action.generation_id) == sharing:
            return state
        return replace(state, sharing=MappingProxyType({**state.sharing, action.generation_id: sharing}))
    generation = state.generations.get(action.generation_id) or GenerationState(action.generation_id)
    if not generation.expects(action):
        return state
    generations = {**state.generations, generation.id: apply(generation, action)}
    return replace(state, generations=MappingProxyType(generations))


class Store:
    """Callable: `store(action)` makes the new `state`, and calls the observers. Safe to call from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._state = State()
        self._observers: list[Callable[[State], object]] = []

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
                try:
                    observer(state)
                except Exception:  # noqa: BLE001 - an observer that fails must not end the connection
                    _log.exception("An observer of the store failed.")

    def observe(self, observer: Callable[[State], None]) -> Callable[[], None]:
        """Call `observer` with every new state, in order, in the thread that calls the store; it must be quick.

        Return the function that ends this, which may be called twice.
        """
        with self._lock:
            self._observers = [*self._observers, observer]

        def leave() -> None:
            with self._lock:
                self._observers = [each for each in self._observers if each is not observer]

        return leave


def _result(state: GenerationState) -> GenerationResult | None:
    song = state.song
    if song is None:
        return None
    return GenerationResult(
        state.id,
        song.song_id,
        song.audio_url,
        song.duration,
        song.file_size,
        song.checksum,
        completed_at=song.emitted_at,
        metadata=state.metadata if state.metadata_complete else None,
    )
