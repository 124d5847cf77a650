"""What every engine is to the pipeline: the two protocols, what they report, and how they are stopped.

Owns no engine and no policy. Engines import from here and never from each other; the pipeline knows them only by these
types.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from harmonia_lab.errors import Cancelled, HarmoniaError
from harmonia_lab.protocol.models import SongMetadata, SongRequest
from harmonia_lab.protocol.vocabulary import Role

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harmonia_lab.music.plan import Part, Plan

__all__ = [
    "AudioEngine",
    "AudioProgress",
    "CancelToken",
    "MetadataEngine",
    "MetadataProgress",
    "MetadataResult",
    "Preview",
    "Stem",
    "Step",
]

Step = Literal["analysis", "title", "lyrics", "genre", "mood"]
"""The guide's steps of stage 1."""


class CancelToken:
    """Set once, from any thread. Loops poll it; what blocks registers a callback with `on_cancel`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._reason = ""
        self._callbacks: dict[int, Callable[[], None]] = {}

    def cancel(self, reason: str = "user_cancelled") -> bool:
        """True for the first call, which alone counts. Callbacks run in the caller's thread, each once."""
        with self._lock:
            if self._event.is_set():
                return False
            self._reason = reason
            self._event.set()
            callbacks = list(self._callbacks.values())
            self._callbacks.clear()
        for callback in callbacks:
            callback()
        return True

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    @property
    def reason(self) -> str:
        """The guide's reason: user_cancelled, timeout or system_error; empty while not cancelled."""
        return self._reason

    def wait(self, timeout_s: float) -> bool:
        """Sleeps up to `timeout_s` seconds; True as soon as it is cancelled."""
        return self._event.wait(timeout_s)

    def raise_if_cancelled(self) -> None:
        """Raises Cancelled."""
        if self._event.is_set():
            raise Cancelled(self._reason)

    @contextmanager
    def on_cancel(self, callback: Callable[[], None]) -> Iterator[None]:
        """While inside, a cancel calls `callback`, at once when it came before. It must be quick and must not raise."""
        with self._lock:
            late = self._event.is_set()
            key = max(self._callbacks, default=0) + 1
            if not late:
                self._callbacks[key] = callback
        if late:
            callback()
        try:
            yield
        finally:
            with self._lock:
                self._callbacks.pop(key, None)


@dataclass(frozen=True)
class MetadataProgress:
    """fraction: 0…1 of stage 1. tokens: generated so far. partial: what is known already (title, lyrics, …)."""

    fraction: float
    step: Step
    status: str
    tokens: int = 0
    partial: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MetadataResult:
    """What stage 1 hands on.

    transcript: one JSON-able entry per exchange with the model (messages, options, answer, counts), in order.
    record: what reproducing needs: engine, model, digest, quantisation, server version, strategy, template version.
    model_load_s: seconds spent loading the model. time_to_first_token_s: from the call to the first token, with the
    load; None where nothing was generated. tokens: generated in all. tokens_per_second: over the time that the model
    itself spent on them.
    """

    metadata: SongMetadata
    transcript: list[dict[str, Any]]
    record: dict[str, Any]
    model_load_s: float
    time_to_first_token_s: float | None
    tokens: int
    tokens_per_second: float | None


class MetadataEngine(Protocol):
    """Stage 1. Blocking; called from a worker thread. model: the language model's name on its server."""

    name: str

    @property
    def model(self) -> str: ...

    def write(
        self, request: SongRequest, seed: int, report: Callable[[MetadataProgress], None], cancel: CancelToken
    ) -> MetadataResult:
        """Raises MetadataError, or Cancelled within 0.2 s of a cancel."""
        ...

    def release(self) -> None:
        """Free the model's memory, before stage 2 takes the same device. Never raises."""
        ...

    def close(self) -> None:
        """End what the engine started. Idempotent."""
        ...


@dataclass(frozen=True)
class Stem:
    """One rendered instrument. audio: float32 [channels, samples], full scale ±1. sample_rate: Hz."""

    name: str
    role: Role
    audio: NDArray[np.float32]
    sample_rate: int


@dataclass(frozen=True)
class Preview:
    """What can be heard of a stem while the rest is made; all of them together are the stem.

    stem: its name; "mix" for a whole arrangement. start: sample. audio: float32 [channels, samples]. sample_rate: Hz.
    """

    stem: str
    start: int
    audio: NDArray[np.float32]
    sample_rate: int


@dataclass(frozen=True)
class AudioProgress:
    """fraction: 0…1 of the rendering. instrument: the one at work (several, if they are made together), or None while
    loading. completed of total: stems; total None stands for one per part.

    failure: what went wrong and is being tried again in another way, as `status` says. figures: columns of the log.
    preview: some more audio. finished: a stem that took long enough to be worth keeping, should the rest fail.
    """

    fraction: float
    status: str
    instrument: str | None = None
    completed: int = 0
    total: int | None = None
    failure: HarmoniaError | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    preview: Preview | None = None
    finished: Stem | None = None


class AudioEngine(Protocol):
    """Stage 2's renderer. Blocking; called from a worker thread.

    uses_gpu: whether it wants memory that a language model on the same machine may hold.
    """

    name: str
    uses_gpu: bool

    def prepare(self) -> None:
        """Start loading in the background, while stage 1 is at work. Returns at once; what fails, fails in `render`."""
        ...

    def render(
        self,
        parts: Sequence[Part],
        plan: Plan,
        seeds: Mapping[str, int],
        progress: Callable[[AudioProgress], None],
        cancel: CancelToken,
        finished: Mapping[str, Stem],
    ) -> list[Stem]:
        """One stem per part, in the parts' order, or a single one of role "mix" from an engine that renders the mix.

        `seeds` maps part names to seeds. Each stem covers the whole song. `finished`: stems by name that this engine
        reported as such when it rendered the same plan before; they are taken as they are.

        Raises AudioError, or Cancelled within 0.2 s of a cancel.
        """
        ...

    def record(self) -> dict[str, Any]:
        """What reproducing needs: engine, versions, digests and licences of models and sound banks."""
        ...

    def close(self) -> None:
        """End what the engine started. Idempotent."""
        ...
