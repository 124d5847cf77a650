"""Servers as they are out there, over real HTTP: busy, slow, refusing, and with models that think."""

import itertools
import threading
import time
from email.utils import format_datetime
from http import HTTPStatus

import pytest

from harmonia_lab.engines.base import CancelToken
from harmonia_lab.errors import CODES, Cancelled, ErrorCode
from harmonia_lab.generation.recovery_plans import PLANS
from harmonia_lab.metadata_engines.ollama import dialogue
from harmonia_lab.metadata_engines.ollama.busy import retry_delay
from harmonia_lab.metadata_engines.ollama.context import THINKING, context_size
from harmonia_lab.metadata_engines.ollama.models import ModelFacts
from harmonia_lab.protocol.models import MAX_NARRATIVE, parse_request, utc_now
from harmonia_lab.testing import FakeModel, FakeOllama, Refusal, Reply
from tests.metadata_engines.prompting.test_structured import SONG
from tests.metadata_engines.test_ollama import ANSWER, Run, failure

NOW = {"Retry-After": "0"}
BUSY = Refusal(503, {"error": "server busy, please try again.  maximum pending requests exceeded"}, NOW)
THINKER = FakeModel("8B", capabilities=("completion", "thinking"), context_length=131072)
GPT_OSS = FakeModel("20.9B", "MXFP4", "gptoss", ("completion", "thinking"), 131072, "", ("low", "medium", "high"))
THOUGHTS = "hm " * 900


def chats(server):
    return [body for path, body in server.requests if path == "/api/chat" and body.get("messages")]


# --- busy


@pytest.mark.parametrize("path", ["/api/version", "/api/tags", "/api/show", "/api/chat"])
@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_waited_for_wherever_it_says_so(path, status):
    with FakeOllama([ANSWER], refusals={path: [Refusal(status, BUSY.body, NOW)] * 2}) as server:
        run = Run(server)
    assert run.result.metadata.title == SONG["title"]
    assert sum(report.status.startswith("The language model's server is busy") for report in run.reports) == 2


def test_a_busy_server_is_waited_for_before_an_answer_too():
    refusals = {"/api/chat": [Refusal(), BUSY, Refusal(503, "<html>Service Unavailable</html>", NOW)]}
    with FakeOllama([ANSWER], refusals=refusals) as server:
        assert Run(server).result.metadata.title == SONG["title"]


def test_a_server_that_asks_for_more_patience_than_there_is_is_not_asked_again():
    with FakeOllama(refusals={"/api/tags": [Refusal(429, {"error": "slow down"}, {"Retry-After": "3600"})]}) as server:
        error = failure(server)
    assert error.code == ErrorCode.OLLAMA_BUSY
    assert error.recoverable
    assert "slow down" in error.message
    assert [path for path, _ in server.requests].count("/api/tags") == 1


def test_a_server_that_stays_busy_is_an_error_within_the_limit():
    with FakeOllama(refusals={"/api/tags": itertools.repeat(Refusal(503, "later", {"Retry-After": "1"}))}) as server:
        error = failure(server, timeouts={"busy": 0.5})
    assert error.code == ErrorCode.OLLAMA_BUSY
    assert "--ollama-timeout busy" in error.hint


def test_a_cancel_ends_the_wait_for_a_busy_server():
    cancel = CancelToken()
    refusal = Refusal(503, "later", {"Retry-After": "100"})
    with FakeOllama(refusals={"/api/tags": itertools.repeat(refusal)}) as server:
        stopper = threading.Thread(target=lambda: (_until(lambda: len(server.requests) > 1), cancel.cancel()))
        stopper.start()
        with pytest.raises(Cancelled):
            Run(server, cancel=cancel)
        stopper.join()


def _until(done):
    while not done():
        time.sleep(0.005)


def test_the_delay_is_what_the_server_says_or_doubles():
    later = utc_now().replace(microsecond=0)
    assert retry_delay("7", 0) == 7.0
    assert 0 <= retry_delay(format_datetime(later, usegmt=True), 3) <= 1
    assert [retry_delay(None, tries) for tries in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert retry_delay("soon", 1) == 2.0
    # A server that says "now" for good isn't asked without a pause for good.
    assert [retry_delay("0", tries) for tries in range(9)] == [0, 0, 0, 0, 0, 1, 2, 4, 8]


# --- refusals


@pytest.mark.parametrize(
    ("refusal", "code", "said", "remedy"),
    [
        (Refusal(401, {"error": "unauthorized", "signin_url": "https://ollama.com/connect"}), "OLLAMA_UNAUTHORIZED",
         "(HTTP 401): unauthorized", "ollama signin"),
        (Refusal(401, {"error": "invalid API key"}), "OLLAMA_UNAUTHORIZED", "invalid API key", "OLLAMA_API_KEY"),
        (Refusal(401, "<html>Sign in</html>"), "OLLAMA_UNAUTHORIZED", "HTTP 401", "--ollama-header"),
        (Refusal(403, {"error": "this model requires a subscription, upgrade for access"}), "OLLAMA_UNAUTHORIZED",
         "requires a subscription", "another model"),
        (Refusal(403, ""), "OLLAMA_UNAUTHORIZED", "HTTP 403", "OLLAMA_ORIGINS"),
        (Refusal(403, {"error": {"message": "key revoked"}}), "OLLAMA_UNAUTHORIZED", "key revoked", "OLLAMA_API_KEY"),
        (Refusal(404, "404 page not found"), "OLLAMA_UNAVAILABLE", "not Ollama", "OLLAMA_HOST"),
        (Refusal(404, {"error": "model 'x' not found"}), "OLLAMA_MODEL_MISSING", "model 'x' not found", ""),
        (Refusal(502, "<html>Bad gateway</html>"), "OLLAMA_UNAVAILABLE", "a web page (HTTP 502)", "proxy"),
        (Refusal(500, {"error": "llama runner has terminated"}), "OLLAMA_UNAVAILABLE", "llama runner", "log"),
        (Refusal(400, {"error": "invalid options"}), "METADATA_INVALID", "invalid options", ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/api/tags", "/api/chat"])
def test_a_refusal_says_what_the_server_said_and_the_remedy(path, refusal, code, said, remedy):
    with FakeOllama([ANSWER], refusals={path: itertools.repeat(refusal)}) as server:
        error = failure(server)
    assert error.code == code
    assert said in error.message
    assert server.url in error.message
    assert remedy in error.hint


def test_what_would_fail_again_is_not_tried_again_by_itself():
    again = {code for code in ErrorCode if code.startswith("OLLAMA") and code in PLANS}
    assert again == {ErrorCode.OLLAMA_UNAVAILABLE, ErrorCode.OLLAMA_TIMEOUT, ErrorCode.OLLAMA_SLOW}
    assert not CODES[ErrorCode.OLLAMA_UNAUTHORIZED].recoverable


# --- slow


def test_a_slow_first_token_within_its_limit_is_waited_for_whatever_the_limit_between_tokens():
    with FakeOllama([Reply(ANSWER, first_token_s=0.5)]) as server:
        run = Run(server, timeouts={"first": 60, "between": 0.3})
    assert run.result.metadata.title == SONG["title"]


def test_a_first_token_that_is_too_slow_is_an_error_of_its_own_while_the_server_works():
    with FakeOllama([Reply(ANSWER, first_token_s=60)]) as server:
        error = failure(server, timeouts={"first": 0.2})
    assert (error.code, len(chats(server))) == (ErrorCode.OLLAMA_SLOW, 1)
    assert "within 0.2 s, though it works" in error.message
    assert "first=" in error.hint


def test_a_model_that_loads_too_slowly_is_not_loaded_again_while_the_server_works():
    with FakeOllama(refusals={"/api/chat": [Refusal(delay_s=60)]}) as server:
        error = failure(server, timeouts={"load": 0.2})
    assert error.code == ErrorCode.OLLAMA_SLOW
    assert "not loaded fake:3b" in error.message


def test_a_server_that_answers_nothing_any_more_is_a_timeout_which_is_tried_again(monkeypatch):
    monkeypatch.setattr(dialogue, "ALIVE_S", 0.2)
    stuck = {"/api/version": [Refusal(), Refusal(delay_s=60)]}
    with FakeOllama([Reply(ANSWER, fault="hang")], refusals=stuck) as server:
        error = failure(server, timeouts={"first": 0.2})
    assert error.code == ErrorCode.OLLAMA_TIMEOUT
    assert error.code in PLANS


# --- thinking


def test_a_model_that_always_thinks_gets_a_level_and_room_for_its_thoughts():
    with FakeOllama([Reply(ANSWER, thinking=THOUGHTS)], models={"gpt-oss:20b": GPT_OSS}) as server:
        run = Run(server)
    (chat,) = server.chats
    assert chat["think"] == "low"
    assert run.result.metadata.title == SONG["title"]
    assert run.result.transcript[0]["doneReason"] == "stop"


def test_a_template_with_levels_is_one_of_a_model_that_has_them():
    model = FakeModel("8B", template="{{ if .ThinkLevel }}Reasoning: {{ .ThinkLevel }}{{ end }}")
    with FakeOllama(["no song", ANSWER], models={"other:8b": model}) as server:
        Run(server)
    assert [chat["think"] for chat in server.chats] == ["low", "medium"]


@pytest.mark.parametrize(
    ("model", "think", "sent"), [(GPT_OSS, "high", "high"), (THINKER, True, True), (THINKER, "low", True)]
)
def test_the_level_can_be_chosen(model, think, sent):
    with FakeOllama([Reply(ANSWER, thinking=THOUGHTS)], models={"m:8b": model}) as server:
        run = Run(server, think=think)
    assert server.chats[0]["think"] == sent
    assert run.result.record["settings"] == {"think": think}


def test_a_model_that_thinks_though_it_was_told_not_to_has_room_for_it():
    with FakeOllama([Reply(ANSWER, thinking=THOUGHTS)], models={"thinker:8b": THINKER}) as server:
        Run(server)
    (chat,) = server.chats
    assert chat["think"] is False
    assert chat["options"]["num_predict"] > THINKING


def test_more_thoughts_than_there_is_room_for_get_more_room():
    replies = [Reply(ANSWER, thinking="hm " * 4800)] * 2
    with FakeOllama(replies, models={"gpt-oss:20b": GPT_OSS}) as server:
        run = Run(server)
    assert [entry["doneReason"] for entry in run.result.transcript if "doneReason" in entry] == ["length", "stop"]


def test_thoughts_of_a_model_that_the_server_does_not_know_to_think_get_room_from_then_on():
    cut = Reply("<think>" + THOUGHTS, done_reason="length")
    with FakeOllama([cut, f"<think>{THOUGHTS}</think>{ANSWER}"]) as server:
        Run(server)
    one, two = (chat["options"]["num_predict"] for chat in server.chats)
    assert two >= one + THINKING


def test_a_refused_think_is_left_out_and_not_sent_again():
    model = FakeModel("8B", capabilities=("completion", "thinking"), think_values=())
    with FakeOllama(["no song", ANSWER], models={"thinker:8b": model}) as server:
        run = Run(server)
    assert [chat.get("think") for chat in server.chats] == [False, None, None]
    assert any("without it" in entry.get("note", "") for entry in run.result.transcript)


def test_another_fault_of_a_request_is_not_taken_for_a_refused_think():
    refusals = {"/api/chat": [Refusal(), Refusal(HTTPStatus.BAD_REQUEST, {"error": "invalid format"})]}
    with FakeOllama([ANSWER], models={"thinker:8b": THINKER}, refusals=refusals) as server:
        error = failure(server)
    assert "invalid format" in error.message
    assert len([path for path, _ in server.requests if path == "/api/chat"]) == 2


# --- context

LONG = "The tide is high. " * (MAX_NARRATIVE // 18 - 2) + "The last word is lantern."


def song_of(narrative, model):
    with FakeOllama([ANSWER], models={"m:8b": model}) as server:
        run = Run(server, request=parse_request(narrative=narrative, seconds=20))
    return run.result, server.chats[0]


def test_a_model_with_a_large_context_reads_the_whole_of_the_longest_story():
    result, chat = song_of(LONG, FakeModel("8B", context_length=131072))
    assert LONG in chat["messages"][-1]["content"]
    assert chat["options"]["num_ctx"] == 16384
    assert result.metadata.warnings == []


def test_the_longest_story_in_another_script_is_read_too():
    story = "潮が満ちる。" * (MAX_NARRATIVE // 6)
    result, chat = song_of(story, FakeModel("8B", context_length=131072))
    assert story in chat["messages"][-1]["content"]
    assert chat["options"]["num_ctx"] == 32768
    assert result.metadata.warnings == []


def test_a_model_with_a_small_context_reads_a_part_and_the_song_says_so():
    result, chat = song_of(LONG, FakeModel("8B", context_length=4096))
    assert chat["options"]["num_ctx"] == 4096
    assert "lantern" in chat["messages"][-1]["content"]
    assert "characters" in result.metadata.warnings[0]


def test_a_context_that_a_person_chose_stays():
    with FakeOllama([ANSWER], models={"m:8b": FakeModel("8B", context_length=131072)}) as server:
        Run(server, options={"num_ctx": 2048})
    assert server.chats[0]["options"]["num_ctx"] == 2048


@pytest.mark.parametrize("context", [None, 2048, 8192, 131072])
def test_a_context_never_exceeds_the_models_own(context):
    facts = ModelFacts("m", None, None, "8B", 8.0, context, thinks=True)
    size = context_size(facts, "x" * 60_000, 4000)
    assert size.num_ctx <= (context or 8192)
    assert 0 < size.story_bytes <= 3 * size.num_ctx
