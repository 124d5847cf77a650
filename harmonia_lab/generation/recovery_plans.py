"""The plans of recovery: what is tried by itself when a stage fails, after how long, how often, and for how long.

Owns the table of plans by error code, and the budget that bounds them. `generation.py` carries a plan out; what an
engine changes about itself is its own (`engines.base.Recovers`), and so is what it mends *within* a stage: a busy
server is waited for (plan "wait"), an answer repaired ("repair"), memory saved ("less-memory").
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Literal

from harmonia_lab.engines.base import CancelToken, Recovers, remedy_of
from harmonia_lab.errors import CODES, AudioError, ErrorCode, HarmoniaError
from harmonia_lab.protocol.events import ErrorInfo, GenerationError, StageName

__all__ = ["PLANS", "Recovery", "RecoveryLimits", "RecoveryPlan", "Retry", "lack_of_memory", "recovery_event"]

ABSENT_TRIES = 2
"""The most tries with a local server that was not there from the start: a person may have forgotten to start it."""

JITTER = 0.25
"""Waits of many clients of one server differ by up to this share, so that they don't come back all at once."""

ROOM_BYTES = 64 * 2**20
"""Free space with which a song that found the disk full is tried again: less wouldn't hold its files."""


@dataclass(frozen=True)
class RecoveryLimits:
    """What recovery may cost one run of a generation. attempts: the most retries after one kind of failure in one
    stage; a plan may have fewer; 0 switches recovery off. seconds: of all waits and restarts together.

    first_wait_s: before a server is asked again, three times as long before each further try. network_wait_s: the same
    for a network that fails, half as long again each time; the guide's 5 s.
    """

    attempts: int = 3
    seconds: float = 120.0
    first_wait_s: float = 1.0
    network_wait_s: float = 5.0


@dataclass(frozen=True)
class RecoveryPlan:
    """What is tried after one kind of failure. name: in events, log and metrics. tries: at most. wait_s: seconds before
    try number 1, 2, …; action: a status for people.

    engine: whether the engine's remedy decides. "may": the stage is tried again in any case. "knows": an engine that
    has `recover` and no remedy would fail again; any other is tried again. "must": only a remedy helps.
    """

    name: str
    tries: int
    action: str
    wait_s: Callable[[RecoveryLimits, int], float] = lambda _limits, _number: 0.0
    engine: Literal["may", "knows", "must"] = "may"

    def is_vain(self, engine: object) -> bool:
        """Return whether to try again is no use with an engine that has no remedy."""
        return self.engine == "must" or (self.engine == "knows" and isinstance(engine, Recovers))


def _backoff(limits: RecoveryLimits, number: int) -> float:
    return limits.first_wait_s * 3.0 ** (number - 1)


def _network_backoff(limits: RecoveryLimits, number: int) -> float:
    spread = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
    return limits.network_wait_s * 1.5 ** (number - 1) * spread


# After 1, 3 and 9 s: Ollama's own unit for systemd starts a server that has died again after 3 s.
_RECONNECT = RecoveryPlan("reconnect", 3, "Reconnecting to the language model...", _backoff)
_AGAIN = RecoveryPlan("render-again", 1, "Rendering again what isn't finished...", engine="knows")

PLANS: dict[ErrorCode, RecoveryPlan] = {
    ErrorCode.OLLAMA_UNAVAILABLE: _RECONNECT,
    ErrorCode.OLLAMA_TIMEOUT: _RECONNECT,
    ErrorCode.OLLAMA_SLOW: RecoveryPlan("ask-again", 1, "Asking the language model once more..."),
    ErrorCode.NETWORK_TEMPORARY: RecoveryPlan("network", 3, "Waiting for the network...", _network_backoff),
    ErrorCode.AUDIO_ERROR: _AGAIN,
    ErrorCode.MUSICGEN_ERROR: _AGAIN,
    ErrorCode.MUSICGEN_MEMORY: RecoveryPlan("smaller-model", 2, "With a smaller model...", engine="must"),
    ErrorCode.STORAGE_FULL: RecoveryPlan("wait-for-space", 1, "Waiting for space on the disk...", _backoff),
}
"""Code → what is tried by itself once a stage has raised it. `errors.CODES` says the same to people."""


@dataclass(frozen=True)
class Retry:
    """One retry that has been decided. attempt: its number, from 1, after this kind of failure in this stage.

    wait_s: seconds to wait before. began: when the failure came, by `perf_counter`.
    """

    plan: str
    attempt: int
    wait_s: float
    action: str
    began: float = field(default_factory=perf_counter)

    @property
    def cost_s(self) -> float:
        """Seconds since the failure."""
        return perf_counter() - self.began


class Recovery:
    """The recoveries of one run of a generation. For one thread."""

    def __init__(self, limits: RecoveryLimits, cancel: CancelToken) -> None:
        self._limits, self._cancel = limits, cancel
        self._tries: Counter[tuple[str, ErrorCode]] = Counter()
        self._spent_s = 0.0
        self._most: dict[str, int] = {}
        self.tried: list[str] = []
        """Names of plans, in order."""

    def after(self, error: HarmoniaError, stage: StageName, engine: object) -> Retry | None:
        """Return how the stage is tried again, after the engine has done what it can; None if the error is final."""
        plan, began = PLANS.get(error.code), perf_counter()
        if plan is None or not CODES[error.code].recoverable:
            return None
        number = self._tries[stage, error.code] + 1
        absent = error.code == ErrorCode.OLLAMA_UNAVAILABLE and error.details.get("reached") is False
        most = self._most.setdefault(stage, ABSENT_TRIES if absent else self._limits.attempts)
        wait_s = plan.wait_s(self._limits, number)
        if number > min(plan.tries, most, self._limits.attempts) or self._spent_s + wait_s > self._limits.seconds:
            return None
        remedy = remedy_of(engine, error, number, self._cancel)
        if remedy is None and plan.is_vain(engine):
            return None
        self._tries[stage, error.code] = number
        name, action = (plan.name, plan.action) if remedy is None else (remedy.plan, remedy.action)
        self.tried.append(name)
        return Retry(name, number, wait_s, action, began)

    def wait(self, retry: Retry, error: HarmoniaError) -> bool:
        """Wait as planned, and return whether to try. Raises Cancelled as soon as the generation is cancelled."""
        self._cancel.wait(retry.wait_s)
        self._cancel.raise_if_cancelled()
        self._spent_s += retry.cost_s
        return error.code != ErrorCode.STORAGE_FULL or _has_room(error)


def recovery_event(generation_id: str, error: HarmoniaError, stage: StageName, retry: Retry) -> GenerationError:
    """Return the event of a failure that is being recovered from; its details name the plan."""
    info = ErrorInfo.of(error)
    told = {"plan": retry.plan, "attempt": retry.attempt, "action": retry.action, "waitSeconds": round(retry.wait_s, 3)}
    info = info.model_copy(update={"details": {**(info.details or {}), **told}})
    return GenerationError(generation_id=generation_id, error=info, stage=stage, final=False)


def lack_of_memory() -> AudioError:
    """Return the error of stage 2 where Python itself ran out of memory."""
    return AudioError(
        "There was not enough memory to make the song's sound.",
        hint="Ask for a shorter song or fewer instruments, or close what else uses the memory.",
        details={"memory": True},
    )


def _has_room(error: HarmoniaError) -> bool:
    """Return whether the disk of the file that could not be written has space again, or is not known."""
    path = Path(str(error.details.get("path", "")))
    for folder in path.parents:
        if folder.is_dir():
            try:
                return shutil.disk_usage(folder).free >= ROOM_BYTES
            except OSError:
                return True
    return True
