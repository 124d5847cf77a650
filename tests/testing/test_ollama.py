"""The fake works with the official client; `metadata_engines/embedded/test_launch.py` compares it with a server."""

import json
import threading

import httpx
import ollama
import pytest

from harmonia_lab.testing import FakeModel, FakeOllama, Reply

ASK = [{"role": "user", "content": "Tell me a story"}]


def client_of(server, **settings):
    return ollama.Client(server.url, trust_env=False, **settings)


def test_answers_come_in_order_and_requests_are_kept():
    with FakeOllama(["Once upon a time", Reply("half", done_reason="length")]) as server, client_of(server) as client:
        first = client.chat(server.model, ASK, options={"seed": 7})
        second = client.chat(server.model, ASK)
    assert first.message.content == "Once upon a time"
    assert first.message.role == "assistant"
    assert first.done_reason == "stop"
    assert first.eval_count == 4
    assert second.done_reason == "length"
    assert [chat.get("options") for chat in server.chats] == [{"seed": 7}, None]


def test_a_function_answers_by_the_request():
    with FakeOllama(lambda body: body["messages"][-1]["content"].upper()) as server, client_of(server) as client:
        assert client.chat(server.model, ASK).message.content == "TELL ME A STORY"


def test_an_answer_is_streamed_in_chunks_whose_text_adds_up_with_the_role_in_each():
    text = "Line one,\nline two.  End"
    with FakeOllama([text]) as server, client_of(server) as client:
        chunks = list(client.chat(server.model, ASK, stream=True))
    assert "".join(chunk.message.content for chunk in chunks) == text
    assert len(chunks) == 6
    assert {chunk.message.role for chunk in chunks} == {"assistant"}
    assert [chunk.done for chunk in chunks] == [False] * 5 + [True]


def test_a_thinking_model_thinks_before_it_answers():
    with FakeOllama([Reply("Rain", thinking="What rhymes?")] * 2) as server, client_of(server) as client:
        chunks = list(client.chat(server.model, ASK, stream=True, think=True))
        whole = client.chat(server.model, ASK, think=True)
    assert [chunk.message.thinking for chunk in chunks[:2]] == ["What ", "rhymes?"]
    assert chunks[2].message.content == "Rain"
    assert (whole.message.thinking, whole.message.content) == ("What rhymes?", "Rain")


def test_models_are_listed_described_loaded_and_unloaded():
    models = {"big:70b": FakeModel("70.6B", "Q8_0", "llama", ("completion", "thinking"), 8192)}
    with FakeOllama(["x"], models=models) as server, client_of(server) as client:
        listed = client.list().models[0]
        shown = client.show("big:70b")
        client.chat("big:70b", [])
        loaded = [model.model for model in client.ps().models]
        unload = client.chat("big:70b", [], keep_alive=0)
        left = client.ps().models
    assert (listed.model, listed.details.parameter_size, listed.details.quantization_level) == (
        "big:70b",
        "70.6B",
        "Q8_0",
    )
    assert len(listed.digest) == 64
    assert shown.capabilities == ["completion", "thinking"]
    assert shown.modelinfo["llama.context_length"] == 8192
    assert loaded == ["big:70b"]
    assert unload.done_reason == "unload"
    assert not left
    assert not server.chats


def test_a_missing_model_is_not_found_until_it_is_pulled():
    with FakeOllama(["there"], pullable={"small:1b": FakeModel()}) as server, client_of(server) as client:
        with pytest.raises(ollama.ResponseError, match="not found") as caught:
            client.chat("small:1b", ASK)
        assert caught.value.status_code == 404
        progress = list(client.pull("small:1b", stream=True))
        assert client.chat("small:1b", ASK).message.content == "there"
    assert [line.completed for line in progress if line.total] == [0, 500, 1000]
    assert progress[-1].status == "success"


def test_a_pull_fails_for_an_unknown_model():
    with (
        FakeOllama() as server,
        client_of(server) as client,
        pytest.raises(ollama.ResponseError, match="does not exist"),
    ):
        list(client.pull("nowhere", stream=True))


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("reset", httpx.ReadError),
        ("cut", httpx.RemoteProtocolError),
        ("stall", httpx.ReadTimeout),
        ("error", ollama.ResponseError),
        ("junk", json.JSONDecodeError),
    ],
)
def test_half_an_answer_comes_before_it_goes_wrong(fault, error):
    received = []
    with (
        FakeOllama([Reply("one two three four", fault=fault)]) as server,
        client_of(server, timeout=3 if fault == "stall" else 60) as client,
        pytest.raises(error),
    ):
        received.extend(chunk.message.content for chunk in client.chat(server.model, ASK, stream=True))
    assert received == ["one ", "two "]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("fault", "error"),
    [("hang", httpx.ReadTimeout), ("html", json.JSONDecodeError), ("html_502", ollama.ResponseError)],
)
def test_nothing_useful_comes_when_it_goes_wrong_at_once(fault, error, stream):
    with (
        FakeOllama([Reply("never said", fault=fault)]) as server,
        client_of(server, timeout=0.3 if fault == "hang" else 60) as client,
        pytest.raises(error),
    ):
        list(client.chat(server.model, ASK, stream=stream))


@pytest.mark.parametrize("fault", ["reset", "cut", "stall", "error", "junk"])
def test_an_answer_in_one_piece_goes_wrong_too(fault):
    with (
        FakeOllama([Reply("one two", fault=fault)]) as server,
        client_of(server, timeout=0.3) as client,
        pytest.raises((httpx.HTTPError, ollama.ResponseError, json.JSONDecodeError)),
    ):
        client.chat(server.model, ASK)


def test_a_slow_load_is_sent_as_load_duration():
    with FakeOllama([Reply("ready", load_s=0.05)]) as server, client_of(server) as client:
        assert client.chat(server.model, ASK).load_duration == 50_000_000


def test_a_server_that_is_down_refuses_and_answers_again_when_it_is_up():
    with FakeOllama(["back"]) as server, client_of(server) as client:
        server.stop()
        with pytest.raises(ConnectionError):
            client.list()
        with pytest.raises(httpx.ConnectError):
            list(client.chat(server.model, ASK, stream=True))
        server.start()
        assert client.chat(server.model, ASK).message.content == "back"


def test_stopping_ends_an_answer_that_hangs():
    with FakeOllama([Reply("x", fault="hang")]) as server, client_of(server) as client:
        stopper = threading.Timer(0.05, server.stop)
        stopper.start()
        with pytest.raises(httpx.HTTPError):
            client.chat(server.model, ASK)
        stopper.join()


def test_an_answer_that_was_not_scripted_is_an_error():
    with (
        FakeOllama() as server,
        client_of(server) as client,
        pytest.raises(ollama.ResponseError, match="no answer left"),
    ):
        client.chat(server.model, ASK)
