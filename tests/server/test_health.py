"""`/readyz` says whether sockets can be served; the engines' state is told beside it and never waited for."""

import json
import os
import threading

import pytest

from harmonia_lab.errors import ErrorCode, HarmoniaError, MetadataError
from harmonia_lab.protocol.events import AudioGenerationComplete, ErrorInfo, GenerationError
from harmonia_lab.server import health
from harmonia_lab.server.descriptors import Descriptors
from harmonia_lab.server.health import ENGINES_KEPT_S, Health
from tests.server.conftest import serving
from tests.server.engines import make_lab
from tests.server.test_http import call
from tests.waiting import until


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def lab(tmp_path):
    with make_lab(tmp_path) as lab:
        lab.asked = 0
        lab.answer = None

        def language_models(timeout_s):
            lab.asked += 1
            if lab.answer is not None:
                raise lab.answer
            return ()

        lab.language_models = language_models
        yield lab


def state(one, stage):
    return next(each.state for each in one.engines() if each.stage == stage)


def test_it_is_ready_with_a_journal_room_and_descriptors(lab, clock):
    one = Health(lab, Descriptors(), clock)
    assert one.readiness() == (None, {"journal": "ok", "disk": "ok", "descriptors": "ok"})


def test_a_full_disk_and_a_damaged_journal_each_make_it_unready(lab, clock, monkeypatch):
    one = Health(lab, Descriptors(), clock)
    monkeypatch.setattr(health, "SMALLEST_FREE", 2**70)
    assert one.readiness().code is ErrorCode.STORAGE_FULL
    monkeypatch.undo()
    assert one.readiness().code is ErrorCode.STORAGE_FULL  # the answer holds for a second
    clock.now += 2
    assert one.readiness().code is None
    lab.journal.close()
    clock.now += 2
    assert one.readiness().checks["journal"].startswith("STORAGE")


def test_scarce_descriptors_make_it_unready(lab, clock):
    descriptors = Descriptors()
    descriptors.limit = os.dup(0) + 2
    os.close(descriptors.limit - 2)
    assert Health(lab, descriptors, clock).readiness().checks["descriptors"] == "RATE_LIMITED"


def test_engines_are_asked_every_five_seconds_at_most_and_in_a_thread(lab, clock):
    one = Health(lab, Descriptors(), clock)
    until(lambda: state(one, "metadata") == "ready")
    assert lab.asked == 1
    lab.answer = MetadataError("It is gone.", code=ErrorCode.OLLAMA_UNAVAILABLE)
    assert state(one, "metadata") == "ready"
    clock.now += ENGINES_KEPT_S
    one.engines()
    until(lambda: state(one, "metadata") == "OLLAMA_UNAVAILABLE")
    assert lab.asked == 2


def test_an_engine_that_hangs_holds_up_no_answer(lab, clock):
    hang = threading.Event()
    lab.language_models = lambda _: hang.wait(60)
    one = Health(lab, Descriptors(), clock)
    for _ in range(3):
        assert state(one, "metadata") == "unknown"
        clock.now += ENGINES_KEPT_S
    assert sum(thread.name == "harmonia-health" for thread in threading.enumerate()) == 1
    hang.set()
    one.close()


def test_stage_two_is_known_by_its_songs(lab, clock):
    one = Health(lab, Descriptors(), clock)
    gone = ErrorInfo.of(HarmoniaError("no weights", code=ErrorCode.MUSICGEN_UNAVAILABLE))
    one(GenerationError(generation_id="g", error=gone, stage="audio", final=True))
    assert state(one, "audio") == "MUSICGEN_UNAVAILABLE"
    done = {"song_id": "s", "audio_url": "u", "duration": 1, "file_size": 1, "checksum": "0" * 64}
    one(AudioGenerationComplete(generation_id="g", **done))
    assert state(one, "audio") == "ready"


def test_a_server_that_cannot_serve_says_503_and_why_while_its_engines_change_nothing(tmp_path, monkeypatch):
    with serving(tmp_path) as server:

        def gone(timeout_s):
            raise MetadataError("It is gone.", code=ErrorCode.OLLAMA_UNAVAILABLE)

        monkeypatch.setattr(server.lab, "language_models", gone)
        monkeypatch.setattr(health, "ENGINES_KEPT_S", 0.0)
        monkeypatch.setattr(health, "READY_S", 0.0)

        def ready():
            status, _, body = call(server, "GET", "/readyz", user=None)
            return status, json.loads(body)

        until(lambda: ready()[1]["engines"]["metadata"]["state"] == "OLLAMA_UNAVAILABLE")
        assert ready()[0] == 200
        assert 'harmonia_engine_ready{stage="metadata",engine="fake"} 0.0' in server.lab.metrics.text()
        monkeypatch.setattr(health, "SMALLEST_FREE", 2**70)
        status, body = ready()
        assert (status, body["status"], body["error"]["code"]) == (503, "unavailable", "STORAGE_FULL")
        assert body["error"]["message"] == "This server can't serve for now: disk."
        assert body["checks"] == {"journal": "ok", "disk": "STORAGE_FULL", "descriptors": "ok"}
        assert "harmonia_ready 0.0" in server.lab.metrics.text()
        assert str(tmp_path) not in json.dumps(body)
