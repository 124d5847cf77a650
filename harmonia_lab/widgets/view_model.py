"""What a panel shows of one generation: the store's states in, one small JSON value out.

Owns every word and number on a panel, and what stays to be seen when the store has forgotten it (a cancelled song's
half-written lyrics). It draws nothing and knows no widget.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from harmonia_lab.client.store import ActiveGeneration, Failure, State
from harmonia_lab.errors import CODES, ErrorCode
from harmonia_lab.protocol.events import PartialMetadata
from harmonia_lab.protocol.models import Job, JobStatus, SongMetadata

__all__ = ["ENDED", "Scene", "View", "follow", "view"]

ENDED = ("completed", "failed", "cancelled")

View = dict[str, Any]
"""JSON values under the names that the front end reads; the words are ready to be shown, as text."""

StageState = Literal["waiting", "active", "done", "stopped"]

_HEADLINES: dict[JobStatus, str] = {
    "pending": "Waiting for its turn",
    "processing": "Starting...",
    "completed": "Done",
    "failed": "Failed",
    "cancelled": "Cancelled",
}


@dataclass(frozen=True)
class Scene:
    """What is known of one generation. active: the latest that was seen of it. began: tokens and seconds when stage 1
    was first heard of with some; rate: tokens each second since then, by the clock: the model's pauses between two
    answers count. stage_1_skipped: the metadata was given."""

    generation_id: str
    state: State = field(default_factory=State)
    active: ActiveGeneration | None = None
    partial: PartialMetadata | None = None
    metadata: SongMetadata | None = None
    began: tuple[int, float] | None = None
    rate: float | None = None
    stage_1_skipped: bool = False

    @property
    def job(self) -> Job | None:
        return self.state.jobs.get(self.generation_id)

    @property
    def status(self) -> JobStatus:
        return self.job.status if self.job is not None else "pending"

    @property
    def failure(self) -> Failure | None:
        """Why it failed, or what is being recovered from; a cancel that was asked for is none."""
        failure = self.state.errors.get(self.generation_id)
        return None if failure is None or failure.error.code == ErrorCode.CANCELLED else failure


def follow(scene: Scene, state: State, now: float) -> Scene:
    """The scene after `state`. now: seconds on any clock that only goes forward."""
    active = state.active_generations.get(scene.generation_id)
    job = state.jobs.get(scene.generation_id)
    after = replace(scene, state=state)
    if job is not None and job.status == "pending" and scene.status != "pending":
        after = replace(after, active=None, began=None, rate=None)  # tried again
    if job is not None and job.result is not None and job.result.metadata is not None:
        after = replace(after, metadata=job.result.metadata)
    if active is None or active is scene.active:
        return after
    after = replace(
        after,
        active=active,
        partial=active.partial or after.partial,
        metadata=active.metadata or after.metadata,
        stage_1_skipped=active.stage == "audio" and active.metadata is None,
    )
    written_before = 0 if scene.active is None else scene.active.tokens_generated or 0
    return _with_rate(after, written_before, now)


def view(scene: Scene, *, memory: str = "", notice: str = "") -> View:
    """memory: how much is in use, in words. notice: what went wrong with the last click."""
    status, failure = scene.status, scene.failure
    ended = status in ENDED
    return {
        "id": scene.generation_id,
        "status": status,
        "headline": _headline(scene),
        "overall": _overall(scene),
        "eta": "" if ended or scene.active is None else _eta(scene.active.eta_seconds),
        "stages": _stages(scene),
        "chips": _chips(scene),
        "tokens": _tokens(scene),
        "memory": memory,
        **_words(scene),
        "error": "" if failure is None or status == "completed" else failure.error.message,
        "code": "" if failure is None or status == "completed" else failure.error.code,
        "plan": _plan(scene, failure),
        "notice": notice,
        "connection": _connection(scene.state),
        "canCancel": not ended,
        "canRetry": status == "failed" and failure is not None and failure.error.recoverable,
        "summary": _summary(scene),
    }


def _with_rate(scene: Scene, written_before: int, now: float) -> Scene:
    """Where tokens came; what follows the writing takes nothing from its rate."""
    tokens = 0 if scene.active is None else scene.active.tokens_generated or 0
    if tokens in (0, written_before):
        return scene
    if scene.began is None or tokens < scene.began[0]:
        return replace(scene, began=(tokens, now), rate=None)
    count, at = scene.began
    return replace(scene, rate=(tokens - count) / (now - at)) if now - at > 0.5 else scene


def _headline(scene: Scene) -> str:
    if scene.status == "pending":
        ahead = scene.state.positions.get(scene.generation_id, 0)
        return f"{_HEADLINES['pending']}: {ahead} before it" if ahead else _HEADLINES["pending"]
    if scene.status == "processing" and scene.active is not None:
        return scene.active.status
    return _HEADLINES[scene.status]


def _overall(scene: Scene) -> float:
    if scene.status == "completed":
        return 100.0
    known = [scene.job.progress.percentage] if scene.job is not None else []
    known += [scene.active.overall_progress] if scene.active is not None else []
    return round(max(known, default=0.0), 1)


def _stages(scene: Scene) -> list[dict[str, Any]]:
    active, status = scene.active, scene.status
    running: StageState = "stopped" if status in ("failed", "cancelled") else "active"
    lyrics: tuple[float, StageState] = (0.0, "waiting")
    music: tuple[float, StageState] = (0.0, "waiting")
    if status == "completed":
        lyrics = music = (100.0, "done")
    elif active is not None and active.stage == "metadata":
        lyrics = (active.progress, running)
    elif active is not None:
        lyrics = (100.0, "done")
        music = (active.progress, running) if active.stage == "audio" else (0.0, "waiting")
    lyrics_name = "Lyrics (given)" if scene.stage_1_skipped else "Lyrics"
    step = active.current_step if active is not None and lyrics[1] == "active" else None
    part = active.current_instrument if active is not None and music[1] == "active" else None
    return [
        {"name": lyrics_name, "percent": round(lyrics[0], 1), "state": lyrics[1], "step": step or ""},
        {"name": "Music", "percent": round(music[0], 1), "state": music[1], "step": part or ""},
    ]


def _chips(scene: Scene) -> list[dict[str, str]]:
    active = scene.active
    instruments = list(active.instruments) if active is not None else []
    if not instruments and scene.metadata is not None:
        instruments = scene.metadata.instruments
    rendered = active.instruments_completed if active is not None else 0
    chips = []
    for index, instrument in enumerate(instruments):
        state = "waiting"
        if scene.status == "completed" or index < rendered:
            state = "done"
        elif active is not None and active.current_instrument == instrument.name and scene.status == "processing":
            state = "active"
        chips.append({"name": instrument.name, "role": instrument.role, "state": state})
    return chips


def _words(scene: Scene) -> dict[str, str]:
    known: SongMetadata | PartialMetadata = scene.metadata or scene.partial or PartialMetadata()
    facts = [known.genre or "", ", ".join(known.mood or [])]
    if isinstance(known, SongMetadata):
        facts += [f"{known.bpm} bpm", known.key]
    return {
        "title": known.title or "",
        "lyrics": (known.lyrics or "").strip(),
        "facts": " · ".join(fact for fact in facts if fact),
    }


def _tokens(scene: Scene) -> str:
    tokens = scene.active.tokens_generated if scene.active is not None else None
    if not tokens:
        return ""
    # The log's `tokens_per_second` leaves the pauses out: only the model's server knows them, and says so at the end.
    rate = "" if scene.rate is None else f" · {scene.rate:.0f} tokens/s with pauses"
    return f"{tokens} tokens{rate}"


def _plan(scene: Scene, failure: Failure | None) -> str:
    """What is being done about it, or can be."""
    if failure is None or scene.status in ("completed", "pending"):
        return ""
    row = CODES[ErrorCode(failure.error.code)] if failure.error.code in CODES else None
    tried = row.recovery if row is not None else ""
    if scene.status != "failed":
        return f"Trying by itself: {tried}." if tried and scene.status == "processing" else ""
    if not failure.error.recoverable:
        return "Trying again would fail again: change the request first."
    kept = " The finished lyrics are kept." if scene.metadata is not None else ""
    return (f"Tried already: {tried}. " if tried else "") + f"Retry may help.{kept}"


def _summary(scene: Scene) -> str:
    """One line for who does not see the panel."""
    result = scene.state.completed_generations.get(scene.generation_id)
    if scene.status != "completed" or result is None or scene.job is None:
        return ""
    took = (scene.job.updated_at - scene.job.created_at).total_seconds()
    return f"{result.duration:g} s of music, made in {took:.1f} s"


def _connection(state: State) -> str:
    if state.connected or state.connection_error is None:
        return ""
    return f"Not connected ({state.connection_error}); trying again."


def _eta(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if round(seconds) == 0:
        return "nearly done"
    minutes, rest = divmod(round(seconds), 60)
    return f"about {minutes} min {rest} s left" if minutes else f"about {rest} s left"
