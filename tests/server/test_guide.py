"""A front end written from the guide alone, with the JavaScript client that it names, works unchanged."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from benchmarks.server.javascript import node_command
from tests.server.conftest import GENERATION, JOB

CLIENT = Path(__file__).with_name("guide_client.cjs")


def run_client(javascript, *arguments):
    done = subprocess.run(
        [*node_command(), str(CLIENT), *arguments],
        env=os.environ | {"NODE_PATH": str(javascript / "node_modules")},
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    return json.loads(done.stdout)


NUMBER, TEXT = (int, float), str
GENERATION_ID = {"generationId": TEXT}
INTERFACES = {
    "metadata-generation-started": GENERATION_ID
    | {"userId": TEXT, "narrative": TEXT, "timestamp": TEXT, "model": TEXT},
    "metadata-generation-progress": GENERATION_ID | {"progress": NUMBER, "status": TEXT, "currentStep": TEXT},
    "metadata-generation-complete": GENERATION_ID | {"metadata": dict, "duration": NUMBER},
    "audio-generation-started": GENERATION_ID
    | {"songId": TEXT, "instruments": list, "duration": NUMBER, "bpm": NUMBER},
    "audio-generation-progress": GENERATION_ID
    | {"progress": NUMBER, "status": TEXT, "instrumentsCompleted": int, "totalInstruments": int},
    "audio-generation-complete": GENERATION_ID
    | {"songId": TEXT, "audioUrl": TEXT, "duration": NUMBER, "fileSize": int, "checksum": TEXT},
    "job:status": {"id": TEXT, "status": TEXT},
    "job:progress": {"id": TEXT, "progress": dict},
    "job:completed": {"job": dict},
}
"""Event → field → type, as the guide has them."""

METADATA = {"title": TEXT, "lyrics": TEXT, "genre": TEXT, "mood": list, "syllableCount": int, "wordCount": int}


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_it_sees_every_event_of_the_guide_in_order_with_the_guides_fields(server, javascript, transport):
    heard = run_client(javascript, server.url, server.token("ann"), transport, "test-gen-123")["heard"]
    lifecycle = [(n, e["seq"]) for n, e in heard if n in dict(GENERATION) and not n.endswith("progress")]
    assert lifecycle == GENERATION
    jobs = [(n, e["seq"]) for n, e in heard if n.startswith("job:") and n != "job:progress"]
    assert jobs == JOB
    assert {name for name, _ in heard} == set(INTERFACES)
    for name, event in heard:
        for field, kind in INTERFACES[name].items():
            assert isinstance(event[field], kind), (name, field)
        if name.endswith("progress") and not name.startswith("job:"):
            assert 0 <= event["progress"] <= 100
    events = dict(heard)
    for field, kind in METADATA.items():
        assert isinstance(events["metadata-generation-complete"]["metadata"][field], kind), field
    assert events["job:completed"]["job"]["result"]["outputPath"] == events["audio-generation-complete"]["audioUrl"]


@pytest.mark.parametrize("transport", ["websocket", "polling"])
@pytest.mark.parametrize("token", ["", "junk"])
def test_a_bad_token_is_a_connect_error_with_its_reason(server, javascript, transport, token):
    answer = run_client(javascript, server.url, token, transport, "g")
    assert answer["heard"] == []
    assert "oken" in answer["error"]
    assert answer["data"]["code"] == "UNAUTHORIZED"
