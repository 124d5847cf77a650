"""Which earlier, failed generation of a row a batch goes on with, instead of beginning anew.

Owns that decision. The journal knows the generation by the folder it was submitted for; `Lab.retry` makes the rest.
"""

from __future__ import annotations

from harmonia_lab.batch.plan import Task
from harmonia_lab.errors import ErrorCode
from harmonia_lab.events.state import GenerationState
from harmonia_lab.generation.artifacts import SongFolder
from harmonia_lab.generation.interrupted import quarantine_error
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.store.journal_core import JournalCore
from harmonia_lab.store.submissions import MAX_DEATHS

__all__ = ["generation_to_resume"]


def generation_to_resume(journal: JournalCore, task: Task, audio: str | None, required: str | None) -> str | None:
    """Return the generation that was last submitted for the task's folder, if another attempt at it makes the task's
    song; else None. audio: the row's engine. required: the engine whose words alone will do.

    Raises HarmoniaError (QUARANTINED) if that generation took its process down twice, StorageError if the journal can't
    be read.
    """
    generation_id = journal.submissions.latest_in(task.folder)
    state = None if generation_id is None else journal.state(generation_id)
    if generation_id is None or state is None or state.status != "failed" or state.failure is None:
        return None
    request = journal.request(generation_id)
    if not _is_same(journal, generation_id, request, task, audio):
        return None
    error = state.failure.error
    if error.code == ErrorCode.QUARANTINED:
        if journal.submissions.deaths(generation_id) >= MAX_DEATHS:
            raise quarantine_error(generation_id)
        return generation_id
    return generation_id if error.recoverable and _has_its_words(task, state, request, required) else None


def _is_same(journal: JournalCore, generation_id: str, request: SongRequest, task: Task, audio: str | None) -> bool:
    """Return whether the generation was submitted as the task would be."""
    asked, before = (each.to_wire() | {"generationId": None} for each in (task.identity.request, request))
    submission, row = journal.submissions.of(generation_id), journal.last_attempt(generation_id)
    engine = task.identity.engines["audio"]
    return (
        asked == before
        and submission is not None
        and (submission.audio, submission.replaces) == (audio, task.replaces)
        and (row.get("audio_engine"), row.get("audio_model")) == (engine["engine"], engine["model"])
    )


def _has_its_words(task: Task, state: GenerationState, request: SongRequest, required: str | None) -> bool:
    """Return whether another attempt's record says who wrote the words. Where only the journal has them, as an older
    version left it, the record would call them given."""
    if request.metadata is not None or state.metadata is None:
        return True
    written = SongFolder(task.folder.parent, state.id, task.folder).written_metadata()
    return written is not None and required in (None, written.name)
