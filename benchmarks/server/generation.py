"""A generation of which only the events are real: they are journalled, numbered and sent, but no song is made.

Owns the events that both server benchmarks publish. Each progress event's status carries the publisher's time stamp, in
nanoseconds of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harmonia_lab.protocol.events import (
    AudioGenerationProgress,
    AudioGenerationStarted,
    MetadataGenerationComplete,
    MetadataGenerationStarted,
)
from harmonia_lab.protocol.models import Job, SongRequest, utc_now

if TYPE_CHECKING:
    from harmonia_lab.events.event_log import EventLog
    from harmonia_lab.lab import Lab

__all__ = ["FIRST_TICK", "GENERATION", "begin", "progress", "scratch_lab", "stamp"]

GENERATION = "bench"
FIRST_TICK = 100_000
"""Six digits, so that every event has the same number of bytes."""

STORY = "A song that is never finished."


@contextmanager
def scratch_lab(*, redis: str | None = None, steps: int = 5, step_s: float = 0.0) -> Iterator[Lab]:
    """Yield a lab in a temporary folder. redis: shared with other servers. steps, step_s: of stage 1, seconds each."""
    # It takes a second to import, and the other servers of `make bench-fanout` don't need it.
    from harmonia_lab.lab import Lab  # noqa: PLC0415
    from harmonia_lab.testing import FakeAudioEngine, FakeMetadataEngine  # noqa: PLC0415

    engine = FakeMetadataEngine(steps=steps, step_s=step_s)
    with (
        tempfile.TemporaryDirectory(prefix="harmonia-bench-") as scratch,
        Lab(metadata=engine, audio=FakeAudioEngine(), songs=Path(scratch) / "songs", home=scratch, redis=redis) as lab,
    ):
        yield lab


def begin(lab: Lab) -> EventLog:
    """Publish the lifecycle events that lead into stage 2, for the user "local"; return the event log."""
    from harmonia_lab.events.event_log import EventLog  # noqa: PLC0415 - as in `scratch_lab`
    from harmonia_lab.events.state import Cursor, new_state  # noqa: PLC0415 - as above
    from harmonia_lab.testing import SONG_METADATA  # noqa: PLC0415 - as above

    now = utc_now()
    job = Job(id=GENERATION, user_id="local", created_at=now, updated_at=now)
    request = SongRequest(narrative=STORY, generation_id=GENERATION)
    lab.journal.begin(job, request)
    # The event log numbers progress itself: the first one must get the number that the subscribers wait for.
    state = replace(new_state(job, request), generation_cursor=Cursor(tick=FIRST_TICK - 1))
    log = EventLog(state, lab.journal, lab.events)
    log.queued(0, 1.0)
    same = {"generation_id": GENERATION}
    log(MetadataGenerationStarted(**same, user_id="local", narrative=STORY, model="none"))
    log(MetadataGenerationComplete(**same, metadata=SONG_METADATA, duration=1.5))
    song = {"song_id": GENERATION, "instruments": SONG_METADATA.instruments, "duration": 20.0, "bpm": 96.0}
    log(AudioGenerationStarted(**same, **song))
    return log


def progress(tick: int) -> AudioGenerationProgress:
    """Return a progress event of stage 2. Its numbers look the same in Python's and JavaScript's JSON."""
    return AudioGenerationProgress(
        generation_id=GENERATION,
        seq=3,
        tick=tick,
        progress=37.5,
        status=stamp(),
        overall_progress=58.25,
        eta_seconds=12.5,
        current_instrument="acoustic guitar",
        instruments_completed=2,
        total_instruments=5,
    )


def stamp() -> str:
    return f"Rendering instruments... @{time.monotonic_ns():020d}"
