"""The description is true: what we send fits it, what fits it is taken; and it leaves no field unexplained."""

import json

import jsonschema
import pytest

from harmonia_lab.errors import CODES, InvalidRequest
from harmonia_lab.protocol.codec import decode, error_ack
from harmonia_lab.protocol.commands import COMMANDS, JobsAck, JoinAck
from harmonia_lab.protocol.event_codec import encode
from harmonia_lab.protocol.schema import describe
from harmonia_lab.protocol.snapshot import LastProgress, Snapshot
from tests.protocol.test_events import EXAMPLES, JOB

PROTOCOL = describe()


def fits(name, value):
    schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": PROTOCOL["schemas"]}}
    jsonschema.Draft202012Validator(schema).validate(value)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_what_we_send_is_what_the_schema_says(name):
    schema = PROTOCOL["schemas"][PROTOCOL["events"][name]["payload"]]
    payload = encode(EXAMPLES[name])[1]
    if name == "audio-preview":
        payload["audio"] = "bytes"
    fits(PROTOCOL["events"][name]["payload"], payload)
    assert payload.keys() <= schema["properties"].keys()


def test_the_answers_are_what_the_schema_says():
    progress = LastProgress(event="audio-generation-progress", data=EXAMPLES["audio-generation-progress"])
    snapshot = Snapshot(
        generation_id="g", status="processing", stage="audio", seq=3, job_seq=2, job=JOB, progress=progress
    )
    wire = JoinAck(generation_id="g", snapshot=snapshot, replayed=2).to_wire()
    fits("JoinAck", wire)
    assert wire["snapshot"]["progress"]["data"]["currentInstrument"] == "piano"
    fits("JoinAck", JoinAck(generation_id="g", replayed=0).to_wire())
    fits("JobsAck", JobsAck(jobs=[JOB]).to_wire())
    fits("ErrorAck", error_ack(InvalidRequest("no")))


def test_a_request_that_fits_the_schema_is_taken():
    metadata = {k: v for k, v in JOB.result.metadata.to_wire().items() if not k.endswith("Count")}
    asked = {"narrative": "n", "instruments": ["piano", {"name": "bass guitar", "role": "bass"}], "metadata": metadata}
    fits("StartGeneration", asked)
    assert decode("start-generation", json.loads(json.dumps(asked))).metadata.title == "T"


def test_counts_are_promised_in_metadata_that_comes_and_not_asked_for_in_metadata_that_goes():
    assert "syllableCount" in PROTOCOL["schemas"]["SongMetadata"]["required"]
    assert "syllableCount" not in PROTOCOL["schemas"]["SongMetadataInput"]["properties"]


def test_durations_say_their_unit():
    schemas = PROTOCOL["schemas"]
    assert "Milliseconds" in schemas["MetadataGenerationCompleteEvent"]["properties"]["duration"]["description"]
    assert "Seconds" in schemas["AudioGenerationCompleteEvent"]["properties"]["duration"]["description"]
    assert "Seconds" in schemas["AudioGenerationStartedEvent"]["properties"]["duration"]["description"]


def test_every_message_and_every_field_is_explained():
    assert all(entry["description"] for entry in [*PROTOCOL["events"].values(), *PROTOCOL["commands"].values()])
    silent = {
        f"{name}.{field}"
        for name, schema in PROTOCOL["schemas"].items()
        for field, inner in schema["properties"].items()
        if not inner.get("description")
    }
    assert silent == set()


def test_it_names_every_command_and_every_error():
    assert PROTOCOL["commands"].keys() == COMMANDS.keys()
    assert PROTOCOL["errors"].keys() == {code.value for code in CODES}
