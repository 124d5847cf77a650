"""The engine against a server that works, and against servers that fail in every way."""

import asyncio
import contextlib
import itertools
import json
import socket
import threading

import pytest

from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import Cancelled, ErrorCode, MetadataError
from harmonia_lab.metadata_engines.ollama.engine import OllamaEngine, Timeouts, installed_models
from harmonia_lab.metadata_engines.ollama.models import billions
from harmonia_lab.metadata_engines.ollama.names import match_name
from harmonia_lab.protocol.models import parse_request
from harmonia_lab.testing import FakeModel, FakeOllama, Reply
from tests.metadata_engines.prompting.test_structured import SONG

REQUEST = parse_request(narrative="An old keeper watches the storm from her lighthouse.", seconds=20)
ANSWER = json.dumps(SONG)
QUICK = Timeouts(connect=60.0, load=0.3, first=0.3, between=0.3)
"""For a server that hangs."""

PATIENT = Timeouts(connect=60.0, load=60.0, first=60.0, between=60.0)
"""For a server that answers."""


class Run:
    """One call of the engine, and what it reported."""

    def __init__(self, server, *, request=REQUEST, seed=7, cancel=None, **options):
        self.reports = []
        self.cancel = cancel or CancelToken()
        self.engine = OllamaEngine(host=server if isinstance(server, str) else server.url, **options)
        self.result = self.engine.write(request, seed, self.reports.append, self.cancel)


def failure(server, **options):
    with pytest.raises(MetadataError) as caught:
        Run(server, **options)
    return caught.value


def free_address():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


# --- songs


def test_a_large_model_writes_a_song_in_one_reply():
    with FakeOllama([ANSWER]) as server:
        run = Run(server)
    assert run.result.metadata.title == SONG["title"]
    (chat,) = server.chats
    assert chat["format"]["properties"].keys() >= {"title", "lyrics", "bpm"}
    assert chat["options"]["num_ctx"] == 4096
    assert "think" not in chat
    assert run.result.tokens == run.result.transcript[0]["tokens"] > 0
    assert run.result.time_to_first_token_s > 0
    assert run.result.tokens_per_second > 0


def test_the_reports_tell_of_loading_and_of_every_step_and_never_go_back():
    with FakeOllama([Reply(ANSWER, load_s=0.01)]) as server:
        run = Run(server)
    assert run.reports[0].status == "Loading fake:3b…"
    assert list(dict.fromkeys(r.step for r in run.reports)) == ["analysis", "title", "lyrics", "genre", "mood"]
    assert {"Analyzing narrative...", "Generating title...", "Creating lyrics..."} <= {r.status for r in run.reports}
    fractions = [r.fraction for r in run.reports]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    tokens = [r.tokens for r in run.reports]
    assert tokens == sorted(tokens)
    assert any(r.partial.get("title") == SONG["title"] and r.fraction < 0.9 for r in run.reports)
    assert run.result.model_load_s == pytest.approx(0.01, abs=0.005)


def test_the_transcript_has_every_request_and_answer():
    with FakeOllama(["nonsense", ANSWER]) as server:
        run = Run(server)
    first, note, second = run.result.transcript
    assert (first["purpose"], second["purpose"]) == ("song", "song-repair-1")
    assert first["messages"] == server.chats[0]["messages"]
    assert first["options"] == server.chats[0]["options"]
    assert (first["answer"], first["doneReason"]) == ("nonsense", "stop")
    assert note["repair"] == 1
    assert first["options"]["seed"] != second["options"]["seed"]
    json.dumps(run.result.transcript)


def test_the_record_has_the_facts_for_reproducing():
    with FakeOllama([ANSWER]) as server:
        record = Run(server, options={"temperature": 0.1}).result.record
    assert record["host"] == server.url
    assert (record["model"], record["quantization"], record["parameterSize"]) == ("fake:3b", "Q4_K_M", "3.2B")
    assert len(record["digest"]) == 64
    assert (record["serverVersion"], record["strategy"]) == ("0.12.11", "structured")
    assert record["templateVersion"].startswith("structured-")
    assert record["options"]["temperature"] == 0.1


def test_the_same_seed_sends_the_same_seed_and_another_sends_another():
    with FakeOllama([ANSWER] * 3) as server:
        for seed in (7, 7, 8):
            Run(server, seed=seed)
    one, same, other = (chat["options"]["seed"] for chat in server.chats)
    assert one == same != other


def small_model():
    """A server with a small model that writes about a lighthouse."""
    lyric = "The lighthouse keeper walks along the stairs, the storm is rising from the sea. "
    words = itertools.cycle(["The lamp is burning through the night, ", "A lonely ship is sailing home, "])

    def answer(body):
        song = f"The Keeper's Storm\n\n{next(words)}{lyric}"
        return " calm" if body["options"]["num_predict"] == 1 else song

    return FakeOllama(answer, models={"tiny:135m": FakeModel("135M")})


def test_a_small_model_is_asked_step_by_step():
    with small_model() as server:
        run = Run(server)
    assert run.result.record["strategy"] == "stepwise"
    assert "keeper" in run.result.metadata.title.lower()
    assert {r.step for r in run.reports} == {"analysis", "title", "lyrics", "genre", "mood"}
    assert len(server.chats) > 10
    assert all(chat.get("top_logprobs", 0) <= 20 for chat in server.chats)
    assert len({chat["options"]["seed"] for chat in server.chats}) == len(server.chats)


def test_what_the_request_gives_wins_over_a_small_model():
    given = REQUEST.model_validate(
        {"narrative": REQUEST.narrative, "bpm": 77, "key": "C minor", "genre": "metal", "instruments": ["flute"]}
    )
    with small_model() as server:
        song = Run(server, request=given).result.metadata
    assert (song.bpm, song.key, song.genre, [i.name for i in song.instruments]) == (77, "C minor", "metal", ["flute"])


def test_a_small_model_is_shown_the_beginning_and_the_end_of_a_long_story():
    long = " ".join(f"On day {n} the keeper climbs stair {n} and looks at the sea." for n in range(300))
    with small_model() as server:
        Run(server, request=parse_request(narrative=long, seconds=20))
    prompts = [message["content"] for chat in server.chats for message in chat["messages"]]
    assert max(map(len, prompts)) < 2500
    assert any("On day 0 " in text and "stair 299" in text for text in prompts)


def test_a_small_model_that_writes_nothing_that_can_be_sung_is_invalid_metadata():
    with FakeOllama(lambda _: "lorem ipsum dolor sit amet", models={"tiny:135m": FakeModel("135M")}) as server:
        error = failure(server)
    assert error.code == ErrorCode.METADATA_INVALID
    assert "not in the dictionary" in error.message


@pytest.mark.parametrize(("strategy", "chats"), [("structured", 1), ("auto", 1)])
def test_the_strategy_can_be_given(strategy, chats):
    model = "0.5B" if strategy == "structured" else "7B"
    with FakeOllama([ANSWER], models={"some:model": FakeModel(model)}) as server:
        Run(server, strategy=strategy)
    assert len(server.chats) == chats


@pytest.mark.parametrize(
    ("size", "number"), [("135M", 0.135), ("3.2B", 3.2), ("8x7B", 56.0), ("", None), (None, None), ("big", None)]
)
def test_sizes_are_read_as_servers_print_them(size, number):
    assert billions(size) == (None if number is None else pytest.approx(number))


# --- which model


def test_without_a_name_the_first_large_model_that_writes_is_taken():
    models = {
        "embed:latest": FakeModel("0.3B", capabilities=("embedding",)),
        "small:1b": FakeModel("1B"),
        "large:8b": FakeModel("8B"),
    }
    with FakeOllama([ANSWER], models=models) as server:
        run = Run(server)
    assert run.engine.model == run.result.record["model"] == "large:8b"


def test_the_requests_model_wins_over_the_engines():
    request = REQUEST.model_copy(update={"model": "other:7b"})
    with FakeOllama([ANSWER], models={"one:7b": FakeModel("7B"), "other:7b": FakeModel("7B")}) as server:
        assert Run(server, request=request, model="one:7b").result.record["model"] == "other:7b"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("ministral-3:8b", "ministral-3:8b"),
        ("minstral3", "ministral-3:8b"),
        ("minstral3:8b", "ministral-3:8b"),
        ("ministral-3", "ministral-3:8b"),
        ("llama", "llama:latest"),
        ("llama:7b", None),
        ("gemma", None),
    ],
)
def test_names_are_matched_as_ollama_does(wanted, found):
    assert match_name(wanted, ["llama:latest", "llama-guard:8b", "ministral-3:8b"]) == found


def test_a_missing_model_is_an_error_that_names_the_installed_ones_and_the_command():
    with FakeOllama(models={"one:7b": FakeModel("7B")}) as server:
        error = failure(server, model="minstral3")
    assert error.code == ErrorCode.OLLAMA_MODEL_MISSING
    assert "one:7b" in error.message
    assert error.hint == "run: ollama pull ministral-3"
    assert error.details["installed"] == ["one:7b"]
    assert not [path for path, _ in server.requests if path == "/api/pull"]


def test_a_server_without_models_is_an_error_with_a_hint():
    with FakeOllama(models={}) as server:
        error = failure(server)
    assert error.code == ErrorCode.OLLAMA_MODEL_MISSING
    assert "ollama pull" in error.hint


def test_a_missing_model_is_downloaded_where_that_is_allowed():
    with FakeOllama([ANSWER], models={}, pullable={"new:8b": FakeModel("8B")}) as server:
        run = Run(server, model="new:8b", pull=True)
    assert any("Downloading new:8b" in r.status and "50 %" in r.status for r in run.reports)
    assert run.result.record["model"] == "new:8b"


def test_a_download_that_fails_says_why():
    with FakeOllama(models={}) as server:
        error = failure(server, model="new:8b", pull=True)
    assert "does not exist" in error.message


# --- thinking, format, truncation


def test_thinking_is_switched_off_and_thoughts_are_not_in_the_answer():
    model = {"thinker:8b": FakeModel("8B", capabilities=("completion", "thinking"))}
    thoughts = Reply(f"<think>Well… {{}} </think>\n{ANSWER}", thinking="Let me see.")
    with FakeOllama([thoughts], models=model) as server:
        run = Run(server)
    assert server.chats[0]["think"] is False
    assert run.result.metadata.title == SONG["title"]
    assert run.result.transcript[0]["thinking"] == "Let me see."
    assert not any("Well" in str(r.partial) for r in run.reports)


def test_thinking_is_allowed_after_a_server_ignored_the_format_without_it():
    model = {"thinker:8b": FakeModel("8B", capabilities=("completion", "thinking"))}
    with FakeOllama(["Here is a song about a lamp.", ANSWER], models=model) as server:
        Run(server)
    assert server.chats[0]["think"] is False
    assert "think" not in server.chats[1]


def test_prose_and_fences_around_the_answer_are_no_harm():
    with FakeOllama([f"Sure, here you are:\n```json\n{ANSWER}\n```\nEnjoy!"]) as server:
        assert Run(server).result.metadata.title == SONG["title"]
    assert len(server.chats) == 1


def test_a_truncated_answer_is_asked_for_again_with_more_room():
    with FakeOllama([Reply(ANSWER[:150], done_reason="length"), ANSWER]) as server:
        Run(server)
    one, two = (chat["options"]["num_predict"] for chat in server.chats)
    assert two == 2 * one


def test_junk_for_an_answer_three_times_is_invalid_metadata():
    with FakeOllama(["%!PS", "<html>", "lorem ipsum"]) as server:
        error = failure(server)
    assert error.code == ErrorCode.METADATA_INVALID
    assert "no JSON object" in error.message


# --- servers that fail


def test_a_server_that_is_down_is_named():
    address = free_address()
    error = failure(address)
    assert error.code == ErrorCode.OLLAMA_UNAVAILABLE
    assert address in error.message
    assert "ollama serve" in error.hint


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        ("reset", ErrorCode.OLLAMA_UNAVAILABLE, "closed the connection"),
        ("cut", ErrorCode.OLLAMA_UNAVAILABLE, "in the middle"),
        ("error", ErrorCode.OLLAMA_UNAVAILABLE, "runner has stopped"),
        ("junk", ErrorCode.OLLAMA_UNAVAILABLE, "not Ollama"),
        ("html", ErrorCode.OLLAMA_UNAVAILABLE, "not Ollama"),
        ("html_502", ErrorCode.OLLAMA_UNAVAILABLE, "not Ollama"),
        ("hang", ErrorCode.OLLAMA_SLOW, "not begun its answer"),
        ("stall", ErrorCode.OLLAMA_TIMEOUT, "stopped answering"),
    ],
)
def test_every_way_to_fail_has_a_code_and_names_the_server(fault, code, message):
    with FakeOllama([Reply(ANSWER, fault=fault)]) as server:
        error = failure(server, timeouts=QUICK if fault in {"hang", "stall"} else PATIENT)
    assert error.code == code
    assert message in error.message
    assert server.url in error.message


def test_a_server_that_is_killed_in_the_middle_of_an_answer_is_unavailable():
    started = threading.Event()
    with FakeOllama([Reply(ANSWER, fault="stall")]) as server:

        def kill():
            started.wait()
            server.stop()

        killer = threading.Thread(target=kill)
        killer.start()
        engine = OllamaEngine(host=server.url)
        with pytest.raises(MetadataError) as caught:
            engine.write(REQUEST, 7, lambda p: started.set() if p.tokens else None, CancelToken())
        killer.join()
    assert caught.value.code == ErrorCode.OLLAMA_UNAVAILABLE
    assert caught.value.recoverable


class RawServer:
    """A TCP server that sends `reply`, or nothing, on each connection."""

    def __init__(self, reply=b""):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._reply = reply
        self._open = []
        self.reached = threading.Event()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            with contextlib.suppress(OSError):  # the client has closed the connection already
                connection.recv(1 << 16)
                connection.sendall(self._reply)
            self.reached.set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for connection in self._open:
            connection.close()


def http(body, kind="application/json", status="200 OK"):
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    "reply",
    [
        http(b"<!DOCTYPE html><h1>Please sign in</h1>", "text/html"),
        http(b"<html>Bad gateway</html>", "text/html", "502 Bad Gateway"),
        http(b"[1, 2, 3]"),
        http(b'"text"'),
        http(b"\xff\xfe\x00"),
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ],
    ids=["page", "bad-gateway", "list", "string", "bytes", "ssh"],
)
def test_a_server_that_is_not_ollama_is_named_as_such(reply):
    with RawServer(reply) as server:
        error = failure(server, timeouts=PATIENT)
    assert error.code == ErrorCode.OLLAMA_UNAVAILABLE
    assert server.url in error.message


def test_a_server_that_never_answers_is_a_timeout():
    with RawServer() as server:
        error = failure(server, timeouts=QUICK)
    assert error.code == ErrorCode.OLLAMA_TIMEOUT


def test_a_server_that_wants_a_key_says_so():
    with RawServer(http(b'{"error": "unauthorized"}', status="401 Unauthorized")) as server:
        error = failure(server, timeouts=PATIENT)
    assert error.code == ErrorCode.OLLAMA_UNAUTHORIZED
    assert "unauthorized" in error.message
    assert "OLLAMA_API_KEY" in error.hint


# --- stopping


def test_a_cancel_before_the_start_sends_no_request():
    cancel = CancelToken()
    cancel.cancel()
    with FakeOllama([ANSWER]) as server:
        with pytest.raises(Cancelled):
            Run(server, cancel=cancel)
        assert server.requests == []


def test_a_cancel_ends_the_wait_for_a_server_that_never_answers():
    cancel = CancelToken()
    with RawServer() as server:
        stopper = threading.Thread(target=lambda: (server.reached.wait(), cancel.cancel("timeout")))
        stopper.start()
        with pytest.raises(Cancelled) as caught:
            Run(server, cancel=cancel)
        stopper.join()
    assert caught.value.reason == "timeout"


def test_a_cancel_in_the_middle_of_an_answer_closes_the_connection():
    cancel = CancelToken()
    engine_reports = []

    def report(progress):
        engine_reports.append(progress)
        if progress.tokens:
            cancel.cancel()

    with FakeOllama([Reply(ANSWER, fault="stall"), ANSWER]) as server:
        engine = OllamaEngine(host=server.url)
        with pytest.raises(Cancelled):
            engine.write(REQUEST, 7, report, cancel)
        again = engine.write(REQUEST, 7, lambda _: None, CancelToken())
    assert again.metadata.title == SONG["title"]


# --- afterwards


def test_a_release_frees_the_models_memory():
    with FakeOllama([ANSWER]) as server:
        run = Run(server)
        assert server.loaded == {"fake:3b"}
        run.engine.release()
        assert server.loaded == set()


def test_a_release_never_fails_and_sends_no_request_for_an_unused_model():
    with FakeOllama([ANSWER]) as server:
        OllamaEngine(host=server.url).release()
        assert server.requests == []
        run = Run(server)
        server.stop()
        run.engine.release()
        run.engine.close()


def test_installed_models_are_listed_or_the_error_says_that_no_server_answers():
    with FakeOllama(models={"a:1b": FakeModel(), "b:2b": FakeModel()}) as server:
        assert installed_models({"host": server.url}) == ["a:1b", "b:2b"]
    with pytest.raises(MetadataError):
        installed_models({"host": free_address()}, 0.5)


def test_a_notebooks_cell_may_ask_for_models_while_its_loop_runs():
    async def cell():
        return installed_models({"host": server.url})

    with FakeOllama() as server:
        assert asyncio.run(cell()) == ["fake:3b"]


def test_a_server_that_does_not_list_its_models_in_time_is_a_timeout():
    with RawServer() as server, pytest.raises(MetadataError) as caught:
        installed_models({"host": server.url}, 0.2)
    assert caught.value.code == ErrorCode.OLLAMA_TIMEOUT


# --- languages


STORIES = {
    "Japanese": "昔、山のふもとにおじいさんとおばあさんが住んでいた。ある朝、川上から大きな桃が流れてきた。",
    "Arabic": "سافر الكلب والقطة معًا إلى الغابة. رأيا بيتًا مضيئًا، وفي داخله لصوص يقتسمون ذهبًا.",
    "Thai": "กาลครั้งหนึ่ง มีเด็กหญิงคนหนึ่งอาศัยอยู่ในป่า",
    "Hindi": "एक समय की बात है, एक राजा था।",
}


def test_stories_that_a_small_model_can_not_read_differ_in_prompts_and_seeds_and_it_says_so_at_once():
    asked, seeds = [], []
    for language, narrative in STORIES.items():
        with small_model() as server:
            run = Run(server, request=parse_request(narrative=narrative, seconds=20))
        (warning,) = run.result.metadata.warnings
        assert language in warning
        assert "English only" in warning
        assert run.result.metadata.language == "en"
        assert next(report.status for report in run.reports if warning in report.status)
        asked.append(next(chat["messages"][-1]["content"] for chat in server.chats if "poet" in str(chat["messages"])))
        seeds.append(tuple(chat["options"]["seed"] for chat in server.chats)[:8])
    assert len(set(asked)) == len(set(seeds)) == len(STORIES)


def test_a_small_model_says_that_it_does_not_write_the_language_that_was_asked_for():
    with small_model() as server:
        run = Run(server, request=parse_request(narrative=REQUEST.narrative, seconds=20, language="fr"))
    assert run.result.metadata.warnings == [
        "Lyrics in French were asked for, and this small model writes English only: use a larger one."
    ]
    assert run.result.metadata.language == "en"
