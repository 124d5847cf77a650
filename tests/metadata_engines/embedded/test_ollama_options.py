import json

from harmonia_lab.metadata_engines.embedded.ollama_options import logprob_entry, to_llama

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def translate(**more):
    return to_llama(BODY | more)


def test_options_that_a_request_lacks_have_ollamas_defaults():
    chat = translate()
    assert (chat["temperature"], chat["top_k"], chat["top_p"], chat["min_p"]) == (0.8, 40, 0.9, 0.0)
    assert (chat["repeat_penalty"], chat["repeat_last_n"]) == (1.1, 64)
    assert chat["max_tokens"] == -1


def test_options_keep_their_meaning():
    chat = translate(options={"num_predict": 9, "seed": 5, "temperature": 0, "stop": ["\n"]})
    assert (chat["max_tokens"], chat["seed"], chat["temperature"], chat["stop"]) == (9, 5, 0, ["\n"])
    assert "num_predict" not in chat


def test_the_largest_seed_does_not_mean_any_seed():
    assert translate(options={"seed": 2**32 - 1})["seed"] == 0


def test_a_schema_becomes_a_grammar_without_white_space():
    grammar = translate(format={"enum": ["a"]})["grammar"]
    assert json.loads(grammar.split("%json ", 1)[1]) == {"enum": ["a"], "x-guidance": {"whitespace_flexible": False}}
    assert "grammar" not in translate()


def test_log_probabilities_have_ollamas_form():
    assert translate(logprobs=True, top_logprobs=3000)["top_logprobs"] == 3000
    assert "logprobs" not in translate()
    entry = {"token": "a", "id": 1, "bytes": [97], "logprob": -1.0}
    plain = {"token": "a", "logprob": -1.0}
    assert logprob_entry(entry | {"top_logprobs": [entry]}) == plain | {"top_logprobs": [plain]}


def test_several_answers_and_a_static_beginning_are_options_of_our_own():
    messages = [{"role": "user", "content": "Tell."}, {"role": "assistant", "content": "Story: A dog."}]
    chat = to_llama(BODY | {"messages": messages, "options": {"n": 3, "static": len("Story:")}})
    assert chat["n"] == 3
    assert chat["messages"] == messages
    assert chat["static"] == [messages[0], {"role": "assistant", "content": "Story:"}]
    assert "static" not in translate()
