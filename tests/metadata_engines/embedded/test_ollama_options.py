import json

import pytest

from harmonia_lab.metadata_engines.embedded.ollama_options import (
    ApiError,
    keep_alive_seconds,
    known_options,
    logprob_entry,
    parse_body,
    to_llama,
)

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def translate(options=None, **more):
    return to_llama(BODY | more, known_options(options))


def test_what_is_not_said_has_ollamas_defaults():
    chat = translate()
    assert (chat["temperature"], chat["top_k"], chat["top_p"], chat["min_p"]) == (0.8, 40, 0.9, 0.0)
    assert (chat["repeat_penalty"], chat["repeat_last_n"]) == (1.1, 64)
    assert (chat["max_tokens"], chat["seed"]) == (-1, -1)


def test_options_keep_their_meaning_and_unknown_ones_are_ignored():
    chat = translate({"num_predict": 9, "seed": 5, "temperature": 0, "stop": "\n", "mirostat": 2, "num_ctx": 64})
    assert (chat["max_tokens"], chat["seed"], chat["temperature"], chat["stop"]) == (9, 5, 0, ["\n"])
    assert not {"mirostat", "num_ctx", "num_predict"} & chat.keys()


@pytest.mark.parametrize("endless", [0, -1, -2])
def test_a_limit_that_is_not_positive_is_none(endless):
    assert translate({"num_predict": endless})["max_tokens"] == -1


def test_numbers_stay_within_what_llama_reads():
    chat = translate({"num_predict": 10**12, "top_k": -(10**12), "seed": 2**32 - 1})
    assert (chat["max_tokens"], chat["top_k"]) == (2**31 - 1, -1)
    assert chat["seed"] == 0  # 2**32 - 1 itself means "any seed" to llama.cpp


def test_a_format_becomes_a_grammar_without_white_space():
    grammar = translate(format={"enum": ["a"]})["grammar"]
    assert json.loads(grammar.split("%json ", 1)[1]) == {"enum": ["a"], "x-guidance": {"whitespace_flexible": False}}
    assert '"type": "object"' in translate(format="json")["grammar"]
    assert "grammar" not in translate()


def test_log_probabilities_are_asked_for_in_llamas_way():
    assert translate(logprobs=True)["top_logprobs"] == 1
    assert translate(logprobs=True, top_logprobs=3000)["top_logprobs"] == 3000
    assert "logprobs" not in translate(top_logprobs=5)
    entry = {"token": "a", "id": 1, "bytes": [97], "logprob": -1.0}
    plain = {"token": "a", "logprob": -1.0}
    assert logprob_entry(entry | {"top_logprobs": [entry]}, 1) == plain | {"top_logprobs": [plain]}
    assert logprob_entry(entry | {"top_logprobs": [entry]}, 0) == plain


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, 300), (0, 0), (2.5, 2.5), (-1, -1), ("0", 0), ("90", 90), ("1h30m", 5400), ("250ms", 0.25), ("-1s", -1)],
)
def test_keep_alive_is_read_as_ollama_reads_it(value, seconds):
    assert keep_alive_seconds(value) == seconds


def test_keep_alive_has_an_end():
    assert keep_alive_seconds(10**30) == keep_alive_seconds("9" * 30 + "h") == 1e8


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "wizard", "content": "hi"}]}, "role"),
        ({"messages": [{"role": "user", "content": ["hi"]}]}, "content"),
        ({"format": "xml"}, "format"),
        ({"format": 3}, "format"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": "many"}, "top_logprobs"),
        ({"think": True}, "does not support thinking"),
        ({"tools": [{}]}, "does not support tools"),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused(change, complaint):
    with pytest.raises(ApiError, match=complaint) as caught:
        translate(**change)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "options", [["seed"], {"temperature": "hot"}, {"seed": 1.5}, {"num_predict": True}, {"stop": 3}]
)
def test_options_of_the_wrong_kind_are_refused(options):
    with pytest.raises(ApiError, match="option"):
        known_options(options)


@pytest.mark.parametrize("value", ["soon", "5 minutes", "1x", ""])
def test_a_duration_that_is_none_is_refused(value):
    with pytest.raises(ApiError, match="duration"):
        keep_alive_seconds(value)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'{"a": NaN}', b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused(data):
    with pytest.raises(ApiError, match="JSON object"):
        parse_body(data)
