"""The guide's nine events: names, fields, types."""

import re

import pytest
from pydantic import ValidationError

from harmonia_lab.protocol import events
from harmonia_lab.protocol.events import EVENTS, LifecycleEvent, ProgressEvent
from harmonia_lab.protocol.models import Instrument, SongMetadata

METADATA = SongMetadata(
    title="T",
    lyrics="la la",
    genre="pop",
    mood=["calm"],
    bpm=90,
    key="C",
    instruments=[Instrument(name="piano", role="chords")],
)
PROGRESS = {"progress": 50, "status": "Mixing audio...", "overall_progress": 75}

EXAMPLES = {
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
}


def test_the_union_has_the_guides_nine_events_and_no_other():
    assert set(EVENTS) == set(GUIDE) == set(EXAMPLES)


@pytest.mark.parametrize("name", sorted(GUIDE))
def test_an_event_has_the_guides_fields_and_reads_back_from_the_wire(name):
    event = EVENTS[name](generation_id="g", **EXAMPLES[name])
    wire = event.to_wire()
    assert GUIDE[name] <= wire.keys()
    assert EVENTS[name].model_validate(wire) == event


def test_dates_are_what_a_javascript_date_prints():
    wire = events.GenerationCancelled(generation_id="g", reason="timeout").to_wire()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", wire["cancelledAt"])


def test_every_event_is_either_lifecycle_or_progress():
    assert {n for n, cls in EVENTS.items() if issubclass(cls, ProgressEvent)} == {
        "metadata-generation-progress",
        "audio-generation-progress",
    }
    assert all(issubclass(cls, ProgressEvent) != issubclass(cls, LifecycleEvent) for cls in EVENTS.values())


@pytest.mark.parametrize("progress", [-0.1, 100.1, float("nan")])
def test_progress_stays_between_0_and_100(progress):
    with pytest.raises(ValidationError):
        events.MetadataGenerationProgress(
            generation_id="g", **PROGRESS | {"progress": progress, "current_step": "title"}
        )
