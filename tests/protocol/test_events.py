"""What the server says: the guide's thirteen events and our four, by name, field and type."""

import re
from typing import get_args

import pytest
from pydantic import ValidationError

from harmonia_lab.protocol import events
from harmonia_lab.protocol.events import EVENTS, for_admin, linked, rooms_of
from harmonia_lab.protocol.models import Instrument, Job, JobProgress, JobResult, Share, SongMetadata, utc_now

METADATA = SongMetadata(
    title="T",
    lyrics="la la",
    genre="pop",
    mood=["calm"],
    bpm=90,
    key="C",
    instruments=[Instrument(name="piano", role="chords")],
)
JOB = Job(
    id="g",
    user_id="ann",
    status="completed",
    created_at=utc_now(),
    updated_at=utc_now(),
    result=JobResult(output_path="file:///song.flac", metadata=METADATA),
)
PROGRESS = {"progress": 50, "status": "Mixing audio...", "overall_progress": 75}

GENERATION_EXAMPLES = {
    "metadata-generation-started": {"user_id": "ann", "narrative": "n", "model": "m"},
    "metadata-generation-progress": PROGRESS | {"current_step": "lyrics", "tokens_generated": 3},
    "metadata-generation-complete": {"metadata": METADATA, "duration": 1200},
    "audio-generation-started": {"song_id": "s", "instruments": METADATA.instruments, "duration": 20, "bpm": 90},
    "audio-generation-progress": PROGRESS
    | {"current_instrument": "piano", "instruments_completed": 0, "total_instruments": 1},
    "audio-generation-complete": {
        "song_id": "s",
        "audio_url": "u",
        "duration": 20,
        "file_size": 1,
        "checksum": "a" * 64,
    },
    "generation-error": {
        "error": events.ErrorInfo(code="INTERNAL", message="m", recoverable=False),
        "stage": "audio",
        "final": True,
    },
    "generation-cancelled": {"reason": "timeout"},
    "generation-timeout": {"stage": "metadata", "timeout_after": 600},
    "audio-preview": {"index": 0, "start_seconds": 0, "mime_type": "audio/wav", "audio": b"RIFF\xff\x00"},
}

EXAMPLES = {
    **{name: EVENTS[name](generation_id="g", seq=3, **fields) for name, fields in GENERATION_EXAMPLES.items()},
    "job:status": events.JobStatusEvent(id="g", status="pending", job=JOB, position=2, eta_seconds=30.5),
    "job:progress": events.JobProgressEvent(
        id="g", progress=JobProgress(current=50, percentage=50.5, message="m"), tick=4
    ),
    "job:completed": events.JobCompletedEvent(job=JOB, seq=3),
    "job:failed": events.JobFailedEvent(id="g", error="e", code="INTERNAL", recoverable=False),
    "server-hello": events.ServerHello(
        protocol_version="1.0", features=["replay"], user=events.User(id="ann", roles=[])
    ),
    "token-expiring": events.TokenExpiring(expires_at=utc_now()),
    "generation-shared": events.GenerationShared(
        generation_id="g", access="owner", shares=[Share(user_id="bob", role="viewer")]
    ),
}

GUIDE = {
    "metadata-generation-started": {"generationId", "userId", "narrative", "timestamp", "model"},
    "metadata-generation-progress": {"generationId", "progress", "status", "currentStep", "tokensGenerated"},
    "metadata-generation-complete": {"generationId", "metadata", "duration"},
    "audio-generation-started": {"generationId", "songId", "instruments", "duration", "bpm"},
    "audio-generation-progress": {
        "generationId",
        "progress",
        "status",
        "currentInstrument",
        "instrumentsCompleted",
        "totalInstruments",
    },
    "audio-generation-complete": {"generationId", "songId", "audioUrl", "duration", "fileSize", "checksum"},
    "generation-error": {"generationId", "error", "stage"},
    "generation-cancelled": {"generationId", "reason", "cancelledAt"},
    "generation-timeout": {"generationId", "stage", "timeoutAfter"},
    "job:status": {"id", "status"},
    "job:progress": {"id", "progress"},
    "job:completed": {"job"},
    "job:failed": {"id", "error"},
}

OURS = {"audio-preview", "server-hello", "token-expiring", "generation-shared"}


def test_the_union_has_the_guides_events_and_ours_and_no_other():
    assert set(EVENTS) == set(GUIDE) | OURS == set(EXAMPLES)
    assert {cls.name for cls in get_args(events.GenerationEvent)} <= set(GUIDE)
    assert len(get_args(events.GenerationEvent)) == 9


@pytest.mark.parametrize("name", sorted(GUIDE))
def test_an_event_has_the_guides_fields(name):
    assert GUIDE[name] <= EXAMPLES[name].to_wire().keys()


def test_a_job_has_the_fields_that_the_guides_pages_read():
    wire = EXAMPLES["job:completed"].to_wire()["job"]
    assert {"id", "userId", "jobType", "status", "progress", "createdAt", "updatedAt", "result"} == wire.keys()
    assert {"current", "total", "percentage", "message"} == wire["progress"].keys()
    assert wire["result"]["outputPath"] == "file:///song.flac"


def test_dates_are_what_a_javascript_date_prints():
    wire = events.GenerationCancelled(generation_id="g", reason="timeout").to_wire()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", wire["cancelledAt"])


def test_each_event_has_one_way_of_delivery():
    by_delivery = {}
    for name, cls in EVENTS.items():
        by_delivery.setdefault(cls.delivery, set()).add(name)
    progress = {"metadata-generation-progress", "audio-generation-progress", "job:progress"}
    assert by_delivery == {
        "lifecycle": set(GUIDE) - progress,
        "progress": progress,
        "preview": {"audio-preview"},
        "direct": {"server-hello", "token-expiring", "generation-shared"},
    }


def test_each_family_goes_to_the_rooms_of_the_guide():
    assert rooms_of(EXAMPLES["generation-error"], "ann") == ("generation-g",)
    assert rooms_of(EXAMPLES["job:completed"], "ann") == ("job:g", "user:ann:jobs", "admin:jobs")


def test_links_are_made_anew_and_only_where_there_is_a_song():
    assert linked(EXAMPLES["audio-generation-complete"], "https://x").audio_url == "https://x"
    assert linked(EXAMPLES["job:completed"], "https://x").job.result.output_path == "https://x"
    assert JOB.model_copy(update={"result": JobResult(error="e")}).linked("https://x").result.output_path is None
    for name in EXAMPLES.keys() - {"audio-generation-complete", "job:completed"}:
        assert linked(EXAMPLES[name], "https://x") is EXAMPLES[name]


def test_an_admin_reads_no_word_of_a_story_or_song():
    secret = METADATA.model_copy(update={"title": "SECRET", "lyrics": "SECRET"})
    job = JOB.model_copy(update={"result": JobResult(output_path="u", metadata=secret)})
    for event in (events.JobCompletedEvent(job=job), events.JobStatusEvent(id="g", status="pending", job=job)):
        assert "SECRET" in str(event.to_wire())
        assert "SECRET" not in str(for_admin(event).to_wire())


@pytest.mark.parametrize("progress", [-0.1, 100.1, float("nan")])
def test_progress_stays_between_0_and_100(progress):
    with pytest.raises(ValidationError):
        events.MetadataGenerationProgress(
            generation_id="g", **PROGRESS | {"progress": progress, "current_step": "title"}
        )
