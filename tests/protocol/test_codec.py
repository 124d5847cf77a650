"""Names and plain values on one side, models on the other; and nothing but InvalidRequest for what is no message."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonia_lab.errors import CODES, ErrorCode, InvalidRequest, Refused
from harmonia_lab.protocol.codec import decode, error_ack
from harmonia_lab.protocol.commands import COMMANDS
from harmonia_lab.protocol.event_codec import decode_event, encode
from tests.protocol.test_events import EXAMPLES

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = sorted({name for cls in COMMANDS.values() for f, info in cls.model_fields.items() for name in (f, info.alias)})
PAYLOAD = JSON | st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_event_reads_back_from_the_wire(name):
    said, payload = encode(EXAMPLES[name])
    if name != "audio-preview":
        payload = json.loads(json.dumps(payload, allow_nan=False))
    assert said == name
    assert decode_event(said, payload) == EXAMPLES[name]


def test_audio_travels_as_bytes_beside_the_json():
    assert encode(EXAMPLES["audio-preview"])[1]["audio"] == b"RIFF\xff\x00"


@pytest.mark.parametrize(
    ("name", "arguments", "read"),
    [
        ("join-generation", ("gen-123",), {"generation_id": "gen-123", "after_seq": None}),
        ("join-generation", ({"generationId": "g", "afterSeq": 0},), {"generation_id": "g", "after_seq": 0}),
        ("leave-generation", ("g",), {"generation_id": "g"}),
        ("leave-generation", ({"generationId": "g", "unknown": 1},), {"generation_id": "g"}),
        ("cancel-generation", ({"generationId": "g"},), {"generation_id": "g"}),
        ("retry-generation", ({"generationId": "g"},), {"generation_id": "g"}),
        ("job:subscribe", ({"jobId": "g", "afterSeq": 7},), {"job_id": "g", "after_seq": 7}),
        ("job:unsubscribe", ({"jobId": "g"},), {"job_id": "g"}),
        ("jobs:subscribe:user", (), {}),
        ("jobs:unsubscribe:user", (None,), {}),
        ("jobs:subscribe:admin", ({},), {}),
        ("jobs:unsubscribe:admin", (), {}),
        ("refresh-token", ({"token": "t"},), {"token": "t"}),
    ],
)
def test_each_message_is_read(name, arguments, read):
    command = decode(name, *arguments)
    assert (command.name, command.model_dump()) == (name, read)


def test_every_message_has_an_answer_and_is_documented():
    assert all(cls.ack.__doc__ and cls.__doc__ for cls in COMMANDS.values())


def test_a_song_is_asked_for_as_a_request_with_bare_instruments():
    command = decode("start-generation", {"narrative": " A story. ", "instruments": ["bass"], "generationId": "mine"})
    assert (command.narrative, command.generation_id) == ("A story.", "mine")
    assert command.instruments[0].name == "bass guitar"


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("join", (), "no such message"),
        ("join-generation", (), "should be an object"),
        ("join-generation", ("a", "b"), "one payload, not 2"),
        ("join-generation", ("../../etc/passwd",), "pattern"),
        ("join-generation", ("x" * 1_000_000,), "pattern"),
        ("join-generation", ({"generationId": "g", "afterSeq": -1},), "afterSeq"),
        ("join-generation", ({"generationId": "g", "afterSeq": True},), "afterSeq"),
        ("join-generation", ({"generationId": "g", "afterSeq": "1"},), "afterSeq"),
        ("join-generation", ({"generationId": "g", "afterSeq": 2**53},), "afterSeq"),
        ("cancel-generation", ("g",), "should be an object"),
        ("jobs:subscribe:user", ("ann",), "no payload"),
        ("refresh-token", ({"token": "t" * 8193},), "8192"),
        ("start-generation", ({},), "narrative is empty"),
        ("start-generation", ({"metadata": {"mood": [1] * 5}},), "and "),
    ],
)
def test_what_is_no_message_is_answered_with_what_is_wrong(name, arguments, says):
    with pytest.raises(InvalidRequest) as caught:
        decode(name, *arguments)
    assert caught.value.code is ErrorCode.INVALID_PAYLOAD
    assert says in str(caught.value)


@settings(max_examples=500)
@given(st.sampled_from(sorted(COMMANDS)), st.lists(PAYLOAD, max_size=2))
def test_nothing_that_a_client_sends_raises_anything_else(name, arguments):
    try:
        answer = decode(name, *arguments).to_wire()
    except InvalidRequest as error:
        answer = error_ack(error)
    assert len(json.dumps(answer, allow_nan=False)) < 4000


@given(st.sampled_from(sorted(EXAMPLES)) | st.text(max_size=20), PAYLOAD)
def test_a_client_survives_a_server_that_talks_nonsense(name, payload):
    with pytest.raises(InvalidRequest):
        decode_event(name, payload)


def test_an_error_is_told_with_its_code_and_whether_a_retry_can_help():
    error = Refused("Too fast.", code=ErrorCode.RATE_LIMITED, hint="Wait 2 s.", details={"retryAfter": 2})
    assert error_ack(error) == {
        "ok": False,
        "error": {
            "code": "RATE_LIMITED",
            "message": "Too fast. Wait 2 s.",
            "details": {"retryAfter": 2},
            "recoverable": CODES[ErrorCode.RATE_LIMITED].recoverable,
        },
    }
