"""The translation of Ollama's chat requests to llama.cpp's. No I/O.

Option names and defaults: https://github.com/ollama/ollama/blob/main/docs/modelfile.md and `DefaultOptions` in Ollama's
`api/types.go`; llama.cpp's names: `tools/server/README.md` of https://github.com/ggml-org/llama.cpp.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["ApiError", "logprob_entry", "to_llama"]

_DEFAULTS: dict[str, Any] = {
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.0,
    "repeat_penalty": 1.1,
    "repeat_last_n": 64,
}
"""Ollama's defaults, which differ from llama.cpp's."""


class ApiError(Exception):
    """A request that the server can't answer. status: HTTP status of its error answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def to_llama(body: dict[str, Any]) -> dict[str, Any]:
    """Return the chat request for llama.cpp, which answers with a chunk per token and prefill step.

    llama.cpp checks the values; like Ollama, it ignores unknown options. Options that Ollama lacks: `n`, the number of
    answers (`logit_bias` is llama.cpp's own, too), and `static`, the number of characters of the last message with
    which every song's prompt begins; they become the messages `static` for `LanguageModel.chat`.
    """
    chat = _DEFAULTS | (body.get("options") or {})
    static = chat.pop("static", 0)
    if static:
        *before, last = body["messages"]
        chat["static"] = [*before, last | {"content": last["content"][:static]}]
    chat |= {
        "messages": body["messages"],
        "max_tokens": chat.pop("num_predict", -1),
        "cache_prompt": True,
        "id_slot": 0,
        "stream": True,
        "timings_per_token": True,
        "return_progress": True,  # a chunk per step, so that a prefill can be stopped
    }
    if "seed" in chat:
        chat["seed"] %= 2**32 - 1  # to llama.cpp, 2**32 - 1 means any seed
    if body.get("top_logprobs"):
        chat |= {"logprobs": True, "top_logprobs": body["top_logprobs"]}
    if body.get("format"):
        chat["grammar"] = _grammar(body["format"])
    return chat


def logprob_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a token of an answer, with its alternatives, in Ollama's form, from llama.cpp's."""
    value = {"token": entry["token"], "logprob": entry["logprob"]}
    others = [logprob_entry(other) for other in entry.get("top_logprobs", ())]
    return value | {"top_logprobs": others} if others else value


def _grammar(schema: dict[str, Any]) -> str:
    """Return a grammar for llguidance: llama.cpp's own compiler allows Markdown fences and endless white space."""
    return "%llguidance {}\nstart: %json " + json.dumps(schema | {"x-guidance": {"whitespace_flexible": False}})
