"""What an engine is: the protocols of both stages, what engines report while they work, and how they are cancelled.

Owns no engine. Engines import from here and not from each other, except that both Ollama engines share one class;
`generation/` knows engines only by these types. How a name leads to an engine is in `spec.py`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

from harmonia_lab.errors import Cancelled, HarmoniaError, InvalidRequest
from harmonia_lab.protocol.models import SongMetadata, SongRequest
from harmonia_lab.protocol.sound import FOLLOWED, Followed
from harmonia_lab.protocol.vocabulary import Role

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harmonia_lab.engines.engine_option import EngineOption
    from harmonia_lab.music.plan import Part, Plan

__all__ = [
    "AudioEngine",
    "AudioProgress",
    "CancelToken",
    "FollowsPlan",
    "MetadataEngine",
    "MetadataProgress",
    "MetadataResult",
    "Preview",
    "Recovers",
    "Remedy",
    "Renewable",
    "RunsProcesses",
    "Stem",
    "Step",
    "TakesSongOptions",
    "engine_for_song",
    "followed_by",
    "fresh_engine",
    "processes_of",
    "remedy_of",
]

_log = logging.getLogger(__name__)

T = TypeVar("T")

Step = Literal["analysis", "title", "lyrics", "genre", "mood"]
"""The guide's steps of stage 1."""


class CancelToken:
    """A request to stop, set once, from any thread. Loops poll it; blocking code registers an `on_cancel`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self.reason = ""
        """The wire's reason: user_cancelled, timeout or system_error; empty while not cancelled."""
        self._callbacks: dict[int, Callable[[], None]] = {}

    def cancel(self, reason: str = "user_cancelled") -> bool:
        """Set it. Return True for the first call; later ones do nothing. Callbacks run in this thread, each once."""
        with self._lock:
            if self._event.is_set():
                return False
            self.reason = reason
            self._event.set()
            callbacks = list(self._callbacks.values())
            self._callbacks.clear()
        for callback in callbacks:
            callback()
        return True

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Sleep up to `timeout_s` seconds. Return True as soon as it is cancelled."""
        return self._event.wait(timeout_s)

    def raise_if_cancelled(self) -> None:
        """Raise Cancelled if it is set."""
        if self._event.is_set():
            raise Cancelled(self.reason)

    @contextmanager
    def on_cancel(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call `callback` on a cancel inside the block, at once if it came before. It must be quick and not raise."""
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
    """One report of stage 1.

    fraction: 0…1 of the stage. tokens: generated so far. partial: the metadata known so far (title, lyrics, …).
    failure: as `AudioProgress` has it.
    """

    fraction: float
    step: Step
    status: str
    tokens: int = 0
    partial: Mapping[str, Any] = field(default_factory=dict)
    failure: HarmoniaError | None = None


@dataclass(frozen=True)
class MetadataResult:
    """What stage 1 returns.

    transcript: one JSON-able entry per exchange with the model (messages, options, answer, counts), in order.
    record: what a reader needs to reproduce it: model, digest, quantisation, server version, strategy, template
    version. model_load_s: seconds spent loading the model. time_to_first_token_s: from the call to the first token,
    load included; None where nothing was generated. tokens: all that were generated. tokens_per_second: over the time
    that the model itself spent on them.
    """

    metadata: SongMetadata
    transcript: list[dict[str, Any]]
    record: dict[str, Any]
    model_load_s: float
    time_to_first_token_s: float | None
    tokens: int
    tokens_per_second: float | None


class MetadataEngine(Protocol):
    """Stage 1. Blocking; called from a worker thread.

    name: as in its `MetadataEngineSpec`, if it has one. model: the language model's name on its server.
    """

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> str: ...

    def write(
        self, request: SongRequest, seed: int, report: Callable[[MetadataProgress], None], cancel: CancelToken
    ) -> MetadataResult:
        """Return the song's metadata. Raises MetadataError, or Cancelled within 0.2 s of a cancel."""
        ...

    def release(self) -> None:
        """Free the model's memory before stage 2 uses the same device. Never raises."""
        ...

    def close(self) -> None:
        """End the processes and free the memory that the engine took. Idempotent; the engine can be used again."""
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
    """A piece of a stem, reported while the rest is generated. All pieces of a stem together are the stem.

    stem: its name; "mix" for a whole arrangement. start: first sample. audio: float32 [channels, samples]. sample_rate:
    Hz.
    """

    stem: str
    start: int
    audio: NDArray[np.float32]
    sample_rate: int


@dataclass(frozen=True)
class AudioProgress:
    """One report of stage 2.

    fraction: 0…1 of the rendering. instrument: the one being rendered (several, if they are rendered together), or None
    while loading. completed of total: stems; total None means one per part. failure: an error after which the engine
    tries another way by itself, as `status` says; its details may have `plan`, that way's name for log and metrics, and
    `waitSeconds`. figures: columns of the run log. preview: more audio. finished: a stem that took long enough to be
    kept for another attempt, should the rest fail.
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

    name: as in its `AudioEngineSpec`, if it has one. uses_gpu: whether it needs GPU memory, which a language model on
    the same machine may hold.
    """

    name: str
    uses_gpu: bool

    def prepare(self) -> None:
        """Start loading in the background, while stage 1 runs. Return at once; `render` raises what goes wrong."""
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
        """Return one stem per part, in the parts' order, or one of role "mix" from an engine that renders the mix.

        seeds: by part name. Each stem is as long as the song. finished: stems by name, which this engine reported as
        finished when it rendered the same plan before; it returns them as they are.

        Raises AudioError, or Cancelled within 0.2 s of a cancel.
        """
        ...

    def identity(self) -> dict[str, Any]:
        """Return what the engine is, as plain JSON values; constant, quick, and known before anything is loaded.

        model: the model's name, where it has models. settings: by name, where it has settings. These two decide whether
        two songs of a batch are the same, and remake the engine from a record. Others: versions, digests, licences.
        """
        ...

    def record(self) -> dict[str, Any]:
        """Return `identity` and what belongs to the latest song, such as the decoder that ran, for its record."""
        ...

    def close(self) -> None:
        """End the processes and free the memory that the engine took. Idempotent; the engine can be used again."""
        ...


@runtime_checkable
class TakesSongOptions(Protocol):
    """An audio engine of which one song can have settings of its own, such as a prompt. Optional.

    song_options: those that a song can have.
    """

    song_options: Sequence[EngineOption]

    def for_song(self, options: Mapping[str, Any]) -> AudioEngine:
        """Return an engine for one song: like this one, whose loaded model it uses, with these settings by name.

        Its `identity` has the song's settings. It is closed with this one. Quick, since it is called for each row of a
        table before its first song is made. Raises InvalidRequest for a name or a value that can't be used, a recording
        that can't be read, or what the model can't do.
        """
        ...


def engine_for_song(engine: AudioEngine, options: Mapping[str, Any] | None) -> AudioEngine:
    """Return the engine that makes a song with these options: the engine itself, where there are none.

    Raises InvalidRequest for what the engine doesn't take.
    """
    if not options:
        return engine
    if not isinstance(engine, TakesSongOptions):
        raise InvalidRequest(
            f"The {engine.name} engine takes no {', '.join(options)}.", details={"fields": sorted(options)}
        )
    return engine.for_song(options)


@runtime_checkable
class RunsProcesses(Protocol):
    """An engine with child processes, which stay when its stage is over: their memory is no other stage's."""

    def process_ids(self) -> Sequence[int]:
        """Return the ids of those that run; callable from any thread."""
        ...


@runtime_checkable
class FollowsPlan(Protocol):
    """An audio engine that says what of the plan its sound follows. Optional; see `followed_by`."""

    @property
    def follows(self) -> frozenset[Followed]:
        """What the song that was rendered last follows. Files, picture and mix show that, and no more."""
        ...


def followed_by(engine: object) -> frozenset[Followed]:
    """Return what of the plan the engine's latest song follows; the prompt alone where it has no `follows`."""
    found: set[str] = set(engine.follows) if isinstance(engine, FollowsPlan) else {"prompt"}
    return frozenset(name for name in FOLLOWED if name in found)


def processes_of(engine: object) -> Sequence[int]:
    """Return the ids of the engine's child processes; none where it has no `process_ids`."""
    return engine.process_ids() if isinstance(engine, RunsProcesses) else ()


@dataclass(frozen=True)
class Remedy:
    """What an engine has changed after a failure. plan: its name in the log and the metrics, such as "restart".
    action: the same as a status for people."""

    plan: str
    action: str


@runtime_checkable
class Recovers(Protocol):
    """An engine that knows what helps after its own failures. Optional: without it, generic plans alone are tried.

    All that an engine does about a stage that has failed goes through here: a child process started again, a smaller
    model, another precision. (What it does *within* `write` or `render` it reports as `failure` of its progress.)
    """

    def recover(self, error: HarmoniaError, attempt: int, cancel: CancelToken) -> Remedy | None:
        """Change the engine's state for the next attempt at the same song, and return what was done.

        Return None where the engine has nothing that would help. error: raised by `write` or `render` a moment ago.
        attempt: how often this error has come in this stage, from 1. Called in the thread of `write` and `render`; may
        take some seconds, and returns at once on a cancel. What it changes for one song must not outlast that song.
        """
        ...


def remedy_of(engine: object, error: HarmoniaError, attempt: int, cancel: CancelToken) -> Remedy | None:
    """Return the engine's remedy; None where it has none, has no `recover`, or fails in it."""
    if not isinstance(engine, Recovers):
        return None
    try:
        return engine.recover(error, attempt, cancel)
    except Exception:  # noqa: BLE001 - the failure to be recovered from says more than that of the remedy
        _log.warning("An engine's recovery failed.", exc_info=True)
        return None


@runtime_checkable
class Renewable(Protocol):
    """An engine that can be replaced while a thread is stuck in it. Optional."""

    def fresh(self) -> Any:
        """Return a new engine with the same model and settings, which shares nothing with this one: no lock, no
        process, no loaded model. A thread is in a call of this one that may never return. Return at once."""
        ...


def fresh_engine(engine: T) -> T:
    """Return a new engine like this one, or the engine itself where it isn't `Renewable`."""
    if not isinstance(engine, Renewable):
        return engine
    renewed: T = engine.fresh()
    return renewed
