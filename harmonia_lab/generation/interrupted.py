"""How generations of an exited process end: as their files and their log row say, or else as interrupted.

Owns that decision. A song that was whole is published and completed; an attempt whose row is in the run log ends as the
row says, since the row is written once the end is decided; whatever else is interrupted, and can be tried again, unless
it took its process down too often. `store/journal.py` finds the generations.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from harmonia_lab.errors import CODES, AudioError, ErrorCode, HarmoniaError, MetadataError, StorageError
from harmonia_lab.events.event_log import EventLog
from harmonia_lab.events.state import GenerationState
from harmonia_lab.generation.artifacts import SongFolder, load_song, read_record, song_places
from harmonia_lab.generation.verify import check_folder
from harmonia_lab.protocol.events import (
    AudioGenerationComplete,
    ErrorInfo,
    Event,
    FamilyEvent,
    GenerationCancelled,
    GenerationError,
    GenerationTimeout,
    StageName,
)
from harmonia_lab.protocol.models import Song, SongRequest, iso_time
from harmonia_lab.store.journal_core import JournalCore
from harmonia_lab.store.run_log import COLUMNS, RunLog
from harmonia_lab.store.submissions import MAX_DEATHS, Submission

__all__ = ["PROCESS_ENDS", "end_interrupted", "hung_error", "interrupted_error", "quarantine_error", "whole_song"]

_log = logging.getLogger(__name__)


PROCESS_ENDS = threading.Event()
"""Set once this process is about to exit. What fails from then on was interrupted: a renderer that the system or a
Jupyter kernel has killed hasn't failed by itself."""


def interrupted_error() -> HarmoniaError:
    """Return the error of a generation whose process exited before it was done."""
    return HarmoniaError(
        "The process that was making this song ended before it was done.",
        code=ErrorCode.INTERRUPTED,
        hint="Try again: finished work is kept.",
    )


def hung_error(stage: StageName, silent_s: float) -> HarmoniaError:
    """Return the error of a generation whose process was killed because it had been silent for `silent_s` seconds."""
    message = f"Stage {stage} stopped its whole process, which was ended after {silent_s:g} s."
    hint = "Try again: finished work is kept. If it happens again, use another engine or model."
    if stage == "metadata":
        return MetadataError(message, code=ErrorCode.OLLAMA_TIMEOUT, hint=hint)
    return AudioError(message, code=ErrorCode.AUDIO_TIMEOUT, hint=hint)


def quarantine_error(generation_id: str) -> HarmoniaError:
    """Return the error of a generation that took its process down twice."""
    return HarmoniaError(
        f"The process that was making this song died, {MAX_DEATHS} times. The song is in quarantine.",
        code=ErrorCode.QUARANTINED,
        hint="If another cause is known, such as too little memory, mend it, then lift the quarantine: "
        f"`harmonia clean --lift-quarantine {generation_id}`, or lab.retry(…, lift_quarantine=True).",
        details={"deaths": MAX_DEATHS},
    )


def end_interrupted(
    journal: JournalCore,
    run_log: RunLog,
    publish: Callable[[FamilyEvent], object] = lambda _: None,
    error_for: Callable[[GenerationState], HarmoniaError] = lambda _: interrupted_error(),
) -> list[str]:
    """End the generations that exited processes left pending or running; return their ids. publish: gets the events.
    error_for: returns the error of a generation that came to nothing, where the caller knows why its process exited.

    Each has its row in the run log before its last event is in the journal. To be called when a process opens the
    journal, now and then while it has it open, and when a process that it started has exited.
    """
    ended = []
    with journal.ending:  # so that all have ended when this returns, whichever thread did it
        for state in journal.interrupted():
            log = EventLog(state, journal, publish)
            for event in _events_at_the_end(state, journal, run_log, error_for):
                log(event)
            ended.append(state.id)
    return ended


def _events_at_the_end(
    state: GenerationState, journal: JournalCore, run_log: RunLog, error_for: Callable[[GenerationState], HarmoniaError]
) -> list[Event]:
    row: dict[str, Any] = {}
    try:
        row = journal.last_attempt(state.id) or _row_of(state, journal.request(state.id))
        logged = run_log.find(row["run_id"])
        submission = journal.submissions.of(state.id)
        deaths = journal.submissions.deaths(state.id)
    except (StorageError, KeyError) as damage:  # KeyError: the kept row is damaged
        _log.warning("The interrupted generation %s could not be logged. %s", state.id, damage)
        row, logged, submission, deaths = {}, None, None, 0
    if logged is not None and logged["status"] != "completed":
        return _as_logged(state, logged)
    # Of a study's song, the row is what counts, and half of what it measures is gone: the study makes it again.
    song = None if row.get("purpose") == "study" else whole_song(state, submission)
    if song is not None:
        if logged is None and row:
            _add_row(journal, run_log, row | _columns_of(song))
        return [AudioGenerationComplete.of(song)]
    error = quarantine_error(state.id) if deaths >= MAX_DEATHS else error_for(state)
    if logged is None and row:
        _add_row(journal, run_log, row | {"status": "failed", "error_code": error.code, "stage": state.stage})
    return [GenerationError(generation_id=state.id, error=ErrorInfo.of(error), stage=state.stage, final=True)]


def whole_song(state: GenerationState, submission: Submission | None) -> Song | None:
    """Return the generation's song if all its files are there, and put its folder in its place if it isn't yet."""
    if submission is None or state.metadata is None:
        return None
    folder = SongFolder(submission.songs, state.id, submission.out, replaces=submission.replaces)
    try:
        for place in (folder.work, *song_places(submission.songs, state.id, submission.out, state.metadata.title)):
            if not (place / "run.json").exists() or read_record(place).get("generationId") != state.id:
                continue
            if check_folder(place).ok:
                found = folder.publish(state.metadata.title) if place == folder.work else place
                return load_song(found, duration=_seconds(found / "song.flac"))
    except (HarmoniaError, OSError) as error:
        _log.warning("Whether the song of %s was whole is not known. %s", state.id, error)
    return None


def _seconds(path: Path) -> float:
    import soundfile  # noqa: PLC0415 - numpy loads for it

    info = soundfile.info(path)
    return float(info.frames / info.samplerate)


def _columns_of(song: Song) -> dict[str, Any]:
    """Return what a row of the run log says of a song that is done, as far as its record tells."""
    times = {f"{name}_s": seconds for name, seconds in song.timings.items() if f"{name}_s" in COLUMNS}
    audio_s = times.get("audio_s")
    return {
        "status": "completed",
        "stage": "done",
        **times,
        "audio_seconds": song.duration,
        "real_time_factor": None if audio_s is None else round(audio_s / song.duration, 6),
        "directory": song.directory,
        "checksum": song.checksum,
    }


def _as_logged(state: GenerationState, row: dict[str, Any]) -> list[Event]:
    """Return the events that end the generation as its row says."""
    if row["status"] == "cancelled":
        reason: Literal["timeout", "user_cancelled"]
        reason = "timeout" if row["cancel_reason"] == "timeout" else "user_cancelled"
        cancelled = GenerationCancelled(generation_id=state.id, reason=reason)
        told = state.failure is not None and state.failure.error.code.endswith("_TIMEOUT")
        if reason == "user_cancelled" or told:
            return [cancelled]
        limit = row["total_s"] or 0.0
        return [GenerationTimeout(generation_id=state.id, stage=state.stage, timeout_after=limit), cancelled]
    code = ErrorCode(row["error_code"]) if row["error_code"] in CODES else ErrorCode.INTERRUPTED
    error = HarmoniaError(CODES[code].meaning, code=code, hint="The process that was making the song ended then.")
    return [GenerationError(generation_id=state.id, error=ErrorInfo.of(error), stage=state.stage, final=True)]


def _add_row(journal: JournalCore, run_log: RunLog, row: dict[str, Any]) -> None:
    try:
        run_log.append(row)
    except StorageError as error:
        journal.unwritten.add_row(run_log.path, row, error)
    except KeyError as error:  # it has columns of a newer version
        _log.warning("The interrupted generation %s could not be logged. %s", row.get("generation_id"), error)


def _row_of(state: GenerationState, request: SongRequest) -> dict[str, Any]:
    """Return what the journal knows of an attempt that an older version of Harmonia Lab began: not its number."""
    return {
        "run_id": f"{state.id}-interrupted",
        "generation_id": state.id,
        "started_at": iso_time(state.started_at or state.kept_job.created_at),
        "seed": request.seed,
        "narrative_characters": len(request.narrative),
        "seconds_requested": request.seconds,
    }
