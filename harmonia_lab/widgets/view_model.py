"""What a panel shows of one generation: turns its state into one small JSON value.

Owns every word and number on a panel. It draws nothing and imports no widget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from harmonia_lab.client.store import GenerationAccess
from harmonia_lab.errors import CODES, ErrorCode
from harmonia_lab.events.state import Failure, GenerationState
from harmonia_lab.protocol.events import PartialMetadata
from harmonia_lab.protocol.models import ENDED, JobStatus, SongMetadata
from harmonia_lab.protocol.sound import given_note

__all__ = ["TokenRate", "View", "view"]

View = dict[str, Any]
"""JSON values under the names that `panel.js` reads. Words are complete, and must be shown as text, not as HTML."""

StageState = Literal["waiting", "active", "done", "stopped"]

_HEADLINES: dict[JobStatus, str] = {
    "pending": "Waiting for its turn",
    "processing": "Starting...",
    "completed": "Done",
    "failed": "Failed",
    "cancelled": "Cancelled",
}


@dataclass(frozen=True)
class TokenRate:
    """How fast stage 1 writes by the wall clock, pauses between the model's answers included.

    began: tokens and seconds at the first progress event with tokens. tokens: those of the latest one. per_second:
    tokens a second since `began`.
    """

    began: tuple[int, float] | None = None
    tokens: int = 0
    per_second: float | None = None

    def after(self, state: GenerationState, now: float) -> TokenRate:
        """Return the rate after `state`. now: seconds of a monotonic clock."""
        tokens = state.writing.tokens_generated if state.writing is not None else None
        if state.status == "pending" or not tokens:
            return TokenRate()
        if tokens == self.tokens:  # time after the last token must not lower the rate
            return self
        if self.began is None or tokens < self.began[0]:
            return TokenRate((tokens, now), tokens)
        count, at = self.began
        per_second = (tokens - count) / (now - at) if now - at > 0.5 else self.per_second
        return TokenRate(self.began, tokens, per_second)


def view(
    state: GenerationState,
    *,
    connection: str = "",
    rate: TokenRate | None = None,
    memory: str = "",
    notice: str = "",
    sharing: GenerationAccess | None = None,
) -> View:
    """Return what a panel shows.

    connection: why there is none; empty if there is one. memory: use of memory, in words. notice: why the last click
    failed. sharing: who may use the generation; None: the reader may do everything.
    """
    status, failure = state.status, _failure(state)
    controls = sharing is None or sharing.access in ("owner", "admin", "controller")
    ended = status in ENDED
    return {
        "id": state.id,
        "status": status,
        "headline": _headline(state),
        "overall": _overall(state),
        "eta": "" if ended or state.progress is None else _eta(state.progress.eta_seconds),
        "stages": _stages(state),
        "chips": _chips(state),
        "tokens": _tokens(state, rate),
        "memory": memory,
        **_words(state),
        "error": "" if failure is None else failure.error.message,
        "code": "" if failure is None else failure.error.code,
        "plan": _plan(state, failure),
        "notice": notice,
        "connection": f"Not connected ({connection}); trying again." if connection else "",
        "shared": _shared(sharing),
        "canCancel": controls and not ended,
        "canRetry": controls and status == "failed" and failure is not None and failure.error.recoverable,
        "summary": _summary(state),
        "heard": _heard(state),
        "picture": _picture(state),
    }


def _shared(sharing: GenerationAccess | None) -> str:
    if sharing is None:
        return ""
    if sharing.access is None:
        return "No longer shared with you."
    if sharing.access in ("viewer", "controller"):
        return f"Shared with you as {sharing.access}."
    with_whom = ", ".join(f"{share.user_id} ({share.role})" for share in sharing.shares)
    return f"Shared with {with_whom}." if with_whom else ""


def _failure(state: GenerationState) -> Failure | None:
    """Return the failure that ended the generation or is being recovered from; a user's cancel is none."""
    failure = state.failure
    if failure is None or failure.error.code == ErrorCode.CANCELLED or state.status == "completed":
        return None
    return failure


def _started(state: GenerationState) -> bool:
    """Return whether this attempt has started."""
    return state.started_at is not None and state.status != "pending"


def _headline(state: GenerationState) -> str:
    if state.status == "pending":
        return _HEADLINES["pending"] + (f": {state.position} before it" if state.position else "")
    if state.status == "processing" and _started(state):
        return state.stage_progress[1]
    return _HEADLINES[state.status]


def _overall(state: GenerationState) -> float:
    if state.status == "completed":
        return 100.0
    known = [state.job.progress.percentage] if state.job is not None else []
    known += [state.progress.overall_progress] if state.progress is not None else []
    return round(max(known, default=0.0), 1)


def _stages(state: GenerationState) -> list[dict[str, Any]]:
    begun, status = _started(state), state.status
    running: StageState = "stopped" if status in ("failed", "cancelled") else "active"
    lyrics: tuple[float, StageState] = (0.0, "waiting")
    music: tuple[float, StageState] = (0.0, "waiting")
    if status == "completed":
        lyrics = music = (100.0, "done")
    elif begun and state.active_stage == "metadata":
        lyrics = (state.stage_progress[0], running)
    elif begun:
        lyrics = (100.0, "done")
        if state.stage == "audio":
            music = (state.stage_progress[0], running)
    given = begun and state.stage == "audio" and not state.metadata_complete
    step = state.writing.current_step if state.writing is not None and lyrics[1] == "active" else None
    part = state.rendering.current_instrument if state.rendering is not None and music[1] == "active" else None
    stages = (("Lyrics (given)" if given else "Lyrics", lyrics, step), ("Music", music, part))
    return [
        {"name": name, "percent": round(percent, 1), "state": stage_state, "step": current or ""}
        for name, (percent, stage_state), current in stages
    ]


def _chips(state: GenerationState) -> list[dict[str, str]]:
    begun, rendering = _started(state), state.rendering
    instruments = list(state.instruments) if begun else []
    if not instruments and state.metadata is not None:
        instruments = state.metadata.instruments
    rendered = rendering.instruments_completed if rendering is not None and begun else 0
    playing = rendering.current_instrument if rendering is not None and state.status == "processing" else None
    chips = []
    for index, instrument in enumerate(instruments):
        chip = "waiting"
        if state.status == "completed" or index < rendered:
            chip = "done"
        elif instrument.name == playing:
            chip = "active"
        chips.append({"name": instrument.name, "role": instrument.role, "state": chip})
    return chips


def _words(state: GenerationState) -> dict[str, str]:
    partial = state.writing.partial if state.writing is not None else None
    known: SongMetadata | PartialMetadata = state.metadata or partial or PartialMetadata()
    facts = [_draft(state, known), known.genre or "", ", ".join(known.mood or [])]
    if isinstance(known, SongMetadata):
        facts += [f"{known.bpm} bpm", known.key]
    return {
        "title": known.title or "",
        "lyrics": (known.lyrics or "").strip(),
        "facts": " · ".join(fact for fact in facts if fact),
        "wishes": _wishes(known) if isinstance(known, SongMetadata) else "",
        "warnings": " ".join(known.warnings) if isinstance(known, SongMetadata) else "",
    }


def _draft(state: GenerationState, known: SongMetadata | PartialMetadata) -> str:
    """Return what says that the words may still change, or never were finished."""
    if isinstance(known, SongMetadata) or not (known.title or known.lyrics):
        return ""
    return "Draft, never finished" if state.status in ENDED else "Draft, still being written"


def _wishes(metadata: SongMetadata) -> str:
    marks = {"followed": "", "overruled": " (overruled by an option)", "impossible": " (can't be done)"}
    return ", ".join(f"{wish.value}{marks[wish.outcome]}" for wish in metadata.wishes)


def _tokens(state: GenerationState, rate: TokenRate | None) -> str:
    tokens = state.writing.tokens_generated if state.writing is not None and _started(state) else None
    if not tokens:
        return ""
    # The run log's `tokens_per_second` leaves pauses out; the model's server reports that figure only at the end.
    speed = f" · {rate.per_second:.0f} tokens/s with pauses" if rate is not None and rate.per_second is not None else ""
    return f"{tokens} tokens{speed}"


def _plan(state: GenerationState, failure: Failure | None) -> str:
    """Return how the failure is being recovered from, or what the user can do."""
    if failure is None or state.status == "pending":
        return ""
    row, told = CODES.get(ErrorCode(failure.error.code)) if failure.error.code in CODES else None, failure.error.details
    tried = row.recovery if row is not None else ""
    if state.status != "failed":
        if state.status == "processing" and told and "action" in told:
            return f"Trying by itself: {told['action']}"
        return f"Trying by itself: {tried}." if tried and state.status == "processing" else ""
    if not failure.error.recoverable:
        return "Trying again would fail again: change the request first."
    kept = " The finished lyrics are kept." if state.metadata is not None else ""
    return (f"Tried already: {tried}. " if tried else "") + f"Retry may help.{kept}"


def _summary(state: GenerationState) -> str:
    """Return one line about the finished song, which its plain outputs show too."""
    if state.status != "completed" or state.song is None or state.job is None:
        return ""
    took = (state.job.updated_at - state.job.created_at).total_seconds()
    return f"{state.song.duration:g} s of music, made in {took:.1f} s"


def _heard(state: GenerationState) -> str:
    """Return what was measured in the finished song beside what was asked, and what of the plan isn't in its sound."""
    song, metadata = state.song, state.metadata
    if state.status != "completed" or song is None or metadata is None:
        return ""
    measured = f"Heard: {song.measured.beside(metadata.bpm, metadata.key)}." if song.measured is not None else ""
    return " ".join(filter(None, [measured, "" if song.follows is None else given_note(song.follows)]))


def _picture(state: GenerationState) -> str:
    """Return what the song's picture shows, for those who don't see it."""
    of = (state.metadata.title if state.metadata is not None else "") or "the song"
    sung = state.song is None or state.song.follows is None or "notes" in state.song.follows
    return f"{'Waveform, sung lines' if sung else 'Waveform'} and spectrogram of {of}"


def _eta(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if round(seconds) == 0:
        return "nearly done"
    minutes, rest = divmod(round(seconds), 60)
    return f"about {minutes} min {rest} s left" if minutes else f"about {rest} s left"
