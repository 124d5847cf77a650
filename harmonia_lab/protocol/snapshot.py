"""The state of a generation, as a client gets it that joins.

Owns that message, which is no event and no command; `events/state.py` makes it.
"""

from __future__ import annotations

from typing import Literal

from harmonia_lab.protocol.events import AudioGenerationProgress, MetadataGenerationProgress, StageName
from harmonia_lab.protocol.models import AccessRole, Job, JobStatus, Share, WireModel
from harmonia_lab.protocol.text import Told

__all__ = ["LastProgress", "Snapshot"]


class LastProgress(WireModel):
    """The latest progress event."""

    event: Literal["metadata-generation-progress", "audio-generation-progress"]
    """The event's name."""
    data: MetadataGenerationProgress | AudioGenerationProgress
    """The event's payload."""


class Snapshot(WireModel):
    """The state of a generation."""

    generation_id: Told
    """The generation's id."""
    status: JobStatus
    """The current status."""
    stage: StageName
    """The current stage."""
    seq: int
    """The number of the last lifecycle event of the generation family."""
    job_seq: int
    """The number of the last lifecycle event of the job family."""
    job: Job
    """The job as it is now."""
    progress: LastProgress | None = None
    """The latest progress event; absent before the first."""
    access: AccessRole | None = None
    """As what the receiver may use the generation; absent from servers that know no shares."""
    shares: list[Share] | None = None
    """With whom it is shared; for its owner and admins only."""
